"""What looks after the node while it runs: each part of it, and what they all stand on.

Rules kept here: a part is made before anything runs, runs until it is cancelled, and brings its orders and its report; what a
part needs of the node it is given as Around, so that no part knows another but those that it is handed here. A part that fails,
or cannot be made, takes no other with it (isolation).

Left to others: each part's own rules; the mode (health), which every part asks before it begins something (core.modes.pace).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from outlast.alerts import Alerts
from outlast.clock import Clock
from outlast.control import Order
from outlast.core.modes import Standing, pace
from outlast.core.record import one_line
from outlast.errors import OutlastError
from outlast.home import Home
from outlast.isolation import Isolation, reported
from outlast.net.courier import Courier
from outlast.net.dashboard import Dashboard
from outlast.settings import Config, OpenClaw, Priority
from outlast.store.events import EventLog
from outlast.store.ledger import Ledger
from outlast.store.memory import Memory
from outlast.work.external import Externals
from outlast.work.guard import Guard
from outlast.work.jobs import Jobs
from outlast.work.notifier import Notifier
from outlast.work.observer import Observer
from outlast.work.probes import Probes
from outlast.work.services import Services
from outlast.work.subagents import SubAgents
from outlast.work.watch import Watch

__all__ = ["Around", "Part", "Runs", "Upkeep"]

_Made = TypeVar("_Made", bound="Part")


@dataclass(frozen=True, slots=True)
class Around:
    """What every part may use of its node.

    ``standing()`` is the mode and why; ``silence()`` the seconds since each peer was heard; ``status()`` what ``outlast
    status --json`` prints. ``causes``: why the node is degraded, by the name of who says so, for as long as it stands there.
    ``guard``: what sees to it that no program that is started here outlives the runtime; there is one. ``orders``: all that the
    running node can be told.
    """

    config: Config
    home: Home
    memory: Memory
    ledger: Ledger
    events: EventLog
    clock: Clock
    alerts: Alerts
    standing: Callable[[], Standing]
    silence: Callable[[], Mapping[str, float]]
    status: Callable[[], dict[str, Any]]
    causes: dict[str, str] = field(default_factory=dict)
    guard: Guard = field(default_factory=Guard)
    orders: dict[str, Order] = field(default_factory=dict)

    def pace(self, priority: Priority) -> int:
        """How often work of this priority runs in the mode of now: 1 always, 2 every second time, 0 never."""
        return pace(self.standing().mode, priority)


class Runs(Protocol):
    """Something that runs beside all else."""

    async def run(self) -> None:
        """Work for ever, until cancelled: to end by itself is to fail."""


class Part(Runs, Protocol):
    """What looks after one thing."""

    def orders(self) -> dict[str, Order]:
        """What it can be told through the control socket."""

    def report(self) -> dict[str, Any]:
        """What ``outlast status --json`` says of it."""


class Upkeep:
    """The parts of one node, by name."""

    def __init__(self, around: Around, courier: Courier, rotate: Callable[[], Awaitable[None]]) -> None:
        """Make every part, and put right what the last stop left of it. Raises DurabilityError.

        ``rotate()`` keeps logs within their time and budget. A part that cannot be made for a defect of ours is left out, with
        those that stand on it.
        """
        self.around = around
        self.parts: dict[str, Part] = {}
        self._left_out: dict[str, dict[str, Any]] = {}
        self._isolation = Isolation(around.events, around.alerts)
        services = self._make("services", lambda: Services(around))
        if services:
            self._make("probes", lambda: Probes(around, services))
        notifier = self._make(
            "notifier", lambda: Notifier(around.config, around.home, around.events, around.clock, around.alerts)
        )
        if notifier:
            self._make("watch", lambda: Watch(around, notifier, courier, self.report))
        self._make("observer", lambda: Observer(around, rotate))
        self._make("jobs", lambda: Jobs(around))
        self._make("subagents", lambda: SubAgents(around))
        self._make("external", lambda: Externals(around))
        self._make("dashboard", lambda: Dashboard(around, courier))
        if (settings := around.config.openclaw) is not None:
            self._make("openclaw", lambda: _gateway(around, settings))
            self._make("feed", lambda: _feed(around, settings))

    def orders(self) -> dict[str, Order]:
        """All that the parts can be told."""
        return {name: order for part in self.parts.values() for name, order in part.orders().items()}

    def running(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """How each part is run: for ever, until cancelled, whatever fails in it."""
        return [partial(self._isolation.run, name, part.run) for name, part in self.parts.items()]

    def report(self) -> dict[str, Any]:
        """What each part says of itself; ``error`` where it cannot. Raises nothing."""
        reports = {**{name: reported(part.report) for name, part in self.parts.items()}, **self._left_out}
        # What a status calls services are the parts of the node itself.
        services = reports.pop("services")
        if "error" in services:
            return {"supervised": {}, "supervised_error": services["error"], **reports}
        return {**services, **reports}

    def _make(self, name: str, make: Callable[[], _Made]) -> _Made | None:
        try:
            self.parts[name] = made = make()
        except OutlastError:
            raise
        except Exception as error:  # noqa: BLE001 (a node without one of its parts is better than none)
            self._isolation.failed(name, error, "it is left out until the next start")
            self._left_out[name] = {"error": one_line(f"left out: {error!r}", 200)}
            return None
        return made


def _feed(around: Around, settings: OpenClaw) -> Part:
    """Nor is there anybody to tell elsewhere."""
    from outlast.openclaw.feed import Feed

    return Feed(around, settings)


def _gateway(around: Around, settings: OpenClaw) -> Part:
    """Only who has an OpenClaw needs what watches it."""
    from outlast.openclaw.watch import Gateway

    return Gateway(around, settings)
