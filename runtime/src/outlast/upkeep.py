"""What looks after the node while it runs: each part of it, and what they all stand on.

Rules kept here: a part is made before anything runs, runs until it is cancelled, and brings its orders and its report; what a
part needs of the node it is given as Around, so that no part knows another but those that it is handed here.

Left to others: each part's own rules; the mode (health), which every part asks before it begins something (core.modes.pace).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from outlast.alerts import Alerts
from outlast.clock import Clock
from outlast.control import Order
from outlast.core.modes import Standing, pace
from outlast.home import Home
from outlast.net.courier import Courier
from outlast.net.dashboard import Dashboard
from outlast.settings import Config, Priority
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
        """Work for ever, until cancelled; a part that ends by itself ends the node, which is started anew."""


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

        ``rotate()`` keeps logs within their time and budget.
        """
        self.around = around
        self.parts: dict[str, Part] = {}
        self.parts["services"] = services = Services(around)
        self.parts["probes"] = Probes(around, services)
        self.parts["notifier"] = notifier = Notifier(
            around.config, around.home, around.events, around.clock, around.alerts
        )
        self.parts["watch"] = Watch(around, notifier, courier, self.report)
        self.parts["observer"] = Observer(around, rotate)
        self.parts["jobs"] = Jobs(around)
        self.parts["subagents"] = SubAgents(around)
        self.parts["external"] = Externals(around)
        self.parts["dashboard"] = Dashboard(around, courier)

    def orders(self) -> dict[str, Order]:
        """All that the parts can be told."""
        return {name: order for part in self.parts.values() for name, order in part.orders().items()}

    def report(self) -> dict[str, Any]:
        """What each part says of itself."""
        reports = {name: part.report() for name, part in self.parts.items()}
        # What a status calls services are the parts of the node itself.
        return {**reports.pop("services", {}), **reports}
