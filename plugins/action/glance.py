"""See what lies in a node's home, for roles that decide by it. Changes nothing and shows no content."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.plugin_utils import glance


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.glance` with `home` and `paths` (patterns, relative to it)."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `seen`: path to kind, mode, and sha256 or target; empty where there is no release yet."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        seen = glance.glance(self, self._task.args["home"], self._task.args["paths"])
        return {**result, "changed": False, "seen": seen}
