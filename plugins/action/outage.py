"""Have the failures of a drill begin and end on one node, as its step says; where there are none, nothing is asked of it.

Keeps: what went wrong is in the answer and fails nothing here, so that what was caused elsewhere still ends; what holds is
known by all nodes' last answers alone. Leaves to others: which (drills), causing (the module outage), how it ended (drilled).
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.outlast.agents.plugins.plugin_utils import drill_fleet, drills, table


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.outage` with `step`, `scenario`, `seen`, `plan` and what the module takes; with `tidy`
    alone all that is held ends."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `said`: all that this node said until now."""
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        task_vars, args = task_vars or {}, dict(self._task.args)
        step, scenario, seen, plan = (args.pop(name, None) for name in ("step", "scenario", "seen", "plan"))
        name = str(task_vars["inventory_hostname"])
        if args.get("tidy"):
            done = self._execute_module("outlast.agents.outage", args, task_vars=task_vars)
            left = [str(one["wrong"]) for one in done.get("done", ()) if one.get("wrong")]
            if done.get("failed") or left:
                return {**result, "failed": True, "msg": table.plain("; ".join(left) or str(done.get("msg")))}
            return {**result, "changed": bool(done.get("done"))}
        run = drill_fleet.run(task_vars, str(seen), plan)
        said = list(run.told.get(name, ()))
        todo = drills.holds(run, str(scenario), str(step), name)
        if not todo:
            return {**result, "said": said}
        ends = step in drills.ENDS
        args["end" if ends else "begin"] = (
            [hold.kind for hold in reversed(todo)]
            if ends
            else [{"kind": hold.kind, "limit_s": hold.limit_s} for hold in todo]
        )
        done = self._execute_module("outlast.agents.outage", args, task_vars=task_vars)
        # Of what never began nothing ends.
        told = done.get("done", [{"kind": todo[0].kind, "wrong": str(done.get("msg", "it says nothing"))}])
        marks = {hold.kind: hold.ended if ends else hold.began for hold in todo}
        for one in told:
            wrong = f"{name}: {one['wrong']}" if one.get("wrong") else ""
            mark = "" if (one.get("facts") or {}).get("passed") else marks.get(one["kind"], "")
            said.append(
                {"scenario": scenario, "node": name, "do": one["kind"], "mark": mark, "at": 0.0, **one, "wrong": wrong}
            )
            verb = "could not" if wrong else "ends" if ends else "begins"
            Display().display(table.plain(f"  {name}: {one['kind']} {verb}{f': {wrong}' if wrong else ''}"))
        return {**result, "said": said, "changed": True}
