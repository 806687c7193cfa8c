"""What the configuration of an adopted OpenClaw is about and the inventory's is not: a pure function over names.

Keeps: names only, never a value; what Outlast answers for by itself is not missed. Leaves to others: reading the old one
(module_utils/openclaw_old.py), rendering the new one (openclaw_render).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.outlast.agents.plugins.plugin_utils import openclaw_render

__all__ = ["unsaid"]

# Which variable says what; the first that fits.
VARIABLES = (
    ("channels", "openclaw_channels"),
    ("models.providers", "openclaw_providers"),
    ("agents.defaults.model", "openclaw_model"),
    ("agents.entries", "openclaw_agents"),
    ("agents.list", "openclaw_agents"),
    ("bindings", "openclaw_bindings"),
    ("", "openclaw_config"),
)
# What no inventory is to say: Outlast does, or it tells of the running of the old one.
PASSED = frozenset(
    {
        "$schema",
        "agents.defaults.workspace",
        "agents.ownership",
        "discovery.mdns",
        "gateway.remote",
        "logging.file",
        "meta",
        "update",
        "wizard",
        *(path for path in openclaw_render.RESERVED if path.startswith(("gateway.", "hooks.", "secrets."))),
    }
)
# Of an agent the inventory says these in its own words, or the node does.
OWN = frozenset({"agentDir", "id", "name", "workspace", "default"})
# What is looked into where the inventory has nothing of it, so that what is missed has a name that helps.
DEEPER = frozenset(
    {"agents", "agents.defaults", "agents.entries", "channels", "env", "gateway", "hooks", "models", "models.providers"}
)


def unsaid(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[str]]:
    """By the variable that would say it, what only the old one has. old: its names, None where something is said."""
    found: dict[str, list[str]] = {}
    for path in _missing(old, new, ""):
        found.setdefault(_variable(path), []).append(path)
    return found


def _missing(old: Mapping[str, Any], new: Mapping[str, Any], above: str) -> Iterator[str]:
    for name, inner in old.items():
        path = f"{above}.{name}" if above else name
        if path in PASSED or (above.count(".") == 2 and above.startswith("agents.entries.") and name in OWN):
            continue
        there = new.get(name)
        if isinstance(inner, Mapping) and (path in DEEPER or isinstance(there, Mapping)) and inner:
            yield from _missing(inner, there if isinstance(there, Mapping) else {}, path)
        elif name not in new:
            yield path


def _variable(path: str) -> str:
    return next(name for part, name in VARIABLES if not part or path == part or path.startswith(f"{part}."))
