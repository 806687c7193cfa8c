"""Have a node's own `outlast` carry out an order, and take its JSON answer: one plain command, as the node's user.

Keeps: works with the runtime dead, because the command does; what it refuses is one line that ends with the mend; a node
that cannot be asked is no failure here. Leaves to others: what is asked and what the answer means (the roles), leaving out
who is away (leave).
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.plugin_utils import node_orders, table


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.ask` with `home`, `words` (what follows `outlast`), and `counts`: whether what the
    answer says was changed is a change of this task. It is carried out in check mode as well: ask for dry runs there."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `answer`, and `away`: why its machine cannot be asked, empty when it can."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        result.update(changed=False, answer={}, away={})
        home, words = self._task.args["home"], self._task.args["words"]
        try:
            answer = node_orders.tell(self, home, words)
        except node_orders.Away as away:
            return {**result, "away": {name: away.finding[name] for name in ("field", "wrong", "mend")}}
        if "error" in answer:
            return {**result, "failed": True, "msg": table.plain(str(answer["error"]))}
        changed = bool(self._task.args.get("counts")) and bool(answer.get("changed"))
        return {**result, "changed": changed, "answer": answer}
