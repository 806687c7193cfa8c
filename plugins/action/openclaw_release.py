"""Say which release of OpenClaw a node is to have, and send what it is built from to one that does not have it yet.

Keeps: the same lock and version give the same name on every machine; nothing is sent when the node has the release, and no
module runs there when it is the current one. Leaves to others: building it (plugins/modules/openclaw_release.py).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.module_utils import openclaw_build
from ansible_collections.outlast.agents.plugins.plugin_utils import glance

FILES = Path(__file__).resolve().parents[2] / "files" / "openclaw"


def sources(version: str) -> dict[str, str]:
    """What a release is built from. The lock is that of one version: another one has none."""
    held = {name: (FILES / name).read_text(encoding="utf-8") for name in ("requirements.txt", "package.json")}
    package = json.loads(held["package.json"])
    if package["dependencies"]["openclaw"] == version:
        held["package-lock.json"] = (FILES / "package-lock.json").read_text(encoding="utf-8")
    else:
        package["dependencies"]["openclaw"] = version
        held["package.json"] = json.dumps(package, indent=2) + "\n"
    return held


def digest(held: dict[str, str]) -> str:
    """Name a release by what it is built from."""
    whole = "".join(f"{name}\0{hashlib.sha256(held[name].encode()).hexdigest()}\n" for name in sorted(held))
    return hashlib.sha256(whole.encode()).hexdigest()[:12]


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.openclaw_release`; its arguments are the module's but for node, digest and sources. The
    Python of `home` looks."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look first, ask second, send third."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        node = str((task_vars or {})["inventory_hostname"])
        arguments = {**self._task.args, "node": node}
        if arguments.get("state", "current") != "current":
            return {**result, **self._module(arguments, task_vars)}
        version = str(arguments["version"])
        held = sources(version)
        name = digest(held)
        if self._is_current(f"{version}-{name}", f"current-{node}"):
            now = f"{version}-{name}"
            return {**result, "changed": False, "present": True, "before": now, "now": now, "is_current": True}
        arguments["digest"] = name
        answer = self._module(arguments, task_vars)
        if not answer.get("failed") and not answer["present"] and not self._task.check_mode:
            self._say(version, locked="package-lock.json" in held)
            answer = self._module({**arguments, "sources": held}, task_vars)
        # What it is built from has no place in anybody's log.
        answer.pop("invocation", None)
        return {**result, **answer, "is_current": False}

    def _module(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        return dict(self._execute_module("outlast.agents.openclaw_release", arguments, task_vars=task_vars))

    def _say(self, version: str, *, locked: bool) -> None:
        self._display.display(f"installing OpenClaw {version}, this takes a minute or two", color="bright blue")
        if not locked:
            shipped = json.loads((FILES / "package.json").read_text(encoding="utf-8"))["dependencies"]["openclaw"]
            line = (
                f"openclaw_version: {version} comes without a lock (that of {shipped} is shipped); npm's stays with it"
            )
            self._display.display(line, color="bright purple")

    def _is_current(self, name: str, link: str) -> bool:
        """Whether the node has this release as its current one, built to the end; what is started with it is looked at."""
        needed = [f"releases/{name}/{part}" for part in (".complete", *openclaw_build.STARTED)]
        folder = self._task.args["dir"]
        seen = glance.glance(self, self._task.args["home"], [link, *needed], root=folder)
        return {*needed} <= {*seen} and seen.get(link) == {"kind": "link", "target": f"releases/{name}"}
