"""What of a node goes into its backup, in which order, and how each thing is read while its writers go on.

Rules kept here: what is projected from something else is read before it, and the journal before the artifacts, so that a start
finds whatever was written in between as if it had crashed there; a file that grows is cut at a whole line; one that is changed
while it is read is read again; links are kept as links and never followed; what cannot be read, or is neither file nor folder,
is left out and said. The ledger is copied by SQLite itself, never as a file.

Not in it: releases, caches, what was set aside, what runs now (``var/subagents``, ``run``), what is written ahead of a change
of OpenClaw's tokens or configuration, which is over when a backup comes back, and what root owns on a provisioned machine (SSH
keys, service definitions): site.yml makes those.

Left to others: the archive (archive, make).
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from outlast.home import Home
from outlast.store import regular

__all__ = ["PASSING", "STAGED", "Thing", "copied", "ledger", "records", "things"]

# What a restore lays out here until it is put in its place.
STAGED = ".restore-"
# Put back, it would begin again what was ended since.
PASSING = re.compile(r"etc/openclaw/(rotation\.json|before(\.new)?|proving|candidate\.json)(/.*)?", re.DOTALL)
_HALF = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
_PIECE = 1 << 20
_TAIL = 64 << 10
_TRIES = 3
_WAIT_S = 0.05
_IN_MEMORY = 8 << 20
# Which grow by whole lines.
_GROWING = ("workspace/memory/", "workspace/shared/", "workspace/logs/", "workspace/traces/")


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that is to be in it: its path below the home, and what lstat said."""

    path: str
    about: os.stat_result


def records(home: Home) -> tuple[Path, ...]:
    """What the node writes down of its own work: all of these go into a backup, and each is put back whole."""
    work = (home.ended, home.handoffs, home.tasks, home.steps)
    return (home.owner, home.jobs, home.features, home.unsent_alerts, *work)


def things(home: Home, *, keys: bool) -> Iterator[Thing | OSError]:
    """What is there of all that belongs in a backup, once each, but for the ledger and OpenClaw's own state. What cannot be
    looked at comes as the error."""
    done: set[str] = set()
    for top in (home.state_file, home.memory, home.workspace):
        yield from _below(home, top, done)
    for top in records(home):
        yield from _below(home, top, done)
    yield from _below(home, home.config, done)
    etc = home.root / "etc" / "openclaw"
    for one in _below(home, etc if keys else etc / "openclaw.json", done):
        if isinstance(one, OSError) or not PASSING.fullmatch(one.path):
            yield one
    if keys:
        yield from _below(home, home.keys, done)
    # The workspaces of OpenClaw's other agents: the main one's is the node's.
    for folder in sorted((home.agents / ".openclaw").glob("workspace-*")):
        yield from _below(home, folder, done)


def _below(home: Home, top: Path, done: set[str]) -> Iterator[Thing | OSError]:
    """``top`` and what is below it, folders before what is in them."""
    errors: list[OSError] = []
    try:
        about = os.lstat(top)
    except FileNotFoundError:
        return
    except OSError as error:
        yield error
        return
    name = top.relative_to(home.root).as_posix()
    if name not in done:
        done.add(name)
        yield Thing(name, about)
    if not stat.S_ISDIR(about.st_mode):
        return
    for folder, folders, files in os.walk(top, onerror=errors.append):
        # Neither what is half-written nor what a restore lays out.
        folders[:] = sorted(one for one in folders if not one.startswith(STAGED))
        for one in sorted([*folders, *files]):
            path = os.path.relpath(os.path.join(folder, one), home.root)
            if path in done or _HALF.fullmatch(one):
                continue
            done.add(path)
            try:
                yield Thing(path, os.lstat(os.path.join(folder, one)))
            except FileNotFoundError:
                continue
            except OSError as error:
                yield error
    yield from errors


@contextlib.contextmanager
def copied(home: Home, thing: Thing) -> Iterator[tuple[IO[bytes], int]]:
    """The content of a file as it was at one moment, and its size. Raises OSError; FileNotFoundError where it is gone."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(home.root / "var")) as copy:
        for attempt in range(_TRIES):
            copy.seek(0)
            copy.truncate()
            with regular.opened(home.root / thing.path) as file:
                before = os.fstat(file.fileno())
                size = _whole(file, before.st_size) if thing.path.startswith(_GROWING) else before.st_size
                left = size
                while left and (piece := file.read(min(_PIECE, left))):
                    copy.write(piece)
                    left -= len(piece)
                after = os.fstat(file.fileno())
            grew = thing.path.startswith(_GROWING) and after.st_size >= before.st_size
            if not left and (grew or (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)):
                copy.seek(0)
                yield copy, size
                return
            time.sleep(_WAIT_S * (attempt + 1))
        raise OSError(0, "it was changed whenever it was read", thing.path)


def _whole(file: IO[bytes], size: int) -> int:
    """Up to where a file that grows holds whole lines; one that only lacks its last line's end is whole."""
    start = max(0, size - _TAIL)
    file.seek(start)
    tail = file.read(size - start)
    file.seek(0)
    if not tail or tail.endswith(b"\n"):
        return size
    time.sleep(_WAIT_S)
    if os.fstat(file.fileno()).st_size == size:
        return size
    return start + tail.rfind(b"\n") + 1 if b"\n" in tail else size


def ledger(home: Home, target: Path) -> None:
    """Copy the ledger as it is at one moment, by SQLite, whoever writes to it. Raises sqlite3.Error, OSError."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    source = sqlite3.connect(f"file:{home.ledger.as_posix().replace('?', '%3f').replace('#', '%23')}?mode=ro", uri=True)
    with contextlib.closing(source), contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
        found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        copy.execute("PRAGMA journal_mode = DELETE")
