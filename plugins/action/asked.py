"""Refuse what was asked for with `-e` and is not understood, before anything is done.

Keeps: runs on the controller only. Variables that the inventory or other playbooks may use are not ours to refuse: only what
looks like one of ours is. Leaves to others: what each of them does.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars
from ansible_collections.outlast.agents.plugins.plugin_utils import specs, table


class ActionModule(ActionBase):
    """Run once by the task `outlast.agents.asked` with `options`: what the playbook knows, each with its choices, `bool` or
    `any`; with `several: CHOICES` one or more of them."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fail with all that is wrong."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        found = specs.asked(load_extra_vars(self._loader), self._task.args.get("options") or {})
        result["changed"] = False
        if found:
            lines = [f"{one['field']}: {one['wrong']}; mend: {one['mend']}" for one in found]
            result.update(failed=True, msg=table.plain("; ".join([*lines, "nothing was changed"])))
        return result
