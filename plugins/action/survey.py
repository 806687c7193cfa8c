"""Look at a node from outside, and let it look at itself: one trip, and nothing fails here.

Keeps: what is asked over the network is asked from the controller, as a peer would. Leaves to others: showing it
(report).
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.module_utils import local_http
from ansible_collections.outlast.agents.plugins.plugin_utils import glance


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.survey` with `home` and `url` (where the node listens)."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `health` (ok, or why not) and `node`: what `outlast verify` says there, or findings."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        result.update(changed=False, health=self._health(self._task.args["url"]), node={})
        if self._task.check_mode:
            result["health"] = "not asked (check mode)"
            return result
        home = self._task.args["home"]
        node, why = glance.ask(self, [f"{home}/current/bin/outlast", "--home", home, "verify", "--json"])
        result["node"] = node or {"error": why}
        return result

    def _health(self, url: str) -> str:
        try:
            status, _ = local_http.get(f"{url}/healthz", 5)
        except OSError as error:
            return f"no answer ({(error.strerror or str(error)).lower()})"
        return "ok" if status == 200 else f"answers {status}"
