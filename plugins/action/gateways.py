"""Say how the change of the tokens of OpenClaw's gateways ended, once for all nodes that have one.

Keeps: runs on the controller only; what must not wait fails the run, a node that is away does not. Leaves to others: changing
them (the node), the words (rotation_gateways).
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.outlast.agents.plugins.plugin_utils import (
    rotation_fleet,
    rotation_gateways,
    rotation_words,
    table,
)


class ActionModule(ActionBase):
    """Run once by the task `outlast.agents.gateways` with `seen`, the variable with what came of asking each node, and `plan`,
    that of the action `rotation`."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print what was done, and what is left."""
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        task_vars, plan, shown = task_vars or {}, self._task.args.get("plan") or {}, Display()
        hosts, seen = task_vars["hostvars"], self._task.args["seen"]
        told = {name: hosts[name].get(seen) or {} for name in rotation_fleet.gateways(task_vars)}
        again = rotation_words.command(tuple(plan.get("leaked", ())), str(plan.get("since", "")))
        lines, left = rotation_gateways.ended(told, again)
        fails = [one for one in left if one.fails]
        if lines:
            shown.display("\n".join(["", *map(table.plain, lines), ""]), color="green")
        if left:
            lines = [table.plain(line) for one in left for line in one.line().splitlines()]
            shown.display("\n".join(["left to do:", *lines, ""]), color="red" if fails else "yellow")
        if fails:
            wrong = f"rotate-keys: {len(fails)} left of OpenClaw's tokens that must not wait, see above"
            return {**result, "failed": True, "msg": wrong}
        return result
