"""Look whether directories and small files are as they should be, and execute the module only if not.

Keeps: what is compared are digests, modes, owners and link targets; a file's content leaves only for the module. Leaves to
others: making things so, showing differences (plugins/modules/tree.py).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.plugin_utils import glance


def wanted(values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """What a glance is to show once all is well, path to what look.py tells of it; owners only where they are given."""
    goal: dict[str, dict[str, str]] = {}
    for entry in values.get("directories", []):
        place = entry if isinstance(entry, Mapping) else {"path": entry}
        goal[place["path"]] = {"kind": "directory", "mode": place.get("mode", "0700"), **owned(place, values)}
    for file in values.get("files", []):
        told = {"kind": "file", "mode": file.get("mode", "0600"), "sha256": digest(file)}
        goal[file["path"]] = {**told, **owned(file, values)}
    for path, target in values.get("links", {}).items():
        goal[path] = {"kind": "link", "target": target}
    return goal


def owned(entry: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """The owner and group that are asked for, of this entry or of all."""
    asked = {name: entry.get(name) or values.get(name) for name in ("owner", "group")}
    return {name: str(value) for name, value in asked.items() if value}


def digest(file: Mapping[str, Any]) -> str:
    """The SHA-256 of what a file is to hold."""
    return hashlib.sha256(base64.b64decode(file["content"])).hexdigest()


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.tree`; its arguments are the module's."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compare, then act if need be."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        values = self._task.args
        goal, gone = wanted(values), list(values.get("absent", []))
        # The release's Python looks, whatever the root is.
        home = self._templar.template(task_vars.get("outlast_home", values["root"]))
        seen = glance.glance(self, home, [*goal, *gone], root=values["root"])
        if seen and not set(gone) & set(seen) and all(fits(asked, seen.get(path, {})) for path, asked in goal.items()):
            return {**result, "changed": False, "wrote": []}
        return {**result, **self._execute_module("outlast.agents.tree", values, task_vars=task_vars)}


def fits(asked: Mapping[str, str], seen: Mapping[str, str]) -> bool:
    """Whether something is there that is all that was asked; what was not asked for does not matter."""
    return {name: seen.get(name) for name in asked} == asked
