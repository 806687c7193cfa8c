"""What the configuration of an adopted OpenClaw is about and the inventory's is not: named, with what would say it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.action.openclaw_adopt import lines, wish  # noqa: E402
from ansible_collections.outlast.agents.plugins.plugin_utils.openclaw_render import render  # noqa: E402
from ansible_collections.outlast.agents.plugins.plugin_utils.openclaw_unsaid import unsaid  # noqa: E402
from ansible_collections.outlast.agents.plugins.plugin_utils.openclaw_values import check  # noqa: E402

# What OpenClaw's own wizard writes, and some more.
OLD: dict[str, Any] = {
    "meta": {"lastTouchedVersion": None},
    "wizard": {"lastRunAt": None},
    "gateway": {
        "mode": None,
        "auth": {"mode": None, "token": None},
        "port": None,
        "bind": None,
        "tailscale": {"mode": None},
    },
    "agents": {
        "defaults": {"workspace": None, "model": {"primary": None}, "models": {"one/fake-1": {}}},
        "entries": {
            "main": {"name": None, "workspace": None, "agentDir": None, "identity": {"name": None}},
            "scribe": {},
        },
    },
    "models": {"mode": None, "providers": {"one": {"apiKey": None}, "two": {"apiKey": None}}},
    "channels": {"telegram": {"botToken": None, "groups": {}}, "discord": {"token": None}},
    "bindings": None,
    "tools": {"profile": None},
    "hooks": {"enabled": None, "internal": {"entries": {}}},
}


def rendered(**values: Any) -> dict[str, Any]:
    """What the inventory has rendered for the node axiom."""
    told = {f"openclaw_{name}": value for name, value in values.items()}
    found: dict[str, Any] = json.loads(render(told, "axiom", "/h"))
    return found


def test_each_is_named_with_the_variable_that_says_it() -> None:
    """Not what Outlast answers for, nor what only tells of the running of the old one."""
    assert unsaid(
        OLD, rendered(agents={"main": {}}, providers={"one": {"apiKey": "x"}}, channels={"telegram": {"botToken": "x"}})
    ) == {
        "openclaw_model": ["agents.defaults.model"],
        "openclaw_config": ["agents.defaults.models", "models.mode", "tools", "hooks.internal"],
        "openclaw_agents": ["agents.entries.main.identity", "agents.entries.scribe"],
        "openclaw_providers": ["models.providers.two"],
        "openclaw_channels": ["channels.telegram.groups", "channels.discord"],
        "openclaw_bindings": ["bindings"],
    }


def test_what_the_inventory_says_is_not_missed() -> None:
    """Also what it says of an agent in OpenClaw's own words, which is refused where the inventory has words for it."""
    agents = {"main": {"config": {"identity": {"name": "secret:NAME"}}}, "scribe": {}}
    config = rendered(agents=agents, config={"tools": {"profile": "full"}, "hooks": {"internal": {"entries": {}}}})
    assert config["agents"]["entries"]["main"]["identity"]["name"]["id"] == "/NAME"
    left = unsaid(OLD, config)
    assert "openclaw_agents" not in left and not any(
        "tools" in path or "hooks" in path for path in left["openclaw_config"]
    )
    values = {
        "openclaw_version": "2026.9.6",
        "openclaw_agents": {"main": {"config": {"workspace": "/x", "name": "secret:NO"}}},
    }
    told = [f"{one['field']}: {one['wrong']}; mend: {one['mend']}" for one in check(values, "axiom", "/nowhere", {})]
    assert told[:2] == [
        "openclaw_agents.main: config: workspace: is not said here; mend: say it beside config",
        "openclaw_agents.main: config: name: is not said here; mend: say it beside config",
    ]
    assert told[2].startswith("openclaw_agents.main.config.name: secret:NO is not in openclaw_secrets")


def test_a_person_is_told_what_came_of_it() -> None:
    """What was adopted, where what was there is, what stayed aside, and what the inventory lacks."""
    done = {"from": "/home/pat/.openclaw", "agents": ["main"], "kept": "/h/var/trash/x-adopt", "beside": ["logs"],
            "left": [".git"], "keys": {"channels": {"telegram": None}}, "variables": ["ANTHROPIC_API_KEY"]}  # fmt: skip
    assert lines(done, rendered(agents={"main": {}}), "/h") == [
        "the OpenClaw at /home/pat/.openclaw is adopted, with main; there it is as it was, and openclaw_adopt may"
        " go from the inventory",
        "what the node had in its place is in /h/var/trash/x-adopt",
        "workspace/adopted has logs of the old workspace: Outlast keeps its own under these names",
        ".git of the old workspace stayed there: the node's has its own",
        "the old one's openclaw.json says channels.telegram, and the inventory does not; mend: say it in openclaw_channels, as"
        " /h/etc/openclaw/adopted.json on the node has it",
        "the old one's .env says ANTHROPIC_API_KEY, and the inventory does not; mend: say them in openclaw_secrets, as"
        " /h/etc/openclaw/adopted.env on the node has them",
    ]


def test_what_is_wished_for_follows_from_the_inventory() -> None:
    """The agents with the places that it gives them, and nothing where it makes no sense, which is said elsewhere."""
    values = {"openclaw_agents": {"main": None, "scribe": {"workspace": "/srv/s"}}, "openclaw_version": "2026.9.6"}
    assert wish(values, "axiom", "pat") == {
        "from": "", "operator": "pat", "agents": {"main": "", "scribe": "/srv/s"}, "version": "2026.9.6",
    }  # fmt: skip
    assert wish({"openclaw_agents": ["main"]}, "axiom", None)["agents"] == {}
    assert wish({}, "axiom", None)["agents"] == {"axiom": ""}
