"""Render OpenClaw's configuration, and have the node put it in place, prove it, or take it back.

Keeps: what the inventory says is rendered here, in memory; secrets are taken from what the preflight worked out, go to the
node by standard input, and are in no result. Leaves to others: the text (plugin_utils/openclaw_render.py), looking at it and
putting it in place (outlast.openclaw.applying), what follows from it (the role).
"""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.plugin_utils import glance, openclaw_render, table

VARIABLES = ("port", "agents", "agent", "model", "providers", "channels", "bindings", "config")


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.openclaw_config` with `home`, and `order`: `apply` (with `secrets`, the name of the
    variable that openclaw_secrets filled), `prove` or `back` (with `within`, in seconds)."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the node's answer; of `prove` it is a failure where the gateway is not healthy."""
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        task_vars, order = task_vars or {}, self._task.args["order"]
        if order != "apply" and self._task.check_mode:
            return {**result, "ok": True, "stopped": False, "why": ""}
        told: dict[str, Any] = {"within": self._task.args.get("within", 180)}
        if order == "apply":
            node = task_vars["inventory_hostname"]
            worked = task_vars.get(self._task.args["secrets"], {}).get("hosts", {})
            if node not in worked:
                wrong = "openclaw_secrets: nobody has worked them out; mend: run site.yml as a whole"
                return {**result, "failed": True, "msg": wrong}
            values = {
                f"openclaw_{name}": self._templar.template(task_vars.get(f"openclaw_{name}")) for name in VARIABLES
            }
            config = openclaw_render.render(values, node, self._task.args["home"])
            told = {"config": config, "secrets": worked[node]["secrets"]}
            told["dry_run"] = bool(self._task.check_mode)
        answer = ask(self, "applying", [order], told)
        if "error" in answer:
            return {**result, "failed": True, "msg": table.plain(str(answer["error"]))}
        if not answer.get("ok", True):
            return {**result, **answer, "failed": True, "msg": table.plain(str(answer["why"]))}
        return {**result, **answer, "changed": bool(answer.get("changed"))}


def ask(action: Any, program: str, words: list[str], told: dict[str, Any]) -> dict[str, Any]:
    """Have one of the node's programs for OpenClaw read what it is told; return its answer, or one with `error`."""
    home = action._task.args["home"]
    argv = [f"{home}/current/bin/python", "-m", f"outlast.openclaw.{program}", "--home", home, *words]
    answer, why = glance.ask(action, argv, json.dumps(told) + "\n")
    if not answer and action._task.check_mode:
        # There is no runtime yet that could look.
        return {"changed": True, "trial": True}
    last = [line for line in why.splitlines() if line.strip()]
    return answer or {"error": f"{home}: {last[-1] if last else 'says nothing'}; mend: ansible-playbook site.yml"}
