"""Leave a host out of the rest of the run: Ansible counts it as unreachable, goes on with the others and ends with 4.

Keeps: nothing is asked of the host. Leaves to others: finding out that it is away (preflight), and saying so (findings).
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.leave` with `why`."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Be unreachable, with the reason."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        return {**result, "changed": False, "unreachable": True, "msg": self._task.args["why"]}
