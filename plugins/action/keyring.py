"""Run the module of this name as the node's user, and believe it no more than is safe. Leaves to others: all else."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.plugin_utils import hearsay


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.keyring`; its arguments are the module's."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `own`, the text of the node's own key, where it was asked for."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        answer = self._execute_module("outlast.agents.keyring", self._task.args, task_vars=task_vars)
        return {**result, **hearsay.believed(answer, "own")}
