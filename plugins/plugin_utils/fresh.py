"""Log in to a node anew: what an operator could still do if the connection that is open now broke.

Keeps: a new TCP connection and a new authentication each time, whatever the inventory says about sharing connections; the
play's own user, port, key, jump host, sudo and host key checking. Leaves to others: what a login is needed for.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.outlast.agents.plugins.plugin_utils import glance

__all__ = ["is_remote", "login"]

# The first value that ssh sees is the one that counts, so these stand in front.
NEW = "-o ControlMaster=no -o ControlPath=none -o ServerAliveInterval=5 -o ServerAliveCountMax=2 -o ConnectTimeout=10"
KEY_ONLY = (
    "-o BatchMode=yes -o PreferredAuthentications=publickey -o PubkeyAuthentication=yes -o PasswordAuthentication=no"
    " -o KbdInteractiveAuthentication=no -o GSSAPIAuthentication=no -o HostbasedAuthentication=no"
)


def is_remote(action: Any) -> bool:
    """Whether an action's node is reached over SSH at all."""
    return str(action._connection.transport).rpartition(".")[2] == "ssh"


def login(action: Any, argv: Sequence[str], *, key_only: bool) -> tuple[dict[str, Any], str]:
    """Run a command over a login of its own, as root where the play is. Return its JSON answer, or why there is none."""
    kept = action._connection
    if is_remote(action):
        action._connection = _another(kept, key_only)
    try:
        answer: tuple[dict[str, Any], str] = glance.ask(action, argv)
    except AnsibleError as error:
        return {}, _why(str(error))
    finally:
        action._connection = kept
    return answer


def _another(connection: Any, key_only: bool) -> Any:
    """The same connection but for its options, which are what a shared one is told apart by."""
    fresh = copy.copy(connection)
    fresh._options = dict(connection._options)
    before = connection.get_option("ssh_args") or ""
    fresh.set_option("ssh_args", " ".join([NEW, KEY_ONLY if key_only else "", before]))
    fresh.set_option("reconnection_retries", 0)
    if key_only:
        fresh.set_option("password", None)
    return fresh


def _why(said: str) -> str:
    """The last line of what ssh said."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1].removeprefix("Failed to connect to the host via ssh: ") if lines else "no answer"
