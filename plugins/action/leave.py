"""Leave a host out of the rest of the run: Ansible counts it as unreachable, goes on with the others and ends with 4.

Keeps: changes nothing on the host. Leaves to others: finding out more than that it is away (preflight), and saying so
(findings).
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.plugin_utils import reach


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.leave` with `why`; without it the host is left out where it cannot be asked."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Be unreachable, with the reason, where there is one."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        why = self._task.args.get("why") or self._away()
        return {**result, "changed": False, **({"unreachable": True, "msg": why} if why else {})}

    def _away(self) -> str:
        """Why a command cannot be run there, in one line, or nothing."""
        try:
            self._low_level_execute_command("true")
        except AnsibleError as error:
            way = reach.Way.of(self._play_context)
            away = reach.away(str(error), way) or reach.unasked(str(error), way)
            return f"{away['field']}: {away['wrong']}; mend: {away['mend']}"
        return ""
