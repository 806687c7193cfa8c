"""OpenClaw's configuration out of the inventory's words: a pure function.

Keeps: no secret is in it (a placeholder becomes a reference into a file of the node's); what Outlast answers for cannot be
said otherwise: where the gateway listens, who may speak to it, and that it neither updates, nor announces, nor rewrites
itself. Leaves to others: whether the values fit (openclaw_values), whether OpenClaw takes it (plugins/modules/openclaw_config).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["AGENTS_OWN", "PLACEHOLDER", "RESERVED", "fed", "placeholders", "render", "workspaces"]

PLACEHOLDER = re.compile(r"secret:(.*)", re.DOTALL)
_INSIDE = re.compile(r"(?<![\w-])secret:[A-Za-z]")
# What openclaw_config may not say, and what says it instead.
RESERVED = {
    "gateway.mode": "leave it out",
    "gateway.bind": "leave it out: the gateway listens on loopback only",
    "gateway.port": "set openclaw_port",
    "gateway.tls": "leave it out: nothing but loopback reaches it",
    "gateway.tailscale": "leave it out: the gateway listens on loopback only",
    "gateway.auth": "leave it out: the node makes its token",
    "gateway.reload": "leave it out: what is applied is proven by a start",
    "hooks.enabled": "leave it out",
    "hooks.path": "leave it out",
    "hooks.token": "leave it out: the node makes its token",
    "hooks.allowedAgentIds": "leave it out: openclaw_agents are allowed",
    "hooks.mappings": "leave it out: the node's own are there, and a sender can be a node (docs/security.md)",
    "hooks.allowRequestSessionKey": "leave it out",
    "hooks.allowedSessionKeyPrefixes": "leave it out",
    "hooks.defaultSessionKey": "leave it out",
    "hooks.$include": "leave it out",
    "secrets.providers.outlast": "give the provider another name",
    "secrets.providers.outlast-tokens": "give the provider another name",
    "agents.entries": "set openclaw_agents",
    "agents.ownership": "leave it out: it follows from openclaw_agents",
    "agents.list": "set openclaw_agents",
    "channels": "set openclaw_channels",
    "bindings": "set openclaw_bindings",
    "models.providers": "set openclaw_providers",
    "logging.file": "leave it out: its place is var/outputs/openclaw.log",
    "update": "leave it out: openclaw_version and playbooks/upgrade.yml",
    "discovery.mdns": "leave it out: the gateway announces itself to nobody",
    "$include": "leave it out: what is included is not looked at before it is applied",
}
# What is said of an agent elsewhere than in its config.
AGENTS_OWN = {
    "name": "say it beside config",
    "model": "say it beside config",
    "workspace": "say it beside config",
    "agentDir": "leave it out: its place is var/home/.openclaw/agents",
    "default": "set openclaw_agent",
}
# OpenClaw keeps five files of this size beside the one it writes.
LOG_BYTES = 8 << 20


def fed(values: Mapping[str, Any], node: str) -> str:
    """The agent that gets the node's messages: openclaw_agent, or the one called like the node, or the first."""
    agents = values.get("openclaw_agents") or {node: {}}
    return str(values.get("openclaw_agent") or (node if node in agents else next(iter(agents))))


def workspaces(values: Mapping[str, Any], node: str, home: str) -> dict[str, str]:
    """Where each agent works: the node's own agent in the node's workspace."""
    main, found = fed(values, node), {}
    for name, agent in (values.get("openclaw_agents") or {node: {}}).items():
        usual = f"{home}/workspace" if name == main else f"{home}/var/home/.openclaw/workspace-{name}"
        found[str(name)] = str((agent or {}).get("workspace") or usual)
    return found


def render(values: Mapping[str, Any], node: str, home: str) -> str:
    """The text of openclaw.json. values: the variables openclaw_*, as templated; what is missing is as by default."""
    main, agents = fed(values, node), values.get("openclaw_agents") or {node: {}}
    entries = {}
    for name, place in workspaces(values, node, home).items():
        agent = agents.get(name) or {}
        entry: dict[str, Any] = {"name": agent.get("name") or name, "workspace": place}
        entry |= {"model": _model(agent["model"])} if agent.get("model") else {}
        entries[name] = _merged(entry, _referring(agent.get("config") or {}))
    defaults: dict[str, Any] = {}
    if values.get("openclaw_model"):
        defaults["model"] = _model(values["openclaw_model"])
    if any((agent or {}).get("files") for agent in agents.values()):
        # Who brings an agent's files does not want the first-run questions written beside them.
        defaults["skipBootstrap"] = True
    if len(entries) > 1:
        defaults |= {"heartbeat": {"agentId": main}, "systemAgent": {"agentId": main}}
    own = f"{home}/etc/openclaw"
    token = {"source": "file", "provider": "outlast-tokens", "id": "/gateway/token"}
    config: dict[str, Any] = {
        "gateway": {
            "mode": "local",
            "port": int(values.get("openclaw_port") or 18789),
            "bind": "loopback",
            "auth": {"mode": "token", "token": token},
        },
        "hooks": {"$include": "./hooks.json"},
        "update": {"checkOnStart": False},
        "discovery": {"mdns": {"mode": "off"}},
        "logging": {"file": f"{home}/var/outputs/openclaw.log", "maxFileBytes": LOG_BYTES},
        "secrets": {
            "providers": {
                "outlast": {"source": "file", "path": f"{own}/secrets.json", "mode": "json"},
                "outlast-tokens": {"source": "file", "path": f"{own}/tokens.json", "mode": "json"},
            }
        },
        "agents": {
            **({"ownership": "explicit"} if len(entries) > 1 else {}),
            **({"defaults": defaults} if defaults else {}),
            "entries": entries,
        },
    }
    if values.get("openclaw_providers"):
        config["models"] = {"providers": _referring(values["openclaw_providers"])}
    if values.get("openclaw_channels"):
        config["channels"] = _referring(values["openclaw_channels"])
    if values.get("openclaw_bindings"):
        config["bindings"] = list(values["openclaw_bindings"])
    return json.dumps(_merged(config, _referring(values.get("openclaw_config") or {})), indent=2) + "\n"


def placeholders(value: Any, path: str) -> Iterator[tuple[str | None, str]]:
    """Every placeholder in a value, and where it stands; None where it is only a part of a text."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from placeholders(inner, f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for at, inner in enumerate(value):
            yield from placeholders(inner, f"{path}[{at}]")
    elif isinstance(value, str) and (match := PLACEHOLDER.fullmatch(value)):
        yield match[1], path
    elif isinstance(value, str) and _INSIDE.search(value):
        yield None, path


def _model(model: Mapping[str, Any]) -> dict[str, Any]:
    return {"primary": str(model["primary"]), "fallbacks": [str(name) for name in model.get("fallbacks") or []]}


def _referring(value: Any) -> Any:
    """The same value with a reference in the place of each placeholder."""
    if isinstance(value, Mapping):
        return {str(name): _referring(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_referring(inner) for inner in value]
    if isinstance(value, str) and (match := PLACEHOLDER.fullmatch(value)):
        return {"source": "file", "provider": "outlast", "id": f"/{match[1]}"}
    return value


def _merged(below: Any, above: Any) -> Any:
    """The upper value over the lower one; mappings are joined, all else is replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    joined = {name: _merged(value, above[name]) if name in above else value for name, value in below.items()}
    return {**joined, **{name: value for name, value in above.items() if name not in below}}
