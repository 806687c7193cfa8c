"""Show what the drills will do, how each ended, and all of them as one table: once for all nodes.

Keeps: runs on the controller only; anything lost, or not noticed, or not recovered from fails the run, at its end. Leaves to
others: the drills (drills.py), what is said (drill_words.py), asking the nodes (drill, outage).
"""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.outlast.agents.plugins.plugin_utils import drill_fleet, drill_words, drills, table


class ActionModule(ActionBase):
    """Run once by the task `outlast.agents.drilled`: before the drills with `scenarios` and `sure`; after each with
    `scenario`, `seen` and `plan`; after all with `seen` and `plan`."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print; before: return `nodes`, `scenarios` and `began`."""
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        task_vars, args = task_vars or {}, self._task.args
        if "plan" not in args:
            return {**result, **self._before(task_vars)}
        run, plan = drill_fleet.run(task_vars, args["seen"], args["plan"]), args["plan"]
        if "scenario" in args:
            self._after_one(run, str(args["scenario"]))
            return result
        return {**result, **self._after(run, [str(name) for name in plan["scenarios"]])}

    def _before(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        hosts, everyone = task_vars["hostvars"], [str(name) for name in task_vars["ansible_play_hosts"]]
        asked = str(self._task.args.get("scenarios") or "").replace(" ", "")
        scenarios = list(dict.fromkeys(name for name in asked.split(",") if name)) or list(drills.SCENARIOS)
        # The first two of the inventory: coz and axiom. A Mac is the one of them that sleeps.
        nodes = sorted(everyone[:2], key=lambda name: hosts[name].get("outlast_service_manager") != "launchd")
        talks = {name: hosts[name].get("outlast_peers") or [one for one in everyone if one != name] for name in nodes}
        real = [name for name in nodes if _is_real(hosts[name])]
        wrong = drill_words.findings(scenarios, nodes, talks, real, sure=bool(self._task.args["sure"]))
        if wrong:
            return {"failed": True, "msg": table.plain("; ".join(wrong))}
        run = drills.Run(dict(zip(drills.ROLES, nodes, strict=True)), time.time(), {})
        lines = [table.plain(line) for line in drill_words.plan(run, scenarios)]
        if self._task.check_mode:
            lines.append("nothing was caused")
        Display().display("\n".join(["", *lines, ""]))
        return {"nodes": dict(run.nodes), "scenarios": scenarios, "began": run.began}

    def _after_one(self, run: drills.Run, name: str) -> None:
        found = drill_words.verdict(run, name)
        cells = drill_words.row(run, name)
        line = f"{name}: noticed after {cells[2]}, recovered after {cells[3]}, lost: {cells[4]}"
        lines = [line, *(f"  {wrong}" for wrong in found.wrong)]
        Display().display("\n".join(map(table.plain, lines)), color="green" if found.passed else "red")

    def _after(self, run: drills.Run, scenarios: list[str]) -> dict[str, Any]:
        rows = [drill_words.row(run, name) for name in scenarios]
        failed = [name for name in scenarios if not drill_words.verdict(run, name).passed]
        took = f"{len(scenarios) - len(failed)} of {len(scenarios)} drills passed, in {time.time() - run.began:.0f} s"
        Display().display("\n".join(["", *table.table(drill_words.HEAD, rows), ""]))
        Display().display(f"{took}\n", color="red" if failed else "green")
        if failed:
            return {"failed": True, "msg": f"drill: {', '.join(failed)} did not pass, see above"}
        return {}


def _is_real(host: Any) -> bool:
    """A machine of the node's own, or one that Ansible logs in to: no embedded node."""
    is_here = host.get("ansible_connection", "ssh") in {"local", "ansible.builtin.local"}
    return bool(host.get("outlast_manage_machine")) or not is_here
