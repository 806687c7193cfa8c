"""Change files on trial, and let them stay only once a fresh login has proved that nobody is locked out.

Keeps: the login is a new TCP connection with a new authentication, and sudo must work in it; without one, this waits until
what was before is back, and says so. Leaves to others: making and taking back the changes (module_utils/rollback.py).
"""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.module_utils import rollback
from ansible_collections.outlast.agents.plugins.plugin_utils import fresh, quantity

# What a node may take beyond the limit: to notice, to put back, and a connection to come through again.
GRACE_S = 60.0
PAUSE_S = 3.0


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.trial`; its arguments are the module's."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Begin, log in anew, and tell whether it stays; fails only where it could not begin."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        values = dict(self._task.args)
        limit_s = quantity.seconds(values.get("limit", "60s"))
        began = self._execute_module("outlast.agents.trial", {**values, "limit_seconds": limit_s}, task_vars=task_vars)
        result.update(began, kept=bool(self._task.check_mode), over=True, why="")
        token = result.pop("token", "")
        if result.get("failed") or result.get("unreachable") or not token:
            return result
        end = [values["python"], "-I", "-S", f"{rollback.BASE}/rollback.py", "keep", token]
        result.update(self._end(end, limit_s, bool(values.get("key_only"))))
        return {**result, "changed": result["kept"]}

    def _end(self, end: list[str], limit_s: float, key_only: bool) -> dict[str, Any]:
        """Try until somebody gets in: before the deadline that ends the trial well, after it that shows that it is over."""
        first = ""
        deadline = time.monotonic() + limit_s + GRACE_S
        while time.monotonic() < deadline:
            answer, why = fresh.login(self, end, key_only=key_only)
            if answer:
                return {"kept": bool(answer["kept"]), "over": not answer["pending"], "why": first}
            if not first and fresh.is_remote(self):
                # What still goes through the shared connection may hang until the old state is back.
                self._connection.reset()
            first = first or why
            time.sleep(PAUSE_S)
        return {"kept": False, "over": False, "why": first}
