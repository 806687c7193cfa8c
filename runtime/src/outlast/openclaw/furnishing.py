"""The files that an operator gives to agents, in their workspaces: AGENTS.md, SOUL.md, skills.

``python -m outlast.openclaw.furnishing --home HOME``: what Ansible calls, as the node's user.

Rules kept here: a file is written where there is none, or where it is still what was written here last; what an agent or a
person made of it stays, and is said. What is overwritten is kept in the trash.

Left to others: which files (plugins/action/openclaw_furnished.py).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from outlast.clock import stamp
from outlast.home import Home
from outlast.openclaw.answering import answer
from outlast.store import durable, regular

__all__ = ["furnish", "main"]


def furnish(home: Home, folders: list[dict[str, Any]], *, dry_run: bool) -> dict[str, Any]:
    """Bring every file of every folder (``root``, ``files``: path to ``content`` in base64 and ``runs``) to its place.

    Returns what was ``wrote``, and ``kept`` as somebody made it. Raises OutlastError, OSError.
    """
    record = home.root / "etc" / "openclaw" / "written.json"
    known: dict[str, str] = json.loads(regular.read(record)) if record.exists() else {}
    before, wrote, kept = dict(known), [], []
    for folder in folders:
        for name, file in folder["files"].items():
            path, content = Path(folder["root"], name), base64.b64decode(file["content"])
            wanted, held = _digest(content), _held(path)
            if held is not None and _digest(held) == wanted:
                known[str(path)] = wanted
            elif held is not None and known.get(str(path)) != _digest(held):
                kept.append(str(path))
            elif held is None and path.name == "BOOTSTRAP.md" and str(path) in known:
                # Its agent has taken it in, and removed it as it says.
                continue
            else:
                wrote.append(str(path))
                known[str(path)] = wanted
                if not dry_run:
                    _write(home, path, content, held, runs=file["runs"])
    if known != before and not dry_run:
        durable.replace(record, json.dumps(known, indent=2, sort_keys=True).encode() + b"\n")
    return {"changed": bool(wrote), "wrote": wrote, "kept": kept}


def _write(home: Home, path: Path, content: bytes, held: bytes | None, *, runs: bool) -> None:
    durable.make_dir(path.parent, mode=0o750)
    if held is not None:
        durable.make_dir(home.trash)
        durable.replace(home.trash / f"{stamp(time.time())}-{secrets.token_hex(4)}-{path.name}", held)
    durable.replace(path, content, mode=0o750 if runs else 0o640)


def _held(path: Path) -> bytes | None:
    try:
        return regular.read(path)
    except FileNotFoundError:
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Print one JSON object, with ``error`` where it could not be done."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 2 or given[0] != "--home":
        print("usage: python -m outlast.openclaw.furnishing --home HOME", file=sys.stderr)
        return 2
    os.umask(0o027)
    read = json.loads(sys.stdin.readline())
    return answer(lambda: furnish(Home(Path(given[1])), read["folders"], dry_run=read["dry_run"]))


if __name__ == "__main__":
    sys.exit(main())
