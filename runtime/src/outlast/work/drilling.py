"""When the last drills ran here (playbooks/drill.yml), so that a person who is told of what they caused is told that as well.

Rules kept here: only an alert that began while a drill ran is said to be of one, also when its end is told hours later; one
that began before, or after, is told as ever. A drill that is cut off counts as over ten minutes after its last step.

Left to others: telling (work.notifier), the drills (the collection's module drill, which calls ``ran`` and ``ended``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from outlast.core.alerting import Book, Message
from outlast.core.plainjson import from_json
from outlast.home import Home
from outlast.store import durable, regular

__all__ = ["Drill", "as_drill", "ended", "ran", "read_drills"]

_CUT_OFF_S = 600.0
# Two runs of all of them.
_KEPT = 16
# The moments of alerts are cut to whole ones.
_SLACK_S = 1.0


class Drill(msgspec.Struct, frozen=True):
    """From when until when, in seconds since 1970."""

    began: float
    until: float


def read_drills(home: Home) -> list[Drill]:
    """The last ones, oldest first; none where none can be read."""
    try:
        return from_json(regular.read(home.drills), list[Drill])
    except (OSError, ValueError):
        return []


def ran(home: Home, now: float) -> None:
    """A step of a drill is taken. Raises DurabilityError."""
    *before, last = read_drills(home) or [Drill(now, now)]
    if now > last.until:
        before, last = [*before, last], Drill(now, now)
    _write(home, [*before, msgspec.structs.replace(last, until=now + _CUT_OFF_S)])


def ended(home: Home, now: float) -> None:
    """Its last step was taken. Raises DurabilityError."""
    *before, last = read_drills(home) or [Drill(now, now)]
    if last.until > now:
        _write(home, [*before, msgspec.structs.replace(last, until=now)])


def _write(home: Home, drills: list[Drill]) -> None:
    durable.replace(home.drills, msgspec.json.encode(drills[-_KEPT:]))


def as_drill(message: Message, book: Book, drills: Sequence[Drill]) -> Message:
    """The message, saying which of its alerts began in a drill."""
    began: Mapping[str, float] = {name: item.since for name, item in book.items.items()}
    names = [*message.holding, *message.ending]
    caused = [
        name for name in names if any(one.began - _SLACK_S <= began.get(name, 0.0) <= one.until for one in drills)
    ]
    if not caused:
        return message
    if len(caused) == len(names):
        told = "A drill (playbooks/drill.yml) ran on this node when this began."
        return message._replace(title=f"drill: {message.title}", body=f"{told}\n{message.body}")
    told = f"When this began a drill (playbooks/drill.yml) ran on this node: {', '.join(caused)}."
    return message._replace(body=f"{message.body}\n{told}")
