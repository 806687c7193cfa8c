"""What a person must be told of: raised once, shown for as long as it holds, and over when its cause is.

Rules kept here: an alert is an event when it begins and when it ends, never in between; its text stands as it was raised, so
that showing it writes nothing; it is over when two checks in a row found its cause gone.

Left to others: finding causes (health), showing what is raised (HEARTBEAT.md, ``outlast status``).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from outlast.clock import Clock, iso
from outlast.store.events import EventLog

__all__ = ["Alert", "Alerts", "Urgency"]

Urgency = Literal["soon", "now"]
_CALM_CHECKS = 2


class Alert(msgspec.Struct, frozen=True):
    """One alert. ``since``: ISO 8601, UTC."""

    name: str
    urgency: Urgency
    text: str
    since: str


class Alerts:
    """The alerts of one node, by name."""

    def __init__(self, events: EventLog, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._raised: dict[str, Alert] = {}
        self._calm: dict[str, int] = {}

    @property
    def shown(self) -> list[Alert]:
        """What holds now, oldest first."""
        return list(self._raised.values())

    def holds(self, name: str) -> bool:
        """Is it raised?"""
        return name in self._raised

    def found(self, name: str, urgency: Urgency, text: str) -> None:
        """A check found its cause; ``text`` says what is wrong, and the mend."""
        self._calm[name] = 0
        if name not in self._raised:
            self._raised[name] = Alert(name, urgency, text, iso(self._clock.time()))
            self._events.emit("alert", name=name, urgency=urgency, text=text)

    def gone(self, name: str) -> None:
        """A check found its cause gone."""
        if name not in self._raised:
            return
        self._calm[name] += 1
        if self._calm[name] >= _CALM_CHECKS:
            del self._raised[name]
            self._events.emit("alert.over", name=name)
