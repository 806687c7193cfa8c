"""Tell a node's own public SSH key, its machine's, and those it knows; have a key made where there is none.

Keeps: what a node says becomes part of other machines' files, so only keys pass (ssh_public); no private key leaves its node.
Leaves to others: making the key (plugins/modules/ssh_identity.py), who is let in where (the role `siblings`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.plugin_utils import glance, hearsay, ssh_public

LOOK = Path(glance.__file__).with_name("look_ssh.py")


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.ssh_identity` with `home`, `node` and `host_key`, as the node's user."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `own`, `host`, and by name `let_in` and `known`: keys without their type, empty where there is none."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        home, node, host_key = (self._task.args[name] for name in ("home", "node", "host_key"))
        seen, why = glance.look(self, home, LOOK, [home, host_key])
        told = ssh_public.believed(seen)
        if told["own"]:
            changed = False
        elif self._task.check_mode:
            # On a clean machine there is neither a release to look with nor a user to look as.
            return {**result, **told, "changed": True}
        else:
            answer = self._execute_module(
                "outlast.agents.ssh_identity", {"home": home, "node": node}, task_vars=task_vars
            )
            if answer.get("failed") or answer.get("unreachable"):
                return {**result, **hearsay.believed(answer)}
            told["own"], changed = ssh_public.key(answer["own"]), bool(answer["changed"])
        if not told["host"]:
            wrong = f"no Ed25519 host key there ({why})" if why else "there is no Ed25519 host key there"
            mend = f"sudo ssh-keygen -A on {node} and start sshd there, or set outlast_ssh_host_key"
            return {**result, "failed": True, "msg": f"{host_key}: {wrong}; mend: {mend}"}
        # sshd looks for keys in the home of the account, wherever the node lives.
        if (account_home := str(seen.get("account_home", home))).rstrip("/") != home.rstrip("/"):
            wrong = f"the account's home is {account_home}, so its peers cannot fetch files from {node}"
            result["warnings"] = [
                f"outlast_user: {wrong}; mend: name an account that is not there yet, such as outlast"
            ]
        return {**result, **told, "changed": changed}
