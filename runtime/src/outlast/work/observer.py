"""Writes down how the node is, for people with jq and for programs: metrics, spans, and LOAD_STATUS.json.

Rules kept here:

* it hears of all that happens by the events, and holds nobody up: what cannot be written is left out, and a defect in here is
  counted, not raised;
* an idle node writes a line of metrics every quarter of an hour, and nothing else;
* LOAD_STATUS.json is replaced at most once a check, and only by something else;
* logs are packed, and moved away when their time is over, once a day and at the start.

Left to others: what is counted (core.metrics), what is a span (core.spans), what is news (core.load), and what goes
(core.retention).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from outlast.clock import iso
from outlast.core.load import in_short, is_news, stopped
from outlast.core.metrics import Counts
from outlast.core.plainjson import to_json
from outlast.core.retention import share_of
from outlast.errors import OutlastError
from outlast.quantity import duration, size
from outlast.store import durable, metrics
from outlast.store.lines import day_of
from outlast.store.spans import Spans

if TYPE_CHECKING:
    from outlast.control import Order
    from outlast.upkeep import Around

__all__ = ["Observer"]

_QUIET_S = 900.0


class Observer:
    """What watches one node."""

    def __init__(self, around: Around, rotate: Callable[[], Awaitable[None]]) -> None:
        """``rotate()`` keeps logs within their time and budget."""
        config, clock = around.config, around.clock
        self._around = around
        self._rotate = rotate
        self._every = duration(config.observe.metrics_every)
        self._check = min(duration(config.health.interval), self._every)
        self._limit = share_of(size(config.observe.budget), "metrics")
        self._counts = Counts()
        limit = share_of(size(config.observe.budget), "spans")
        self._spans = Spans(around.home.traces, config.node, clock, limit) if config.observe.spans else None
        self._defects = 0
        self._told: dict[str, Any] = {}
        self._told_at = 0.0
        self._lag = self._longest_lag = 0.0
        self._wrote = self._due = clock.monotonic()
        self._first = True
        self._cpu, self._cpu_at = time.process_time(), clock.monotonic()
        self._day = ""
        around.events.heard = self._hear

    def orders(self) -> dict[str, Order]:
        """None: what it knows is in ``outlast status --json`` and in its files."""
        return {}

    def report(self) -> dict[str, Any]:
        """What was counted since the start, and what the runtime uses."""
        spans = self._spans
        return {
            "kinds": self._counts.report(),
            "rss": _rss(),
            "cpu_s": round(time.process_time(), 2),
            "lag_s": round(self._lag, 3),
            "spans_dropped": spans.dropped if spans else 0,
            "defects": self._defects,
        }

    def _hear(self, event: Mapping[str, Any]) -> None:
        try:
            self._counts.hear(event)
            if self._spans:
                self._spans.hear(event)
        except Exception:  # noqa: BLE001 - whoever tells of something must not fail for who listens
            self._defects += 1

    async def run(self) -> None:
        """Look every check, until cancelled."""
        tidying: asyncio.Task[None] | None = None
        clock = self._around.clock
        try:
            if self._spans:
                self._spans.flush()
            while True:
                if self._day != (day := day_of(clock.time())) and (tidying is None or tidying.done()):
                    self._day, tidying = day, asyncio.create_task(self._tidy())
                self._look()
                began = time.monotonic()
                await asyncio.sleep(self._check)
                self._lag = max(0.0, time.monotonic() - began - self._check)
                self._longest_lag = max(self._longest_lag, self._lag)
        finally:
            if tidying:
                tidying.cancel()
            self._end()

    async def _tidy(self) -> None:
        with contextlib.suppress(OutlastError, OSError):
            await self._rotate()

    def _look(self) -> None:
        now = self._around.clock.monotonic()
        with contextlib.suppress(OutlastError, OSError):
            status = self._around.status()
            figures = self._figures(now)
            self._show(in_short(status, figures), now)
            if now >= self._due:
                self._due = now + self._every
                if self._first or self._counts.is_news or now - self._wrote >= _QUIET_S:
                    self._write(status, figures, now)

    def _end(self) -> None:
        """The last lines: what was counted and not written, and that it is over."""
        now = self._around.clock.monotonic()
        with contextlib.suppress(OutlastError, OSError):
            self._write(self._around.status(), self._figures(now), now)
            if self._told:
                self._replace(stopped(self._told))
        if self._spans:
            self._spans.flush()
            self._spans.hurry = True

    def _figures(self, now: float) -> dict[str, float]:
        """``now``: monotonic seconds."""
        cpu, seconds = time.process_time(), now - self._cpu_at
        # Of a moment it says nothing.
        percent = 100.0 * (cpu - self._cpu) / seconds if seconds >= min(1.0, self._check / 2) else 0.0
        self._cpu, self._cpu_at = cpu, now
        return {
            "cpu_percent": round(percent, 1),
            "load_1m": _load(),
            "cpus": os.cpu_count() or 1,
            "rss_bytes": _rss(),
        }

    def _show(self, short: dict[str, Any], now: float) -> None:
        """LOAD_STATUS.json, where it has to say something else. Raises DurabilityError."""
        if is_news(self._told, short, now - self._told_at):
            self._replace(short)
            self._told_at = now

    def _replace(self, short: dict[str, Any]) -> None:
        said = {"at": iso(self._around.clock.time()), **short}
        durable.replace(self._around.home.load_status, to_json(said) + b"\n", mode=durable.SHARED_FILE)
        self._told = said

    def _write(self, status: Mapping[str, Any], figures: Mapping[str, float], now: float) -> None:
        """A line of metrics."""
        line = {
            "seconds": round(now - self._wrote, 3),
            "kinds": self._counts.since_last(),
            "rss": figures["rss_bytes"],
            "cpu": figures["cpu_percent"],
            "cpu_s": round(time.process_time(), 2),
            "load": figures["load_1m"],
            "disk": status["disk_percent"],
            "lag": round(self._longest_lag, 3),
            "open": status["tasks"]["open"] + status["handoffs"]["open"],
            "queued": sum(channel["queued"] for channel in status["channels"].values()),
            "mode": status["mode"],
        }
        self._wrote, self._longest_lag, self._first = now, 0.0, False
        metrics.write(self._around.home.logs, self._around.config.node, self._around.clock.time(), line, self._limit)


def _load() -> float:
    """How many processes of the machine ran or waited to, over a minute; 0 where that cannot be known."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        # A unit that sees nothing in /proc but processes (ProcSubset=pid) does not know.
        return 0.0


def _rss() -> int:
    """How much memory the runtime holds now, in bytes; 0 where that cannot be known."""
    if sys.platform == "linux":
        try:
            with open("/proc/self/statm", "rb") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            return 0
    import psutil

    return int(psutil.Process().memory_info().rss)
