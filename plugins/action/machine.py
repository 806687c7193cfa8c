"""See what of a machine is not as the role host is to make it: one plain command, whether or not a node lives there yet.

Keeps: changes nothing; what a person has to mend fails here, in one line, before anything is changed. Leaves to others:
looking (plugin_utils/look_host.py), putting right (the role's tasks).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.plugin_utils import glance

_LOOK = Path(glance.__file__).with_name("look_host.py")


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.machine`; its arguments are what look_host.py is asked."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `lacks`, a list of the role's parts, and what these parts need to know."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        result["changed"] = False
        want, python = json.dumps(self._task.args), self._python(task_vars or {})
        seen, why = glance.look(self, self._task.args["home"], _LOOK, [want], otherwise=python)
        if not seen:
            wrong = f"the machine could not be looked at ({' '.join(why.split())})"
            return {**result, "failed": True, "msg": f"python: {wrong}; mend: set ansible_python_interpreter to one"}
        if seen["trouble"]:
            return {**result, "failed": True, "msg": " | ".join(seen["trouble"])}
        return {**result, **seen}

    def _python(self, task_vars: dict[str, Any]) -> str:
        named = str(self._templar.template(task_vars.get("ansible_python_interpreter", "")))
        found = task_vars.get("ansible_facts", {}).get("discovered_interpreter_python", "")
        return next((path for path in (named, found) if path.startswith("/")), "python3")
