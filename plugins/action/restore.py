"""Look at a backup on the controller before anything is done with it: whose, of when, and what would become of the node.

Keeps: nothing is changed; what is wrong is one line with the mend. The node itself reads every byte of it before it changes
anything. Leaves to others: asking, and doing it (roles/runtime/tasks/restore.yml).
"""

from __future__ import annotations

import json
import os
import tarfile
import zlib
from datetime import UTC, datetime
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.outlast.agents.plugins.plugin_utils import quantity, table

_MEND = "name a file that `outlast backup now` made: -e from=outlast-NODE-TIME.tar.gz"
_MANIFEST = "manifest.json"


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.restore` with `file`, which lies on the controller; with `answer`, what the node said
    when it put that back, it only tells what was done."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return `file` (its whole path), `name`, `node`, `made`, `openclaw` and `words`: what it is, for a person."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        result["changed"] = False
        if "answer" in self._task.args:
            answer = self._task.args["answer"] or {}
            Display().display("\n".join(["", *map(table.plain, _done(answer)), ""]))
            return result
        variables = task_vars or {}
        name = variables["inventory_hostname"]
        path = os.path.abspath(os.path.expanduser(str(self._task.args.get("file") or "")))
        if len(variables.get("ansible_play_hosts_all", [name])) != 1:
            return self._refused(result, "-l", "a backup is of one node", f"say which: -l {name}")
        if not self._task.args.get("file"):
            return self._refused(result, "from", "no backup is named", _MEND)
        try:
            manifest = _manifest(path)
        except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else "it is no whole backup"
            return self._refused(result, "from", f"{path}: {why}", _MEND)
        if manifest["node"] != name:
            mend = f"take one of {name}'s, or say -l {manifest['node']}"
            return self._refused(result, "from", f"it is a backup of {manifest['node']}, not of {name}", mend)
        return {
            **result,
            "file": path,
            "name": os.path.basename(path),
            **{key: manifest[key] for key in ("node", "made", "openclaw")},
            "words": [table.plain(line) for line in _words(manifest, path)],
        }

    def _refused(self, result: dict[str, Any], field: str, wrong: str, mend: str) -> dict[str, Any]:
        return {**result, "failed": True, "msg": table.plain(f"{field}: {wrong}; mend: {mend}; nothing was changed")}


def _manifest(path: str) -> dict[str, Any]:
    """What a backup says of itself; raises ValueError and what reading a tar file raises."""
    with tarfile.open(path, "r|gz") as tar:
        for entry in tar:
            if entry.name == _MANIFEST and (file := tar.extractfile(entry)) is not None:
                try:
                    return _understood(json.loads(file.read()))
                except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
                    raise ValueError(_MANIFEST) from error
    raise ValueError(_MANIFEST)


def _understood(found: Any) -> dict[str, Any]:
    made = datetime.fromisoformat(found["made"])
    if made.tzinfo is None:
        raise ValueError("a time without its zone")
    return {
        **{key: str(found[key]) for key in ("node", "made", "openclaw")},
        "age": datetime.now(UTC) - made,
        "files": len(found["members"]),
        "bytes": sum(int(one.get("size", 0)) for one in found["members"]),
        "keys": bool(found["keys"]),
    }


def _words(manifest: dict[str, Any], path: str) -> list[str]:
    age = manifest["age"]
    hours = (
        f"{age.days} d {age.seconds // 3600} h" if age.days else f"{age.seconds // 3600} h {age.seconds // 60 % 60} min"
    )
    size = quantity.readable(manifest["bytes"])
    state = f", OpenClaw's state of {manifest['openclaw']}" if manifest["openclaw"] else ", nothing of OpenClaw"
    keys = "its keys" if manifest["keys"] else "no keys: a node that lost its own gets new ones"
    return [
        f"{manifest['node']} would go back to {manifest['made']}, {hours} ago: {path}",
        f"  in it: {manifest['files']} files and folders, {size}{state}, {keys}",
        "  kept: all that is there now, in var/trash; configuration, keys and tokens that can be read stay as they are",
        "  lost for the node: what it did since; tasks that were open then are in doubt, and their senders are told",
    ]


def _done(answer: dict[str, Any]) -> list[str]:
    """What was done, what was kept, what next."""
    if not answer:
        return ["nothing was changed (check mode)"]
    node, doubt = answer["node"], answer["in_doubt"]
    state = f", OpenClaw's state of {answer['openclaw']}" if answer["openclaw"] else ""
    kept = f"what was there is on it in {answer['kept']}" if answer["kept"] else "there was nothing before"
    findings = [f"  {one['about']}: {one['found']}; {one['done']}" for one in answer["findings"]]
    return [
        f"{node} is as of {answer['made']}: {answer['files']} files and folders{state}; {kept}",
        *([f"in doubt: {', '.join(doubt)}; who handed them over is told"] if doubt else []),
        *findings,
        "what next:",
        f"  on {node}: outlast doctor --deep    reads every file of it",
        f"  on {node}: outlast alert list    tells what may be lost; `alert known NAME` says that you know",
    ]
