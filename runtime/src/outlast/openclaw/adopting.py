"""An OpenClaw that a person installed becomes the node's: its copy, laid out beside, is put in its place.

``python -m outlast.openclaw.adopting --home HOME [--resume]``: what Ansible calls, as the node's user, once
plugins/modules/openclaw_adopt.py has laid it out in ``var/.restore-adopt`` and ``workspace/.restore-adopt``.

Rules kept here: it happens once, which a file in the state itself says, so that it goes with it into backups and back; what
the node had goes to the trash, whole; of what
both have in the workspace nobody's lines are lost, and Outlast's own names stay Outlast's. Until the list of renames is
written nothing was changed; from then on it is carried through, over any crash (backup.activation). The gateway does not run
meanwhile.

OpenClaw's databases name the folder that they lay in. Sessions, sign-ins and approvals do not mind; its schedule is filed
under the path of a file beside it, and is filed anew here. Left to others: what the configuration of the old one said
(plugins/action/openclaw_adopt.py); that configuration is kept for people, in ``etc/openclaw``.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import secrets
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

from outlast.backup import activation
from outlast.backup.collect import STAGED
from outlast.clock import stamp
from outlast.config import load_config
from outlast.core.merging import merge_heartbeat, merge_queue
from outlast.errors import BadInput
from outlast.home import Home
from outlast.openclaw import snapshots, wishes
from outlast.openclaw.answering import answer
from outlast.openclaw.place import Place, place_of
from outlast.store import durable, regular

__all__ = ["adopt", "main"]

_NAME = f"{STAGED}adopt"
# What Outlast keeps in a workspace and nobody else.
_OURS = frozenset({"LOAD_STATUS.json", "STATE.json", "artifacts", "audits", "logs", "shared", "traces"})
_BESIDE = "adopted"
# Its own configuration, and what that is rotated to, hold secrets in clear: the inventory's is the one that counts.
_CONFIG, _ENV = "openclaw.json", ".env"
_WHY, _TOLD = "the OpenClaw that was here is adopted", "the OpenClaw of "
_MARK = "outlast-adopted.json"


def adopt(place: Place, *, resume: bool = False) -> dict[str, Any]:
    """Put what was laid out in its place; what the mark says then, and ``changed``. With ``resume`` nothing is begun.

    Raises OutlastError, OSError; where nothing was carried through yet, nothing was changed.
    """
    mark = place.state / _MARK
    if (place.snapshots / "restore.json").exists():
        with wishes.stopped(place, _WHY):
            carried = snapshots.finish(place)
        if carried.startswith(_TOLD) and mark.exists():
            return {"changed": True, **json.loads(regular.read(mark))}
    if resume or mark.exists():
        return {"changed": False}
    beside, inside = place.home.root / "var" / _NAME, place.home.workspace / _NAME
    try:
        told: dict[str, Any] = json.loads(regular.read(beside / "told.json"))
    except (OSError, ValueError):
        raise BadInput("openclaw_adopt", "nothing is laid out", "run the same command again") from None
    state, tag = beside / "state", f"{stamp(time.time())}-{secrets.token_hex(2)}"
    _settle_databases(state, {f"{told[name]}/cron/jobs.json" for name in ("from", "real")}, place)
    trash = place.home.trash / f"{tag}-adopt"
    todo = _Plan(place, trash)
    todo.workspace(inside)
    _furnish(place, beside, todo)
    kept = str(trash) if todo.aside else ""
    told |= {"at": tag, "kept": kept, "beside": todo.beside, "merged": todo.merged, "left": todo.left}
    durable.replace(state / _MARK, json.dumps(told, indent=2).encode() + b"\n")
    for folder in (beside, inside):
        if folder.is_dir():
            activation.settle(folder)
    dropped = tuple(_below(place, folder) for folder in (beside, inside))
    done = activation.Pending(
        f"{_TOLD}{told['from']}", tuple(todo.aside), tuple(todo.put), dropped, _below(place, trash)
    )
    activation.check(place.home.root, done)
    with wishes.stopped(place, _WHY):
        activation.begin(place.snapshots / "restore.json", done)
        snapshots.finish(place)
    return {"changed": True, **told}


class _Plan:
    """What goes aside, and what comes in its place."""

    def __init__(self, place: Place, trash: Path) -> None:
        self.aside: list[tuple[str, str]] = []
        self.put: list[tuple[str, str]] = []
        self.beside: list[str] = []
        self.merged: list[str] = []
        self.left: list[str] = []
        self._place, self._trash = place, trash

    def come(self, new: Path, path: Path) -> None:
        """What is new takes a place; what is there goes aside."""
        if os.path.lexists(path):
            self.aside.append(
                (_below(self._place, path), _below(self._place, self._trash / path.relative_to(self._root)))
            )
        self.put.append((_below(self._place, new), _below(self._place, path)))

    @property
    def _root(self) -> Path:
        return self._place.home.root

    def workspace(self, inside: Path) -> None:
        """The old workspace joins the node's. Raises OSError."""
        if not inside.is_dir():
            return
        for name in sorted(_OURS):
            if os.path.lexists(inside / name):
                # Where the node would take it for its own, its agent finds it next to it.
                (inside / _BESIDE).mkdir(mode=durable.SHARED_FOLDER, exist_ok=True)
                (inside / name).rename(inside / _BESIDE / name)
                self.beside.append(name)
        self._join(inside, self._place.home.workspace)

    def _join(self, new: Path, old: Path) -> None:
        for path in sorted(new.iterdir()):
            target = old / path.name
            if path.name == ".git" and os.path.lexists(target):
                self.left.append(target.relative_to(self._place.home.workspace).as_posix())
            elif all(one.is_dir() and not one.is_symlink() for one in (path, target)):
                self._join(path, target)
            elif not _same(path, target):
                self._merge(path, target)
                self.come(path, target)

    def _merge(self, path: Path, target: Path) -> None:
        """Let what comes hold what the node's has as well, where that is text that both wrote."""
        name = target.relative_to(self._place.home.workspace).as_posix()
        if not all(one.is_file() and not one.is_symlink() for one in (path, target)):
            return
        theirs, ours = regular.read(path), regular.read(target)
        if name == "MEMORY.md" or (name.startswith("memory/") and name.endswith(".md")):
            both = ours if theirs in ours else theirs if ours in theirs else theirs.rstrip() + b"\n\n" + ours
        elif name in ("HEARTBEAT.md", "QUEUE.md"):
            both = (merge_queue if name == "QUEUE.md" else merge_heartbeat)(b"", theirs, ours)
        else:
            return
        durable.replace(path, both, mode=durable.SHARED_FILE)
        self.merged.append(name)


