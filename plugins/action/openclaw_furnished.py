"""Bring agents the files that the inventory has for them, and the skill that teaches them `outlast`.

Keeps: what an agent or a person made of a file stays, and is said. Leaves to others: writing them
(outlast.openclaw.furnishing).
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.action import openclaw_config
from ansible_collections.outlast.agents.plugins.plugin_utils import openclaw_render, table

SKILLS = Path(__file__).resolve().parents[2] / "files" / "openclaw" / "skills"
# What editors and systems leave behind.
LEFT = ("~", ".swp", ".DS_Store", ".pyc")


def packed(folder: Path) -> dict[str, dict[str, Any]]:
    """A folder's files: path to content in base64, and whether it is a program."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith(LEFT):
            content = base64.b64encode(path.read_bytes()).decode("ascii")
            found[path.relative_to(folder).as_posix()] = {"content": content, "runs": os.access(path, os.X_OK)}
    return found


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.openclaw_furnished` with `home`."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what was `wrote`, and what was `kept` as somebody made it."""
        result: dict[str, Any] = {**super().run(tmp, task_vars), "changed": False}
        task_vars = task_vars or {}
        home, node = self._task.args["home"], task_vars["inventory_hostname"]
        values = {name: self._templar.template(task_vars.get(name)) for name in ("openclaw_agents", "openclaw_agent")}
        agents = values["openclaw_agents"] or {node: {}}
        folders = []
        for name, place in openclaw_render.workspaces(values, node, home).items():
            files = {f"skills/{path}": file for path, file in packed(SKILLS).items()}
            if own := (agents.get(name) or {}).get("files"):
                files |= packed(Path(task_vars.get("inventory_dir") or ".", str(own)))
            folders.append({"root": place, "files": files})
        told = {"folders": folders, "dry_run": bool(self._task.check_mode)}
        answer = openclaw_config.ask(self, "furnishing", [], told)
        if "error" in answer:
            return {**result, "failed": True, "msg": table.plain(str(answer["error"]))}
        kept = [str(path) for path in answer.get("kept", [])]
        return {**result, "changed": bool(answer["changed"]), "wrote": answer.get("wrote", []), "kept": kept}
