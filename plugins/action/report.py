"""Show all nodes as one table, then what is wrong, then what to try next.

Keeps: runs on the controller only; says nothing in check mode but that there is nothing to see yet. Leaves to others:
asking the nodes (survey), what it means (verdict).
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.outlast.agents.plugins.plugin_utils import table, verdict


class ActionModule(ActionBase):
    """Run once by the task `outlast.agents.report`.

    `seen` and `closer` name the variables with each host's answers to survey and, where it was looked at closer, closer;
    `strict` says whether findings fail, `next` are the last lines.
    """

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print, and fail when a node is not well and that matters; who was left out has failed already."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        result["changed"] = False
        hosts, shown = task_vars["hostvars"], Display()
        if self._task.check_mode:
            shown.display("check mode: nothing was changed, so there is nothing new to see", color="yellow")
            return result
        everyone = task_vars["ansible_play_hosts_all"]
        seen, closer = self._answers("seen", hosts, everyone), self._answers("closer", hosts, everyone)
        missing = {name: verdict.missed(name, hosts[name]) for name in everyone if name not in seen}
        found = [one for name in seen for one in verdict.problems(name, seen)]
        found += [{"host": name, **one} for name in closer for one in closer[name].get("findings", [])]
        rows = [
            verdict.row(name, seen) if name in seen else verdict.blank(name, missing[name]["health"])
            for name in everyone
        ]
        shown.display("\n".join(["", *table.table(verdict.HEAD, rows)]))
        if found or missing:
            shown.display("\n".join(["", "found:", *table.findings([*missing.values(), *found])]), color="red")
        notes = [note for name in seen for note in verdict.remarks(name, seen)]
        notes += [note for name in closer for note in closer[name].get("remarks", [])]
        if notes:
            shown.display("\n".join(["", *notes]), color="yellow")
        well = len(seen) - len({one["host"] for one in found})
        colour = "green" if well == len(everyone) else "red"
        shown.display(f"\n{well} of {len(everyone)} nodes are well", color=colour)
        # Where something is wrong, its mend is what comes next.
        further = (
            ["what next:", *(f"  {line}" for line in self._task.args["next"]), ""] if well == len(everyone) else []
        )
        shown.display("\n".join(["", *further]))
        if found and self._task.args.get("strict", True):
            result.update(failed=True, msg=f"verify: {table.counted(found)}, with what mends it above")
        return result

    def _answers(self, which: str, hosts: Any, names: list[str]) -> dict[str, Any]:
        """What each host that was asked answered, by its name."""
        variable = self._task.args.get(which, "")
        return {name: hosts[name][variable] for name in names if variable in hosts[name]}
