"""How often things happen, how often they fail, and how long they take, by kind, counted from events.

Rules kept here: the kinds are few, whatever events there are; the same events make the same figures; nothing is remembered but
the figures.

Left to others: which events there are, and writing the figures (work.observer).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from outlast.core.ratelimit import lane
from outlast.core.spans import is_bad

__all__ = ["BOUNDS", "Counts", "Kind"]

# Upper bounds of how long something took, in seconds; what took longer is over the last.
BOUNDS = (0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0)
_KINDS = 32
_ENDS = ("ended", "closed", "failed", "exited", "given_up", "undelivered", "not_taken")
# What goes on all the time, also with a sibling that sleeps: that alone is worth no line.
_ROUTINE = ("probe", "control_in", "share")
# What is counted under another name than the first word of its event.
_NAMED = {
    "message.refused": "message_in",
    "message.delivered": "message_out",
    "message.undelivered": "message_out",
    "message.given_up": "message_out",
    "alert": "alert",
    "mode.changed": "mode",
    "node.crashed": "node",
    "task.recovered": "recovered",
    "peer.gone": "peer",
}


class Kind:
    """The figures of one kind: how many, how many of them failed, seconds in all, and how many took how long."""

    __slots__ = ("buckets", "errors", "longest", "number", "seconds", "timed")

    def __init__(self) -> None:
        self.number = self.errors = self.timed = 0
        self.seconds = self.longest = 0.0
        self.buckets = [0] * (len(BOUNDS) + 1)

    def count(self, bad: bool, seconds: float | None) -> None:
        """One more."""
        self.number += 1
        self.errors += bad
        if seconds is not None:
            self.timed += 1
            self.seconds += seconds
            self.longest = max(self.longest, seconds)
            self.buckets[bisect_left(BOUNDS, seconds)] += 1


class Counts:
    """The figures since the start, and since they were last written down."""

    def __init__(self) -> None:
        self._all: dict[str, Kind] = {}
        self._new: dict[str, Kind] = {}
        # Something was counted that is worth a line of its own.
        self.is_news = False

    def hear(self, event: Mapping[str, Any]) -> None:
        """Count what an event tells of, if anything."""
        kind = _kind(str(event.get("event", "")), "seconds" in event)
        if not kind:
            return
        if kind not in self._all and len(self._all) >= _KINDS:
            kind = "other"
        took, bad = event.get("seconds"), is_bad(event) or kind == "peer"
        seconds = max(0.0, float(took)) if isinstance(took, int | float) and not isinstance(took, bool) else None
        for counted in (self._all, self._new):
            counted.setdefault(kind, Kind()).count(bad, seconds)
        self.is_news = self.is_news or kind not in _ROUTINE or (bad and kind == "probe")

    def since_last(self) -> dict[str, dict[str, float]]:
        """What was counted since this was last asked, by kind."""
        told, self._new, self.is_news = _told(self._new), {}, False
        return told

    def report(self) -> dict[str, dict[str, Any]]:
        """What was counted since the start, by kind; ``buckets`` by ``BOUNDS``."""
        return {
            name: {**one, "timed": self._all[name].timed, "buckets": list(self._all[name].buckets)}
            for name, one in _told(self._all).items()
        }


def _told(kinds: Mapping[str, Kind]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "n": kind.number,
            "errors": kind.errors,
            "seconds": round(kind.seconds, 3),
            "max": round(kind.longest, 3),
        }
        for name, kind in sorted(kinds.items())
    }


def _kind(name: str, timed: bool) -> str:
    """What an event counts as; empty where it is not counted."""
    if named := _NAMED.get(name):
        return named
    what, _, how = name.rpartition(".")
    if how == "accepted":
        return "control_in" if lane(what) != "work" else "message_in"
    if what.startswith("message"):
        return ""
    return (what or name).partition(".")[0] if timed or how in _ENDS else ""
