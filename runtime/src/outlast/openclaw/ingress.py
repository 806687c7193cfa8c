"""What the gateway's hooks are told to take: the content of hooks.json.

Messages go through a mapping of ours, one for each agent, and not through ``/hooks/agent``: that one tells the model not to do
what it is asked, as is right for strangers. What comes through here was verified by the node's own ingress, and is framed by
openclaw.turn (docs/agents.md says why). The mapping takes a name for the session, so that a turn is found again.

Left to others: the file and its token (openclaw.tokens), calling (openclaw.hooks).
"""

from __future__ import annotations

import json
from typing import Any

from outlast.openclaw.place import Place
from outlast.store import regular

__all__ = ["PATH", "SESSIONS", "held"]

PATH, SESSIONS = "/hooks", "hook:outlast:"


def held(place: Place, token: str) -> dict[str, Any]:
    """What hooks.json holds: every agent of the configuration takes messages, in sessions that bear their names."""
    agents = sorted({place.settings.agent, *_configured(place)})
    return {
        "enabled": True,
        "path": PATH,
        "token": token,
        "allowedAgentIds": agents,
        "allowRequestSessionKey": True,
        "allowedSessionKeyPrefixes": [SESSIONS],
        "defaultSessionKey": f"{SESSIONS}other",
        "mappings": [_mapping(agent) for agent in agents],
    }


def _mapping(agent: str) -> dict[str, Any]:
    return {
        "id": f"outlast-{agent}",
        "match": {"path": f"outlast/{agent}"},
        "action": "agent",
        "agentId": agent,
        "name": "outlast",
        "sessionKey": f"{SESSIONS}{{{{session}}}}",
        "sessionMode": "persistent",
        "messageTemplate": "{{message}}",
        "deliver": False,
        "allowUnsafeExternalContent": True,
    }


def _configured(place: Place) -> list[str]:
    try:
        return [str(name) for name in json.loads(regular.read(place.config))["agents"]["entries"]]
    except (OSError, ValueError, KeyError, TypeError):
        # It is not there yet, or not to be read: the agent that is fed is known in any case.
        return []
