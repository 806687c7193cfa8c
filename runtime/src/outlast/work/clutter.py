"""What lies there that takes room: logs, artifacts and the trash, looked at without changing anything.

Rules kept here: symbolic links are neither followed nor counted; a folder of ours in whose place somebody put a link is
empty to us; what cannot be read is said to be so, and is no reason to fail.

Left to others: what is to go (core.cleaning).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

from outlast.core.cleaning import Disk, Seen, Stays, Thing, is_protected
from outlast.home import Home
from outlast.work import ballast
from outlast.work.packing import Going, walk

__all__ = ["look"]

_LOG = re.compile(r"(?:[a-z]+-)?(\d{4}-\d\d-\d\d)\.jsonl")
_STAMPED = re.compile(r"(\d{8}T\d{6}Z|\d{9,11})-")


def look(
    home: Home, disk: Disk, now: float, *, busy: Collection[str], protected: Collection[str], going: Going
) -> Seen:
    """All of it. ``now``: seconds since 1970; ``busy``: the names in artifacts/ of open work; ``protected``: globs.

    Raises OSError, and what ``going`` raises.
    """

    def guarded(path: str) -> Stays:
        return "protected" if is_protected(os.path.relpath(path, home.workspace), protected) else ""

    def thing(entry: os.DirEntry[str], stays: Stays = "") -> Thing:
        going()
        size, newest = 0, 0.0
        try:
            for name, info in walk(Path(entry.path)):
                size += info.st_size
                newest = max(newest, info.st_mtime)
                stays = stays or guarded(os.path.join(entry.path, name) if name else entry.path)
        except OSError:
            stays = "unreadable"
        return Thing(entry.name, size, now - newest, stays)

    def log(entry: os.DirEntry[str], day: date) -> Thing:
        stays: Stays = "today" if day >= today else guarded(entry.path)
        return Thing(entry.name, entry.stat(follow_symlinks=False).st_size, (today - day).days * 86400.0, stays)

    def trashed(entry: os.DirEntry[str]) -> Thing:
        seen = thing(entry)
        return Thing(seen.name, seen.size, now - _put_there(entry), seen.stays)

    today = datetime.fromtimestamp(now).astimezone().date()
    logs = [(entry, day) for entry in _entries(home.logs) if entry.is_file() and (day := _day(entry.name))]
    return Seen(
        disk,
        ballast.taken(home),
        tuple(log(entry, day) for entry, day in logs),
        tuple(thing(entry, "open" if entry.name in busy else "") for entry in _entries(home.artifacts)),
        tuple(trashed(entry) for entry in _entries(home.trash)),
    )


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder of ours, sorted, but for links and what is being written."""
    if folder.is_symlink() or not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not entry.is_symlink() and not entry.name.startswith("."):
                yield entry


def _day(name: str) -> date | None:
    """Whose day's log this is; None where it is none."""
    match = _LOG.fullmatch(name)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


def _put_there(entry: os.DirEntry[str]) -> float:
    """When something came into the trash, in seconds since 1970: its name tells, or when its entry was last changed."""
    match = _STAMPED.match(entry.name)
    if match is None:
        return entry.stat(follow_symlinks=False).st_ctime
    if match[1].isdecimal():
        return float(match[1])
    try:
        return datetime.strptime(match[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return entry.stat(follow_symlinks=False).st_ctime
