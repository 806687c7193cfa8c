"""Take one node through one phase of a rotation of keys: what it is to do follows from what all nodes said last.

Keeps: a node that cannot be asked, or refuses an order, stops nobody: what it said is in the answer; nothing is shown of a
key but its id. Leaves to others: what is to be done (rotation.py), saying what came of it (the action `rotation`).
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.outlast.agents.plugins.plugin_utils import node_orders, rotation, rotation_fleet, table

# What a peer needs a node's own ring for.
SHOWS = ("prepare", "retire")


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.rotate` with `phase` (look, one of rotation.PHASES, or prove), `home`, `seen` (the
    variable in which all nodes' answers are registered), `plan` (that of the action `rotation`), and `command` (what a person
    types to reach this node's `outlast`)."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `keys` (no secrets), `own` (the ring, secret), `away`, `errors`, `audits`, `proof`: what was said so far."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars, args = task_vars or {}, self._task.args
        name, phase, home = task_vars["inventory_hostname"], args["phase"], args["home"]
        said: dict[str, Any] = {"keys": [], "own": "", "away": {}, "errors": [], "audits": [], "proof": {}}
        said |= {"command": args.get("command", "outlast")}
        run = rotation.Run((), {}, {}, ())
        if phase != "look":
            run = rotation_fleet.run(task_vars, args["seen"], args["plan"])
            said = {key: task_vars["hostvars"][name][args["seen"]].get(key, value) for key, value in said.items()}
            if said["away"] or not said["keys"]:
                return {**result, "changed": False, **said}
        try:
            changed = self._phase(phase, name, home, run, said)
        except node_orders.Away as away:
            changed, said["away"] = False, away.finding
        return {**result, **said, "changed": changed}

    def _phase(self, phase: str, name: str, home: str, run: rotation.Run, said: dict[str, Any]) -> bool:
        if phase == "prove":
            said["proof"] = self._proof(home)
            return False
        given = rotation.orders(phase, name, run) if phase != "look" else []
        if phase == "audit":
            told = [(order.words[1], node_orders.tell(self, home, order.words)) for order in given]
            said["audits"] = [{"agent": agent, **answer} for agent, answer in told]
            return False
        changed: bool
        changed, done, errors = node_orders.carry_out(self, home, given)
        for line in done:
            Display().display(table.plain(f"{name}: {line}"))
        if phase in SHOWS:
            shown = node_orders.tell(self, home, ["keys", "show"])
            said["own"] = str(shown.get("ring", said["own"]))
            errors += [table.plain(str(shown["error"]))] if "error" in shown else []
        if given or phase == "look":
            found = node_orders.look(self, home)
            said["keys"] = found.get("keys", said["keys"])
            errors += [table.plain(str(found["error"]))] if "error" in found else []
        said["errors"] = [*said["errors"], *errors]
        return changed

    def _proof(self, home: str) -> dict[str, Any]:
        """What shows that it is done: signed pings, the running keys beside those on the disk, and who else holds old ones."""
        found = node_orders.look(self, home, "processes")
        verified = node_orders.tell(self, home, ["verify"])
        runs = node_orders.tell(self, home, ["keys", "list"])
        status = verified.get("status", {})
        proof: dict[str, Any] = {"held": found.get("held", []), "pings": verified.get("pings", {})}
        if not status:
            return {**proof, "down": table.plain(str(verified.get("error", "it says nothing")))}
        files = {(key["agent"], key["id"], key["state"]) for key in found.get("keys", [])}
        memory = {(key["agent"], key["id"], key["state"]) for key in runs.get("keys", [])}
        unlike = sorted({f"{agent} {key}" for agent, key, _ in files ^ memory})
        return {**proof, "mode": status.get("mode"), "unlike": unlike}
