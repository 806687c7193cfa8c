"""Look at a node from outside, and let it look at itself: one trip, and nothing fails here.

Keeps: what is asked over the network is asked from the controller, as a peer would; a firewall that swallows the question
costs no time of its own. Leaves to others: showing it, and what it means that only others reach the node (report).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.module_utils import local_http
from ansible_collections.outlast.agents.plugins.plugin_utils import glance, reach

PATIENCE_S = 2.0


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.survey` with `home` and `url` (where the node listens)."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `health` (ok, or why not), `open` (whether the port let us in), `node`: what `outlast verify` says there,
        or why it says nothing, `away`: why its machine cannot be asked, empty when it can, and `local`: whether it is this
        machine."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        result.update(changed=False, health="not asked (check mode)", open=False, node={}, away={})
        result["local"] = str(self._connection.transport).endswith("local")
        if self._task.check_mode:
            return result
        with ThreadPoolExecutor(1) as beside:
            outside = beside.submit(_health, self._task.args["url"])
            result.update(self._inside(self._task.args["home"]))
            result["open"], result["health"] = outside.result()
        return result

    def _inside(self, home: str) -> dict[str, Any]:
        try:
            node, why = glance.ask(self, [f"{home}/current/bin/outlast", "--home", home, "verify", "--json"])
        except AnsibleError as error:
            way = reach.Way.of(self._play_context)
            away = reach.away(str(error), way)
            return {"away": away} if away else {"node": reach.unasked(str(error), way)}
        # What ssh says of the terminal that sudo was given tells nobody anything.
        said = [line for line in why.splitlines() if not line.startswith("Shared connection to ")]
        return {"node": node or {"error": said[-1] if said else f"cannot run {home}/current/bin/outlast"}}


def _health(url: str) -> tuple[bool, str]:
    """Whether something answers at the node's address, and `ok` or what is wrong with it."""
    try:
        status, _ = local_http.get(f"{url}/healthz", PATIENCE_S)
    except OSError as error:
        return False, f"no answer ({(error.strerror or str(error)).lower()})"
    return True, "ok" if status == 200 else f"answers {status}"
