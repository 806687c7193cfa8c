"""What a person must be told of: raised once, shown for as long as it holds, and over when its cause is.

Rules kept here: an alert is an event when it begins and when it ends, never in between; its text stands as it was raised, so
that showing it writes nothing, until it becomes urgent; it is over when two checks in a row found its cause gone, or
at once where that is no matter of checks (``over``).

Who raises one says ``found`` again at every check, and after a start: an alert that nobody finds any more within an hour of a
start is over (work.notifier).

Left to others: finding causes (health, work.watch, each part), showing what is raised (HEARTBEAT.md, ``outlast status``), and
telling a person (work.notifier).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from outlast.clock import Clock, iso
from outlast.core.alerting import Urgency
from outlast.store.events import EventLog

__all__ = ["Alert", "Alerts", "Urgency"]

_CALM_CHECKS = 2


class Alert(msgspec.Struct, frozen=True):
    """One alert. ``since``: ISO 8601, UTC."""

    name: str
    urgency: Urgency
    text: str
    since: str


class Alerts:
    """The alerts of one node, by name.

    ``changed`` is called when one begins or ends; ``known``: those that a person knows of, which are not shown.
    """

    def __init__(self, events: EventLog, clock: Clock) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.known: frozenset[str] = frozenset()
        self._events = events
        self._clock = clock
        self._raised: dict[str, Alert] = {}
        self._calm: dict[str, int] = {}

    @property
    def raised(self) -> list[Alert]:
        """What holds now, oldest first."""
        return list(self._raised.values())

    @property
    def shown(self) -> list[Alert]:
        """What of it a person is not known to know of."""
        return [alert for name, alert in self._raised.items() if name not in self.known]

    def holds(self, name: str) -> bool:
        """Is it raised?"""
        return name in self._raised

    def is_over(self, name: str) -> bool:
        """Was its cause found gone, since the start, and not found since?"""
        return name not in self._raised and self._calm.get(name, 0) >= _CALM_CHECKS

    def found(self, name: str, urgency: Urgency, text: str) -> None:
        """A check found its cause; ``text`` says what is wrong, and the mend."""
        self._calm[name] = 0
        before = self._raised.get(name)
        if before is None or (before.urgency == "soon" and urgency == "now"):
            self._raised[name] = Alert(name, urgency, text, before.since if before else iso(self._clock.time()))
            self._events.emit("alert", name=name, urgency=urgency, text=text)
            self.changed()

    def over(self, name: str) -> None:
        """Its cause is gone for certain, by what was done or decided: there is no second check to wait for."""
        for _ in range(_CALM_CHECKS):
            self.gone(name)

    def gone(self, name: str) -> None:
        """A check found its cause gone."""
        calm = self._calm[name] = min(self._calm.get(name, 0) + 1, _CALM_CHECKS)
        if name in self._raised and calm >= _CALM_CHECKS:
            del self._raised[name]
            self._events.emit("alert.over", name=name)
            self.changed()
