"""Pack the runtime of this collection, and send it to a node that does not have it yet.

Keeps: the same source gives the same digest on every machine; nothing is sent when the node has the release, and no module
runs there when the release is the current one. Leaves to others: building it (plugins/modules/release.py).
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.plugin_utils import glance

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"
# A wheel is a zip, which knows no time before 1980.
FIXED_TIME = 1_000_000_000
FILES = ("pyproject.toml", "requirements.txt")
# The code, and the dashboard's page.
KINDS = (".py", ".html", ".css", ".js", ".svg")


def members() -> dict[str, bytes]:
    """What makes up the runtime, path to content, in a fixed order; what an editor or Python leaves behind is not."""
    source = RUNTIME / "src"
    paths = [RUNTIME / name for name in FILES]
    paths += [path for path in source.rglob("*") if path.suffix in KINDS or path.name == "py.typed"]
    return {path.relative_to(RUNTIME).as_posix(): path.read_bytes() for path in sorted(paths)}


def digest(files: dict[str, bytes]) -> str:
    """Name a release by what is in it."""
    whole = hashlib.sha256()
    for name, content in files.items():
        whole.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return whole.hexdigest()[:16]


def pack(files: dict[str, bytes]) -> str:
    """The files as a compressed archive in base64; the same files give the same bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mtime = FIXED_TIME
            tar.addfile(entry, io.BytesIO(content))
    return base64.b64encode(gzip.compress(plain.getvalue(), mtime=0)).decode("ascii")


@functools.cache
def packed() -> tuple[dict[str, bytes], str]:
    """The runtime's files and their digest."""
    files = members()
    return files, digest(files)


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.release`; its arguments are the module's but for digest and archive."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look first, ask second, send third."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.args.get("state", "current") != "current":
            return {**result, **self._execute_module("outlast.agents.release", self._task.args, task_vars=task_vars)}
        files, name = packed()
        if self._is_current(name):
            return {**result, "changed": False, "present": True, "digest": name}
        arguments = {**self._task.args, "digest": name}
        answer = self._execute_module("outlast.agents.release", arguments, task_vars=task_vars)
        if not answer.get("failed") and not answer["present"] and not self._task.check_mode:
            self._display.display(f"building release {name} of the runtime, this takes a moment", color="bright blue")
            answer = self._execute_module(
                "outlast.agents.release", {**arguments, "archive": pack(files)}, task_vars=task_vars
            )
        # The archive has no place in anybody's log.
        answer.pop("invocation", None)
        result.update(answer, digest=name)
        return result

    def _is_current(self, name: str) -> bool:
        """Whether the node runs this release, built to the end. Its Python is there, or nothing would be seen."""
        complete = f"releases/{name}/.complete"
        seen = glance.glance(self, self._task.args["home"], ["current", complete])
        return complete in seen and seen.get("current") == {"kind": "link", "target": f"releases/{name}"}
