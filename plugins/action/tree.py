"""Look whether a node's directories and small files are as they should be, and execute the module only if not.

Keeps: what is compared are digests, modes and link targets; a file's content leaves only for the module. Leaves to
others: making things so, showing differences (plugins/modules/tree.py).
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.plugin_utils import glance


def wanted(values: dict[str, Any]) -> dict[str, dict[str, str]]:
    """What a glance is to show once all is well, path to what look.py tells of it."""
    directories = [".", *values.get("directories", [])]
    return {
        **{path: {"kind": "directory", "mode": "0700"} for path in directories},
        **{file["path"]: {"kind": "file", "mode": "0600", "sha256": digest(file)} for file in values.get("files", [])},
        **{path: {"kind": "link", "target": target} for path, target in values.get("links", {}).items()},
    }


def digest(file: dict[str, Any]) -> str:
    """The SHA-256 of what a file is to hold."""
    return hashlib.sha256(base64.b64decode(file["content"])).hexdigest()


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.tree`; its arguments are the module's."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compare, then act if need be."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        goal = wanted(self._task.args)
        if glance.glance(self, self._task.args["root"], [*goal]) == goal:
            return {**result, "changed": False, "wrote": []}
        return {**result, **self._execute_module("outlast.agents.tree", self._task.args, task_vars=task_vars)}
