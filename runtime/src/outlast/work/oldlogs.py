"""The logs, metrics and traces of one node, and those of them that are in the trash, looked at without changing anything.

Rules kept here: what the node did not write is never called its own; symbolic links are neither followed nor counted; a folder
of ours in whose place somebody put a link is empty to us.

Left to others: what else takes room (work.clutter), what is to go (core.cleaning).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

from outlast.core.cleaning import Disk, Seen, Stays, Thing, is_protected
from outlast.home import Home

__all__ = ["entries", "guarded", "look_at_logs", "put_there"]

_LOG = re.compile(r"(?:[a-z]+-)?(\d{4}-\d\d-\d\d)\.jsonl")
# What the node itself writes: nothing else is ever moved away for its age.
_OURS = re.compile(r"(?:traces/)?(?:metrics-)?(\d{4}-\d\d-\d\d)\.jsonl(?:\.gz)?")
_STAMPED = re.compile(r"(\d{8}T\d{6}Z|\d{9,11})-")


def look_at_logs(home: Home, disk: Disk, now: float, *, protected: Collection[str]) -> Seen:
    """The logs, metrics and traces alone; a trace is named with its folder in front. Raises OSError."""
    today = datetime.fromtimestamp(now).astimezone().date()

    def log(entry: os.DirEntry[str], name: str, day: date) -> Thing:
        stays: Stays = "today" if day >= today else guarded(home, entry.path, protected)
        return Thing(name, entry.stat(follow_symlinks=False).st_size, (today - day).days * 86400.0, stays)

    files = [(entry, entry.name) for entry in entries(home.logs) if entry.is_file()]
    files += [(entry, f"{home.traces.name}/{entry.name}") for entry in entries(home.traces) if entry.is_file()]
    unpacked = [(entry, name, day) for entry, name in files if (day := _day(_LOG, entry.name))]
    ours = [(entry, name, day) for entry, name in files if (day := _day(_OURS, name)) and day < today]
    return Seen(
        disk,
        logs=tuple(log(*found) for found in unpacked),
        past=tuple(log(*found) for found in ours),
        purged=tuple(
            Thing(
                f"{home.old_logs.name}/{entry.name}", entry.stat(follow_symlinks=False).st_size, now - put_there(entry)
            )
            for entry in entries(home.old_logs)
            if entry.is_file()
        ),
    )


def guarded(home: Home, path: str, protected: Collection[str]) -> Stays:
    """Whether something must stay where it is; ``protected``: globs below the workspace."""
    return "protected" if is_protected(os.path.relpath(path, home.workspace), protected) else ""


def entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder of ours, sorted, but for links and what is being written."""
    if folder.is_symlink() or not folder.is_dir():
        return
    with os.scandir(folder) as found:
        for entry in sorted(found, key=lambda entry: entry.name):
            if not entry.is_symlink() and not entry.name.startswith("."):
                yield entry


def _day(pattern: re.Pattern[str], name: str) -> date | None:
    """Whose day's log this is; None where it is none."""
    match = pattern.fullmatch(name)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


def put_there(entry: os.DirEntry[str]) -> float:
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
