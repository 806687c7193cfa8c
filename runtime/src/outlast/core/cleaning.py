"""What is cleaned when the disk fills (spec.md, F6): a pure plan from what lies there, how old it is, and what must stay.

Rules kept here:

* the order of the steps is one in which nothing needs free space to begin: room that was set by is given up, then trash is
  emptied (only when a person asks for it), then logs that are past their time or over their budget are moved to the trash,
  the others compressed, smallest first, then old artifacts are packed away;
* today's log is never touched, nor what belongs to open work, what is protected, or what no backup holds;
* nothing but old trash is ever lost unasked, and of that only logs that the node itself wrote (core.retention).

Left to others: looking (ages in seconds, sizes in bytes), knowing what a backup holds, and doing it (work.cleaning).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from math import inf
from typing import Literal

import msgspec

from outlast.core.retention import expired, purged

__all__ = [
    "PROTECTED",
    "Disk",
    "Kept",
    "Limits",
    "Plan",
    "Seen",
    "Stays",
    "Step",
    "Thing",
    "is_protected",
    "plan",
    "room",
]

# What OpenClaw (2026.9) calls its sessions and what it archives of them, and folders that are archives by their name. They
# are never ours to touch, wherever somebody put them.
PROTECTED = (
    "sessions",
    "sessions.json*",
    "*.jsonl.deleted.*",
    "*.jsonl.reset.*",
    "*.jsonl.bak.*",
    "*.jsonl.migrated*",
    "*.checkpoint.*.jsonl",
    "*.trajectory.jsonl",
    "*.trajectory-path.json",
    "archive",
    "archives",
)
_SCARCE, _PLENTY = 2, 4

Kind = Literal["ballast", "trash", "old log", "expired log", "log", "artifact"]
Stays = Literal["", "today", "open", "protected", "unreadable", "no backup"]


class Disk(msgspec.Struct, frozen=True):
    """Free bytes, and how many percent of the disk they are."""

    free: int
    percent: float


class Thing(msgspec.Struct, frozen=True):
    """Something that takes room. ``stays`` says why it must not be touched, and is empty where it may."""

    name: str
    size: int
    age: float
    stays: Stays = ""


class Seen(msgspec.Struct, frozen=True):
    """What lies there: the disk, the size of the room that is set by (0: none), and things by their kind.

    ``logs`` can be compressed; ``past`` are all that the node wrote of days that are over, ``purged`` those in the trash.
    """

    disk: Disk
    ballast: int = 0
    logs: tuple[Thing, ...] = ()
    artifacts: tuple[Thing, ...] = ()
    trash: tuple[Thing, ...] = ()
    past: tuple[Thing, ...] = ()
    purged: tuple[Thing, ...] = ()


class Limits(msgspec.Struct, frozen=True):
    """Ages in seconds, sizes in bytes, and percent of the disk that are to be free at ``low`` and at the very ``least``."""

    logs_after: float
    artifacts_after: float
    artifacts_budget: int
    trash_keep: float
    ballast: int
    low: float
    least: float
    logs_keep: float = inf
    logs_budget: int = 1 << 62


class Step(msgspec.Struct, frozen=True):
    """One thing to do: ``size`` is what lies there now, not what it will free, and ``why`` is for people."""

    kind: Kind
    name: str
    size: int
    why: str


class Kept(msgspec.Struct, frozen=True):
    """An artifact that would go, and why it stays."""

    name: str
    size: int
    why: Stays


class Plan(msgspec.Struct, frozen=True):
    """What is to be done, in this order, and what stays although its time has come."""

    steps: tuple[Step, ...] = ()
    kept: tuple[Kept, ...] = ()


def is_protected(path: str, patterns: Iterable[str]) -> bool:
    """Must ``path`` (below the workspace, with /) stay? By a pattern of ours for any part of it, or one of the operator's."""
    parts = path.split("/")
    if any(fnmatchcase(part, pattern) for part in parts for pattern in PROTECTED):
        return True
    # A folder's pattern holds for all that is in it.
    above = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return any(fnmatchcase(prefix, pattern.strip("/")) for prefix in above for pattern in patterns)


def room(disk: Disk, limits: Limits, *, has: bool) -> Literal["", "give up", "set by"]:
    """What to do about the room that is set by. Between scarce and plenty nothing, so that it does not come and go."""
    if has and (disk.free < _SCARCE * limits.ballast or disk.percent < limits.least):
        return "give up"
    is_plenty = disk.free >= _PLENTY * limits.ballast and disk.percent >= max(limits.low, 2 * limits.least)
    return "set by" if not has and is_plenty else ""


def plan(seen: Seen, limits: Limits, *, empty_trash: bool, backed_up: Callable[[str], bool]) -> Plan:
    """What to do now. ``backed_up(name)`` is asked only about artifacts whose time has come."""
    steps: list[Step] = []
    if room(seen.disk, limits, has=seen.ballast > 0) == "give up":
        steps.append(Step("ballast", "ballast", seen.ballast, "it was set by for this"))
    if empty_trash:
        old = [thing for thing in seen.trash if not thing.stays and thing.age > limits.trash_keep]
        steps += [Step("trash", thing.name, thing.size, f"{_days(thing.age)} in the trash") for thing in _oldest(old)]
    is_low = seen.disk.percent < limits.low
    for thing in purged(seen.purged, limits.trash_keep, limits.logs_budget, low=is_low):
        steps.append(Step("old log", thing.name, thing.size, f"{_days(thing.age)} in the trash, and only a log"))
    gone = expired(seen.past, limits.logs_keep, limits.logs_budget)
    for thing in gone:
        why = f"{_days(thing.age)} old" if thing.age > limits.logs_keep else "logs take more than their budget"
        steps.append(Step("expired log", thing.name, thing.size, why))
    steps += _logs(seen, limits, is_low, {thing.name for thing in gone})
    moved, kept = _artifacts(seen.artifacts, limits, backed_up)
    return Plan((*steps, *moved), kept)


def _logs(seen: Seen, limits: Limits, is_low: bool, gone: Collection[str]) -> list[Step]:
    """The smallest first: each makes room for the next."""
    at_once = is_low or sum(thing.size for thing in seen.past) > limits.logs_budget // 2
    logs = [thing for thing in seen.logs if not thing.stays and thing.name not in gone]
    old = [thing for thing in logs if at_once or thing.age > limits.logs_after]
    return [
        Step("log", thing.name, thing.size, f"{_days(thing.age)} old")
        for thing in sorted(old, key=lambda thing: (thing.size, thing.name))
    ]


def _artifacts(
    things: Sequence[Thing], limits: Limits, backed_up: Callable[[str], bool]
) -> tuple[tuple[Step, ...], tuple[Kept, ...]]:
    steps: list[Step] = []
    kept: list[Kept] = []
    left = sum(thing.size for thing in things)
    for thing in _oldest(things):
        is_old = thing.age > limits.artifacts_after
        if not is_old and left <= limits.artifacts_budget:
            break
        stays: Stays = thing.stays or ("" if backed_up(thing.name) else "no backup")
        if stays:
            kept.append(Kept(thing.name, thing.size, stays))
        else:
            left -= thing.size
            why = f"{_days(thing.age)} old" if is_old else "artifacts take more than their budget"
            steps.append(Step("artifact", thing.name, thing.size, why))
    return tuple(steps), tuple(kept)


def _oldest(things: Iterable[Thing]) -> list[Thing]:
    return sorted(things, key=lambda thing: (-thing.age, thing.name))


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.0f} d"
