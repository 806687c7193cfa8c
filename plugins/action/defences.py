"""See how a machine is defended, and work out from the inventory and from what it says who is to be let in.

Keeps: one cheap question, nothing changes; a mistake in the inventory is one line. Leaves to others: comparing, saying
what will be changed (plan), changing it (roles/hardening).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.plugin_utils import firewall, glance, quantity

LOOK = Path(__file__).resolve().parents[1] / "plugin_utils/look_hardening.py"
SSH_PORT = 22


def answered(action: Any, home: str, question: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Ask a node; before there is a release, the machine's own Python answers."""
    told, why = glance.look(action, home, LOOK, [json.dumps(question)], otherwise="python3")
    return told, why


def unfit(values: dict[str, Any]) -> str:
    """What is wrong with times that the inventory gives, in one line, or an empty string."""
    try:
        quantity.seconds(values.get("limit", "60s"))
    except ValueError as error:
        return f"outlast_trial: {error}; mend: write it like 60s"
    if not re.fullmatch(r"|([01][0-9]|2[0-3]):[0-5][0-9]", restart := str(values.get("restart", ""))):
        return f"outlast_reboot_time: {restart!r} is no time of day; mend: write it like 04:00, in quotes"
    return ""


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.defences`; `look` is what look_hardening.py is asked, the rest is from the inventory."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `seen` (what the machine says), `peers` (name to addresses) and `rules` (what is to be open)."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        values = self._task.args
        if wrong := unfit(values):
            return {**result, "failed": True, "msg": wrong}
        names = {peer: str(name) for peer, name in values["peers"].items() if name}
        seen, why = answered(self, values["home"], {**values["look"], "names": names})
        if not seen:
            wrong = f"hardening: the machine could not be looked at ({why})"
            return {**result, "failed": True, "msg": f"{wrong}; mend: see that root can run python3 there"}
        peers = firewall.known(seen["names"], seen["remembered"], values["peers"])
        login = seen["login"]
        ports = [int(port) for port in seen["sshd"].get("port", [SSH_PORT])]
        operator = login[0].partition("%")[0] if login and values["admit_operator"] else ""
        try:
            made = firewall.rules(
                node=(values["node"], int(values["port"])),
                ssh_ports=[*ports, *(int(port) for port in login[3:])],
                ssh_from=values["ssh_from"],
                operator=operator,
                peers=peers,
                open_ports=values["open_ports"],
            )
        except ValueError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": False, "seen": seen, "peers": peers, "rules": [rule.values() for rule in made]}
