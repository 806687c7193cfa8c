"""Look whether a service is as it should be, by one cheap command, and execute the module only if not.

Keeps: nothing changes here. Leaves to others: making it so (plugins/modules/unit.py), what follows from what is seen
(module_utils/managers.py, for both).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.module_utils import launchd, look_unit, managers, systemd
from ansible_collections.outlast.agents.plugins.plugin_utils import glance

BACKENDS: dict[str, type[managers.Backend]] = {"systemd": systemd.Manager, "launchd": launchd.Manager}


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.unit`; its arguments are the module's."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look, then act if need be."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        values = self._task.args
        # A stop is proved, and all of them are found, by the module alone.
        plain = values.get("state", "started") == "started" and not values.get("also")
        if plain and not values.get("definition_changed") and self._is_so(values):
            return {**result, "changed": False, "did": []}
        return {**result, **self._execute_module("outlast.agents.unit", values, task_vars=task_vars)}

    def _is_so(self, values: dict[str, Any]) -> bool:
        """Whether there is nothing to do, nor to wait for; no, where the node cannot tell."""
        backend = BACKENDS[values["manager"]](values["name"], values.get("schedule") or "")
        question = json.dumps(managers.question(values, backend))
        told, _ = glance.look(self, values["home"], Path(look_unit.__file__), [question])
        return bool(told) and not told["unready"] and not managers.todo(values, backend, told)
