"""Have a node take over an OpenClaw that somebody installed on its machine, once, and say what came of it.

Keeps: nothing is asked of a node that did it already, but for a glance; of the old configuration only names come here; what
was cut off is carried through, or begun anew. Leaves to others: laying the copy out (plugins/modules/openclaw_adopt.py),
putting it in its place (outlast.openclaw.adopting), what stands in the way (the preflight, with the rest).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.action import openclaw_config
from ansible_collections.outlast.agents.plugins.plugin_utils import glance, openclaw_render, openclaw_unsaid, table

MARK = "var/home/.openclaw/outlast-adopted.json"


def wish(values: Mapping[str, Any], node: str, operator: str | None) -> dict[str, Any]:
    """What a node is asked to adopt, for the modules that look at it and copy it. values: the variables openclaw_*."""
    agents = values.get("openclaw_agents") or {node: {}}
    own = agents if isinstance(agents, Mapping) else {}
    return {
        "from": str(values.get("openclaw_adopt_from") or ""),
        "operator": str(operator or ""),
        "agents": {
            str(name): str((one if isinstance(one, Mapping) else {}).get("workspace") or "")
            for name, one in own.items()
        },
        "version": str(values.get("openclaw_version") or ""),
    }


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.openclaw_adopt` with `home` and `order`: `resume` and `finish` as the node's user,
    `copy` in between as who may read what is copied, with `user`, whose the copy is to be."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `adopted`, whether it is done, and `lines`: what a person is to know of it."""
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False, "adopted": False, "lines": []}
        task_vars = task_vars or {}
        home, order, node = self._task.args["home"], self._task.args["order"], task_vars["inventory_hostname"]
        if order == "resume" and MARK in glance.glance(self, home, [MARK]):
            return {**result, "adopted": True}
        if order != "copy" and self._task.check_mode:
            return result
        values = {
            name: self._templar.template(task_vars[name])
            for name in task_vars
            if name.startswith("openclaw_") and name != "openclaw_secrets"
        }
        if order == "copy":
            return {**result, **self._copy(values, node, home, task_vars)}
        done = openclaw_config.ask(self, "adopting", ["--resume"] if order == "resume" else [], {})
        if "error" in done:
            return {**result, "failed": True, "msg": table.plain(str(done["error"]))}
        if not done["changed"]:
            return result
        config = json.loads(openclaw_render.render(values, node, home))
        told = [f"{node}: {table.plain(line)}" for line in lines(done, config, home)]
        return {**result, "changed": True, "adopted": True, "lines": told}

    def _copy(self, values: dict[str, Any], node: str, home: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        """Lay out a copy beside, which changes nothing yet."""
        arguments = {
            **wish(values, node, self._play_context.remote_user),
            "home": home,
            "user": str(self._task.args.get("user") or ""),
            "agent": openclaw_render.fed(values, node),
        }
        done = dict(self._execute_module("outlast.agents.openclaw_adopt", arguments, task_vars=task_vars))
        done.pop("invocation", None)
        return done if done.get("failed") else {"changed": bool(self._task.check_mode)}


def lines(done: Mapping[str, Any], config: Mapping[str, Any], home: str) -> list[str]:
    """What was adopted, what stayed, and what the inventory does not say. done: what the node answered."""
    folder = done["from"]
    told = [
        f"the OpenClaw at {folder} is adopted, with {', '.join(done['agents'])}; there it is as it was, and openclaw_adopt"
        " may go from the inventory"
    ]
    if done["kept"]:
        told.append(f"what the node had in its place is in {done['kept']}")
    if done["beside"]:
        names = ", ".join(done["beside"])
        told.append(f"workspace/adopted has {names} of the old workspace: Outlast keeps its own under these names")
    if done["left"]:
        told.append(f"{', '.join(done['left'])} of the old workspace stayed there: the node's has its own")
    told += [
        f"the old one's {'.env' if not variable else 'openclaw.json'} says {', '.join(names)}, and the inventory does not"
        f"; mend: {how}"
        for variable, names, how in _unsaid(done, config, home)
    ]
    return told


def _unsaid(done: Mapping[str, Any], config: Mapping[str, Any], home: str) -> list[tuple[str, list[str], str]]:
    found = []
    for variable, names in openclaw_unsaid.unsaid(done["keys"] or {}, config).items():
        found.append((variable, names, f"say it in {variable}, as {home}/etc/openclaw/adopted.json on the node has it"))
    if done["variables"]:
        how = f"say them in openclaw_secrets, as {home}/etc/openclaw/adopted.env on the node has them"
        found.append(("", list(done["variables"]), how))
    return found
