"""Print lines for a person, once, without the noise of a result; with `rows`, the first of which is the heading, a table.

Keeps: what a node said may have been said by its agents, so no terminal takes any of it for an order.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.outlast.agents.plugins.plugin_utils import table


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.say` with `lines`, and `rows` before them."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print the lines."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        rows = self._task.args.get("rows") or []
        lines = [*table.table(rows[0], rows[1:]), ""] if rows else []
        lines += [table.plain(str(line)) for line in self._task.args["lines"]]
        Display().display("\n".join(["", *lines, ""]))
        return {**result, "changed": False}