def _furnish(place: Place, beside: Path, todo: _Plan) -> None:
    """The state gets the workspaces of its agents, and loses its configuration, which is kept for people."""
    state = beside / "state"
    if os.path.lexists(state / "workspace"):
        # One that no agent works in.
        (state / "workspace").rename(state / "workspace.before")
    (state / "workspace").symlink_to(place.home.workspace)
    for folder in sorted((beside / "spaces").iterdir()) if (beside / "spaces").is_dir() else ():
        folder.rename(state / f"workspace-{folder.name}")
    for name, kept in ((_CONFIG, "adopted.json"), (_ENV, "adopted.env")):
        if os.path.lexists(state / name):
            # At once: what starts the gateway, and may be what carries this through, may not write there.
            _keep(place, regular.read(state / name), place.folder / kept)
            (state / name).unlink()
    for path in state.glob(f"{_CONFIG}.*"):
        path.unlink()
    todo.come(state, place.state)


def _keep(place: Place, content: bytes, path: Path) -> None:
    if path.is_file() and regular.read(path) != content:
        durable.set_aside(path, place.home.trash, stamp(time.time()))
    durable.make_dir(path.parent)
    durable.replace(path, content)


def _settle_databases(state: Path, filed: set[str], place: Place) -> None:
    """See that each can be read, and file the schedule under the path that OpenClaw looks it up by here. Raises BadInput."""
    shared = state / "state" / "openclaw.sqlite"
    for path in (shared, *sorted(state.glob("agents/*/agent/openclaw-agent.sqlite"))):
        try:
            with contextlib.closing(sqlite3.connect(path)) as db, db:
                db.execute("SELECT count(*) FROM sqlite_master").fetchone()
                if path == shared:
                    _file_anew(db, filed, f"{place.state}/cron/jobs.json")
                db.commit()
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            wrong = f"{path.relative_to(state)} of the old one cannot be read ({error})"
            mend = "mend it as its owner, from a backup of its own; nothing was changed"
            raise BadInput("openclaw_adopt", wrong, mend) from None


def _file_anew(db: sqlite3.Connection, filed: set[str], here: str) -> None:
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if "cron_jobs" in tables:
        known = {str(key) for (key,) in db.execute("SELECT DISTINCT store_key FROM cron_jobs")}
        # By the path as its owner had it, through a link perhaps.
        filed = known if len(known) == 1 and next(iter(known)).endswith("/cron/jobs.json") else filed
    for table in tables:
        if any(column[1] == "store_key" for column in db.execute(f'PRAGMA table_info("{table}")')):
            for old in sorted(filed):
                db.execute(f'UPDATE "{table}" SET store_key = ? WHERE store_key = ?', (here, old))  # noqa: S608
    if "config_machine_state" in tables:
        for old in sorted(filed):
            words = (f"cron.quarantine:{here}", f"cron.quarantine:{old}")
            db.execute("UPDATE config_machine_state SET state_key = ? WHERE state_key = ?", words)


def _same(path: Path, target: Path) -> bool:
    """Are both the same already?"""
    if path.is_symlink() or target.is_symlink():
        return path.is_symlink() and target.is_symlink() and path.readlink() == target.readlink()
    return path.is_file() and target.is_file() and filecmp.cmp(path, target, shallow=False)


def _below(place: Place, path: Path) -> str:
    return path.relative_to(place.home.root).as_posix()


def main(arguments: list[str] | None = None) -> int:
    """Print one JSON object, with ``error`` where it could not be done."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) not in (2, 3) or given[0] != "--home" or given[2:] not in ([], ["--resume"]):
        print("usage: python -m outlast.openclaw.adopting --home HOME [--resume]", file=sys.stderr)
        return 2
    os.umask(0o077)
    home = Home(Path(given[1]))
    return answer(lambda: adopt(place_of(home, load_config(home.config)), resume="--resume" in given))


if __name__ == "__main__":
    sys.exit(main())
