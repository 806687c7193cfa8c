"""Watches the services of others that work here depends on, each behind a circuit breaker of its own.

Rules kept here: one is asked every so often, by a request without a body, and not at all while its breaker is open, until one
trial; that it limits us degrades the node until it does not; a breaker that opens is an alert until it is closed; nothing is
written but such changes; what TLS takes is loaded only where an https URL is declared.

Left to others: what an answer says (core.external), the breaker (core.breaker), and what is shed meanwhile (core.modes).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from outlast.clock import iso
from outlast.control import Order
from outlast.core import breaker
from outlast.core.breaker import BreakerState
from outlast.core.external import Judged, Place, judge, place
from outlast.errors import HttpError, PeerError
from outlast.net import client
from outlast.net.http import Response
from outlast.quantity import duration
from outlast.settings import External

if TYPE_CHECKING:
    from outlast.upkeep import Around

__all__ = ["Externals"]

# Who does not know HEAD is asked as a browser would.
_NOT_HEAD = {405, 501}
_HEADERS = {"user-agent": "outlast", "accept": "*/*"}


@dataclass
class _Service:
    """One service, as it was last seen. ``due`` is a monotonic clock's seconds."""

    name: str
    place: Place
    settings: External
    breaker: BreakerState = field(default_factory=BreakerState)
    limited: str = ""
    error: str = ""
    answered: str = ""
    status: int | None = None
    seconds: float | None = None
    due: float = 0.0

    @property
    def cause(self) -> str:
        return f"external {self.name}"


class Externals:
    """The services of others, as one node sees them."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self._services = [
            _Service(name, where, settings)
            for name, settings in around.config.external.items()
            if (where := place(settings.url)) is not None
        ]

    async def run(self) -> None:
        """Ask for ever, until cancelled."""
        if not self._services:
            await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            for service in self._services:
                group.create_task(self._watch(service))

    async def _watch(self, service: _Service) -> None:
        while True:
            pause = duration(service.settings.every)
            # What is shed in an emergency is not asked for either.
            if self._around.pace("P1"):
                pause = await self._look(service)
            service.due = self._around.clock.monotonic() + pause
            await asyncio.sleep(pause)

    async def _look(self, service: _Service) -> float:
        """Ask once, and say how long to wait; seconds."""
        clock, settings = self._around.clock, service.settings
        cooldown = duration(settings.cooldown)
        service.breaker = breaker.started(service.breaker)
        before, began = service.breaker.status, clock.monotonic()
        try:
            response = await self._ask(service)
        except (PeerError, HttpError) as error:
            self._failed(service, str(error))
        else:
            service.status, service.seconds = response.status, clock.monotonic() - began
            service.answered = iso(clock.time())
            judged = judge(response.status, response.headers.get("retry-after"), clock.time())
            self._note_limit(service, judged)
            if not judged.well:
                self._failed(service, f"{service.place.endpoint} answers with {response.status}")
            else:
                self._answered(service, before)
            if judged.limited:
                return max(duration(settings.every), judged.wait)
        if service.breaker.status == "open":
            return breaker.opens_in(service.breaker, clock.monotonic(), cooldown)
        return duration(settings.every)

    async def _ask(self, service: _Service) -> Response:
        """Raises PeerError, HttpError."""
        response = await self._request(service, "HEAD")
        return await self._request(service, "GET") if response.status in _NOT_HEAD else response

    async def _request(self, service: _Service, method: str) -> Response:
        where, seconds = service.place, duration(service.settings.timeout)
        if where.scheme == "https":
            from outlast.net import https

            return await https.ask(where.host, where.port, method, where.target, _HEADERS, seconds)
        return await client.request(
            where.endpoint, method, where.target, headers=_HEADERS, connect_s=seconds, total_s=seconds
        )

    def _failed(self, service: _Service, error: str) -> None:
        was = service.breaker.status
        service.error = error
        service.breaker = breaker.failed(service.breaker, self._around.clock.monotonic(), service.settings.failures)
        if service.breaker.status != "open":
            return
        if was == "closed":
            self._around.events.emit("external.opened", name=service.name, detail=error)
        again = f"it is asked again every {service.settings.cooldown}"
        mend = f"see whether it is down, or moved (outlast_external.{service.name}.url in the inventory)"
        text = f"{service.name}, which work here depends on, fails: {error}; {again}; mend: {mend}"
        self._around.alerts.found(service.cause, "soon", text)

    def _answered(self, service: _Service, before: str) -> None:
        service.breaker, service.error = breaker.succeeded(service.breaker), ""
        if before != "closed":
            self._around.events.emit("external.closed", name=service.name, detail=f"answers with {service.status}")
        self._around.alerts.gone(service.cause)

    def _note_limit(self, service: _Service, judged: Judged) -> None:
        """The node is degraded for as long as a service limits us."""
        before = service.limited
        wait = f", and asks for {judged.wait:.0f} s" if judged.wait else ""
        service.limited = f"answered {service.status}{wait}" if judged.limited else ""
        if judged.limited:
            self._around.causes[service.cause] = f"{service.name} rate-limits us"
        else:
            self._around.causes.pop(service.cause, None)
        if bool(before) != judged.limited:
            event = "external.limited" if judged.limited else "external.unlimited"
            self._around.events.emit(event, name=service.name, detail=service.limited or before)

    def orders(self) -> dict[str, Order]:
        """It takes none."""
        return {}

    def report(self) -> dict[str, Any]:
        """How each service is."""
        now = self._around.clock.monotonic()
        return {service.name: _told(service, now) for service in self._services}


def _told(service: _Service, now: float) -> dict[str, Any]:
    seen = service.answered or service.error
    return {
        "state": "limited" if service.limited else service.breaker.status if seen else "unasked",
        "note": service.limited or service.error,
        "since": service.answered,
        "url": service.place.shown,
        "breaker": service.breaker.status,
        "failures": service.breaker.failures,
        "status": service.status,
        "ms": None if service.seconds is None else round(service.seconds * 1000, 1),
        "next_s": round(max(0.0, service.due - now), 1),
    }
