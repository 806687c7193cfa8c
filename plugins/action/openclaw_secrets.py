"""Work out what all hosts say of OpenClaw, and their secrets, before anything changes anywhere.

Keeps: secrets are in memory only, and the task that runs this has `no_log`; a password manager's command runs once on this
machine, however many hosts name it; all that is wrong is said, by the preflight with the rest. Leaves to others: what is
right (plugin_utils/openclaw_values.py), bringing the secrets to a host (openclaw_config).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.plugin_utils import openclaw_values, specs

PREFIX = "openclaw_"


class ActionModule(ActionBase):
    """Run once by the task `outlast.agents.openclaw_secrets`, with `no_log: true`."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `hosts`: of each with openclaw_enabled its `secrets`, and its `findings`."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        said: dict[tuple[str, ...], openclaw_values.Said] = {}
        hosts, hostvars = {}, task_vars["hostvars"]
        for name in task_vars["ansible_play_hosts"]:
            # What a host's variables say of other hosts is a part of them.
            own = _Worked(self._templar, {**hostvars.raw_get(name), "hostvars": hostvars})
            if boolean(own.value("openclaw_enabled", False), strict=False):
                hosts[name] = _one(name, own, said)
        return {**result, "changed": False, "hosts": hosts}


class _Worked:
    """A host's variables, worked out one by one: one that cannot be says nothing of the others."""

    def __init__(self, templar: Any, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.findings: list[dict[str, str]] = []
        self._templar = templar.copy_with_new_env(available_variables=raw)

    def value(self, name: str, otherwise: Any) -> Any:
        """A variable's value, or another where there is none, or it cannot be worked out, which is a finding."""
        try:
            return self.template(self.raw[name]) if name in self.raw else otherwise
        except ValueError as error:
            self.findings.append(specs.finding(name, str(error), "set what it refers to, or set it plainly"))
            return otherwise

    def template(self, raw: Any) -> Any:
        """A value as it is meant; raises ValueError with the reason."""
        try:
            return self._templar.template(raw)
        except AnsibleError as error:
            raise ValueError(f"cannot be worked out: {str(error).splitlines()[0].rstrip('.')}") from error


def _one(name: str, own: _Worked, said: dict[tuple[str, ...], openclaw_values.Said]) -> dict[str, Any]:
    """One host's secrets and findings."""
    values = {
        variable: own.value(variable, default)
        for variable, default in specs.defaults().items()
        if variable.startswith(PREFIX) and variable != "openclaw_secrets"
    }
    # A default that is computed is the role's own business.
    values = {key: None if isinstance(value, str) and "{{" in value else value for key, value in values.items()}
    raw, each = own.raw.get("openclaw_secrets") or {}, own.template
    if isinstance(raw, str):
        # A text that makes the whole of it, and so each of them.
        raw, each = own.value("openclaw_secrets", {}), lambda raw: raw
    values["openclaw_secrets"] = raw if isinstance(raw, Mapping) else {}
    # Of the wrong type: the preflight says so, and what would be said here is noise.
    shaped = {key: value for key, value in values.items() if _fits(key, value)}
    inventory, home = (str(own.value(key, "")) for key in ("inventory_dir", "outlast_home"))
    jobs = own.value("outlast_jobs", {})
    found = openclaw_values.check(
        shaped, name, inventory or os.getcwd(), jobs if isinstance(jobs, Mapping) else {}, home
    )
    secrets, missing = openclaw_values.resolve(values["openclaw_secrets"], each, said)
    if not isinstance(raw, Mapping):
        found.append(specs.finding("openclaw_secrets", "is no mapping", "write NAME: {value: …} for each"))
    return {"secrets": secrets, "findings": own.findings + found + missing}


def _fits(name: str, value: Any) -> bool:
    kind = specs.options().get(name, {}).get("type")
    if kind == "int":
        return value is None or str(value).lstrip("-").isdecimal()
    return {"dict": isinstance(value, Mapping), "list": isinstance(value, list)}.get(str(kind), True) or not value
