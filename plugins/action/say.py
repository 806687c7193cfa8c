"""Print lines for a person, once, without the noise of a result."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.say` with `lines`."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print the lines."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        Display().display("\n".join(["", *self._task.args["lines"], ""]))
        return {**result, "changed": False}
