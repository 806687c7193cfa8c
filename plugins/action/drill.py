"""Have one node do and watch what a step of a drill asks of it; where that is nothing, nothing is asked of it.

Keeps: what did not come true is in the answer and fails nothing here, so that what was caused still ends. Leaves to others:
what is asked (drills), doing it (the module drill), how it ended (drilled).
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.outlast.agents.plugins.plugin_utils import drill_fleet, drills, table


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.drill` with `step`, `scenario`, `seen` (the variable in which all nodes' answers are
    registered), `plan` (that of the action `drilled`) and `home`; with `tidy` what a run left that was cut off is put right."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `said`: all that this node said until now."""
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        task_vars, args = task_vars or {}, self._task.args
        home = {"home": args["home"]}
        if args.get("tidy"):
            return {
                **result,
                **self._execute_module("outlast.agents.drill", {**home, "tidy": True}, task_vars=task_vars),
            }
        run, scenario = drill_fleet.run(task_vars, args["seen"], args["plan"]), str(args["scenario"])
        name = str(task_vars["inventory_hostname"])
        said = list(run.told.get(name, ()))
        acts = drills.acts(run, scenario, str(args["step"]), name)
        if not acts:
            return {**result, "said": said}
        since = next((one["at"] for one in run.of(scenario) if one["node"] == name and one["do"] == "look"), 0.0)
        given = {str(one["do"]): dict(one) for one in run.of(scenario) if one["do"] in {act["needs"] for act in acts}}
        values = {**home, "scenario": scenario, "run": run.began, "since": since, "given": given, "acts": acts}
        done = self._execute_module("outlast.agents.drill", values, task_vars=task_vars)
        answers = done.get("said") or [
            {"do": acts[0]["do"], "at": 0.0, "wrong": str(done.get("msg", "it says nothing"))}
        ]
        for one in answers:
            wrong = f"{name}: {one['wrong']}" if one.get("wrong") else ""
            said.append({**one, "scenario": scenario, "node": name, "wrong": wrong})
            for line in (wrong, *one.get("lost", ()), one.get("found", "")):
                if line:
                    Display().display(table.plain(f"  {name}: {one['do']}: {line}"))
        return {**result, "said": said, "changed": True}
