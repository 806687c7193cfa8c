"""Look at what of a provisioned machine may trouble its node later: one cheap command, and nothing fails or changes here.

Keeps: what is wrong is told apart from what is merely worth knowing. Leaves to others: looking (plugin_utils/look_closer.py),
showing it (report).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.plugin_utils import glance

LOOK = Path(glance.__file__).with_name("look_closer.py")
# What it means that the service manager's module would take a step.
LACKS = {
    "load": "the service manager does not know it as it is defined now, or would not start it with the machine",
    "rearm": "was given up by the service manager",
    "start": "does not run",
    "restart": "runs with something else than what is on the disk now",
}


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.closer` with `home`, `trial` (where a pending trial of the defences is noted) and
    `service` (what the service manager's module would do to the runtime)."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `findings`, and `remarks`, which are no failures."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        host = (task_vars or {})["inventory_hostname"]
        again = f"ansible-playbook site.yml -l {host}"
        findings, remarks = [], []
        service = self._task.args.get("service") or {}
        steps = service.get("did", [str(service.get("msg", "cannot be asked"))])
        lacks = [LACKS.get(step.partition(" ")[0], step) for step in steps]
        findings += [{"field": "service", "wrong": lack, "mend": again} for lack in lacks]
        seen = self._look()
        if seen.get("clock_free"):
            wrong = "nothing holds it to the network's time"
            findings.append(
                {"field": "clock", "wrong": wrong, "mend": f"{again}, and see that the network lets NTP through"}
            )
        if seen.get("trial"):
            wrong = "a change of firewall or sshd is on trial, and will be taken back unless a fresh login confirms it"
            findings.append({"field": "hardening", "wrong": wrong, "mend": again})
        if seen.get("restart"):
            remarks.append(f"{host}: an update waits for a restart of the machine: sudo reboot, when it suits you")
        return {**result, "changed": False, "findings": findings, "remarks": remarks}

    def _look(self) -> dict[str, Any]:
        try:
            return dict(glance.look(self, self._task.args["home"], LOOK, [self._task.args["trial"]])[0])
        except AnsibleError:
            # That the machine cannot be asked is told by the survey already.
            return {}
