"""The drills as a task sees them: who takes part, and what every node said last. Leaves to others: what it means (drills)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.outlast.agents.plugins.plugin_utils import drills

__all__ = ["run"]


def run(task_vars: Mapping[str, Any], seen: str, plan: Mapping[str, Any]) -> drills.Run:
    """Who plays what by the plan of the action `drilled`, and what each node said last in the variable `seen`."""
    hosts = task_vars["hostvars"]
    told = {name: hosts[name].get(seen, {}).get("said", ()) for name in plan["nodes"].values()}
    return drills.Run(nodes=dict(plan["nodes"]), began=float(plan["began"]), told=told)
