"""Look at a node's keys, make and show its own, or have it take in those of others.

Keeps: what a copy becomes the node's own `outlast` decides, so that nothing here undoes a revocation; a secret is returned
only where it was asked for. Leaves to others: who gets whose key (the role `keys`), changing keys (rotate).
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.plugin_utils import node_orders, rotation


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.keyring` with `home`; with `own: true` the node's own key is made where there is none
    and returned; with `accept` (name to text) those are taken in, and what the node held of them before (`held`, as `rings`
    was) and their owners do not know is refused."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `rings` (agent to accepted key to state) and `alerts` (whether any go anywhere), or `own`, the text of the own
        ring as peers hold it."""
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        home, args = self._task.args["home"], self._task.args
        try:
            if args.get("own"):
                return {**result, **self._own(home)}
            if args.get("accept"):
                return {**result, **self._accept(home, args["accept"], args.get("held") or {})}
            rings: dict[str, dict[str, str]] = {}
            # Where there is no release yet, there is nothing to be seen.
            seen = node_orders.look(self, home)
            for key in seen.get("keys", []):
                if key["state"] in {"active", "accepted"}:
                    rings.setdefault(str(key["agent"]), {})[str(key["id"])] = str(key["state"])
            return {**result, "rings": rings, "alerts": bool(seen.get("alerts"))}
        except node_orders.Away as away:
            why = "{field}: {wrong}; mend: {mend}".format(**away.finding)
            return {**result, "unreachable": True, "msg": why}

    def _own(self, home: str) -> dict[str, Any]:
        if self._task.check_mode:
            shown = node_orders.tell(self, home, ["keys", "show"])
            return {"changed": "error" in shown, "own": str(shown.get("ring", ""))}
        made = node_orders.tell(self, home, ["keys", "init"])
        shown = made if "error" in made else node_orders.tell(self, home, ["keys", "show"])
        if "error" in shown:
            return {"failed": True, "msg": str(shown["error"])}
        return {"changed": made.get("changed") is True, "own": str(shown["ring"])}

    def _accept(self, home: str, rings: dict[str, str], held: dict[str, dict[str, str]]) -> dict[str, Any]:
        if self._task.check_mode:
            return {"changed": True}
        orders = []
        for name, text in rings.items():
            # A ring names a key before anybody else holds it: what was held before this one was read and is not in it is
            # no key of that node's.
            named = {word for line in text.splitlines() for word in line.split()[1:2]}
            if strange := sorted(held.get(name, {}).keys() - named):
                more = [word for key in strange for word in ("--id", key)]
                orders.append(rotation.Order(("keys", "revoke", name, *more)))
            orders.append(rotation.Order(("keys", "accept", name), reads=text))
        changed, _, errors = node_orders.carry_out(self, home, orders)
        return {"changed": changed, **({"failed": True, "msg": "; ".join(errors)} if errors else {})}
