"""The run of a rotation as Ansible's variables tell it. Keeps: pure. Leaves to others: what it means (rotation)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.outlast.agents.plugins.plugin_utils import rotation

__all__ = ["gateways", "run"]


def run(task_vars: Mapping[str, Any], seen: str, plan: Mapping[str, Any]) -> rotation.Run:
    """Who is in the inventory, whom each talks to, and what each of this play said last in the variable `seen`."""
    hosts, members = task_vars["hostvars"], tuple(map(str, task_vars["groups"].get("outlast", [])))
    asked = tuple(name for name in map(str, task_vars["ansible_play_hosts_all"]) if name in members)
    talks = {name: tuple(hosts[name].get("outlast_peers", [one for one in members if one != name])) for name in members}
    return rotation.gathered(
        {name: hosts[name][seen] for name in asked if seen in hosts[name]},
        members=members,
        talks=talks,
        asked=asked,
        leaked=tuple(plan.get("leaked", ())),
        since=str(plan.get("since", "")),
        label=str(plan.get("label", "")),
        resumed=bool(plan.get("resumed", False)),
        windows=dict(plan.get("windows", {})),
    )


def gateways(task_vars: Mapping[str, Any]) -> list[str]:
    """The nodes of this play that have an OpenClaw beside them."""
    hosts = task_vars["hostvars"]
    names = [str(name) for name in task_vars["ansible_play_hosts_all"]]
    return [name for name in names if boolean(hosts[name].get("openclaw_enabled", False), strict=False)]
