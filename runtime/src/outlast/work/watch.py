"""Looks for what no other part sees, and raises alerts of it: silent siblings, gaps, and the thresholds of spec.md, section 7.

Rules kept here: an idle node's look costs no write and no process; what lasts over a start (since when a sibling is silent, the
day since which a study is active) is kept in the notifier's book, once each time that it begins.

A study is active while ``skills/study.json`` says ``{"active": true}``; its units are steps and tasks whose text begins with
the word study.

Left to others: what is worth a word (core.thresholds), telling (work.notifier), the mode (health), probes, jobs and sub-agents.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outlast.control import Order
from outlast.core import thresholds
from outlast.core.alerting import hours
from outlast.core.gaps import Gap
from outlast.core.plainjson import from_json
from outlast.core.thresholds import Silence
from outlast.errors import DurabilityError
from outlast.net.courier import Courier
from outlast.quantity import duration, readable, size
from outlast.store import regular
from outlast.work.notifier import Notifier

if TYPE_CHECKING:
    from outlast.upkeep import Around

__all__ = ["Watch"]

# A sibling is heard at every check: who is not for so long was away.
_AWAY_S = 300.0
_SLOW_S = 600.0
_GIT_S = 10.0
_STUDY_BYTES = 16 << 10
# The runtime compacts a daily file at its next check, where it can.
_LONG_S = 3600.0


class Watch:
    """The part that watches. ``report()`` gives what the other parts say of themselves, by name."""

    def __init__(
        self, around: Around, notifier: Notifier, courier: Courier, report: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._around = around
        self._alerts = around.alerts
        self._notifier = notifier
        self._courier = courier
        self._report = report
        self._rules = around.config.alerts
        self._work = hours(self._rules.work)
        self._interval = duration(around.config.health.interval)
        self._began = around.clock.monotonic()
        # Since when each sibling is there without a pause, in monotonic seconds.
        self._there = dict.fromkeys(around.config.peers, self._began)
        # Which of the silent ones give no answer at all, as far as it was tried.
        self._lost: dict[str, bool] = {}
        self._long: dict[str, float] = {}
        self._gaps: dict[Gap, bool] = {}
        self._slow_at = self._began
        self.late_s = 0.0

    def orders(self) -> dict[str, Order]:
        """None."""
        return {}

    def report(self) -> dict[str, Any]:
        """How late the last check was, in seconds."""
        return {"late_s": round(self.late_s, 1)}

    async def run(self) -> None:
        """Look for ever, until cancelled."""
        while True:
            await self.look()
            before = self._around.clock.monotonic()
            await asyncio.sleep(self._interval)
            self.late_s = max(0.0, self._around.clock.monotonic() - before - self._interval)

    async def look(self) -> None:
        """Look once, and raise what is to be raised."""
        now = self._around.clock.monotonic()
        # A node that could not read its memory said so under this name.
        self._alerts.gone("memory")
        self._heartbeat()
        await self._siblings()
        self._channels()
        self._subagents()
        await self._journal()
        if now >= self._slow_at:
            self._slow_at = now + _SLOW_S
            self._study()
            self._daily_files(now)

    def _told(self, name: str, text: str | None) -> None:
        if text:
            self._alerts.found(name, "soon", text)
        else:
            self._alerts.gone(name)

    def _heartbeat(self) -> None:
        late, limit = self.late_s, duration(self._rules.heartbeat_within)
        mend = "mend: see what takes the machine's time (top), or stopped the runtime"
        self._told("heartbeat", f"the heartbeat came {late:.0f} s late; {mend}" if late > limit else None)

    async def _siblings(self) -> None:
        clock, silence = self._around.clock, dict(self._around.silence())
        now, up = clock.time(), clock.monotonic() - self._began
        since = thresholds.silent_since(self._notifier.book.silent, silence, up, now)
        if since.keys() != self._notifier.book.silent.keys():
            self._notifier.remember(silent=since, study=self._notifier.book.study)
        else:
            since = self._notifier.book.silent
        partition, power = duration(self._rules.partition_after), duration(self._rules.power_after)
        local = time.localtime(now)
        for peer, awake in silence.items():
            if awake > _AWAY_S:
                self._there[peer] = clock.monotonic()
            name = f"silent {peer}"
            whole = max(awake, now - since.get(peer, now))
            if peer in self._rules.sleeps or awake < min(partition, power):
                self._lost.pop(peer, None)
                self._alerts.gone(name)
                continue
            if not self._alerts.holds(name):
                self._lost[peer] = await self._courier.lost(peer)
            seen = Silence(awake, whole, self._lost.get(peer, False))
            text = thresholds.sibling(peer, seen, partition, power, self._work, local.tm_hour * 60 + local.tm_min)
            # Once said it holds until the sibling is heard, at night and over a start as well.
            if said := text or self._said(name):
                self._alerts.found(name, "soon", said)

    def _said(self, name: str) -> str:
        held = self._notifier.book.items.get(name)
        texts = [one.text for one in self._alerts.raised if one.name == name]
        return texts[0] if texts else held.text if held and held.over is None else ""

    def _channels(self) -> None:
        if not self._around.config.peers:
            return
        now = self._around.clock.monotonic()
        try:
            told = self._around.status()["channels"]
        except DurabilityError:
            # Said by those whose business it is to read the ledger.
            return
        for peer, there in self._there.items():
            hour: Mapping[str, object] = told[peer]["hour"]
            self._told(f"channel {peer}", thresholds.channel(peer, hour, now - there, self._rules.webhook_success))

    def _subagents(self) -> None:
        day = self._report().get("subagents", {}).get("day", {})
        done, failed = day.get("done", 0), day.get("failed", 0)
        self._told("sub-agents", thresholds.subagents(done, done + failed, self._rules.subagent_success))

    async def _journal(self) -> None:
        """Of each gap it is looked up once whether it matters."""
        gaps = self._around.memory.state.gaps
        folder, node = self._around.home.memory, self._around.config.node
        for lost in (one for one in gaps if one not in self._gaps):
            self._gaps[lost] = await asyncio.to_thread(_is_critical, folder, node, lost)
        for lost, matters in list(self._gaps.items()):
            self._told(f"gap {lost.first}", thresholds.gap(lost, str(folder)) if matters and lost in gaps else None)
            if lost not in gaps and not self._alerts.holds(f"gap {lost.first}"):
                del self._gaps[lost]

    def _study(self) -> None:
        book = self._notifier.book
        today = time.strftime("%Y-%m-%d", time.localtime(self._around.clock.time()))
        since = (book.study or today) if _studies(self._around.home.skills / "study.json") else ""
        if since != book.study:
            self._notifier.remember(silent=book.silent, study=since)
        units = self._around.memory.state.units.values()
        self._told("study", thresholds.study(units, since, today, self._rules.study_units) if since else None)

    def _daily_files(self, now: float) -> None:
        limit = size(self._around.config.memory.daily_limit)
        large: dict[str, int] = {}
        with contextlib.suppress(OSError), os.scandir(self._around.home.memory) as entries:
            for entry in entries:
                if entry.name.endswith(".md") and (found := entry.stat().st_size) > limit:
                    large[entry.name] = found
        self._long = {name: self._long.get(name, now) for name in large}
        for name in sorted(large):
            if now - self._long[name] >= _LONG_S:
                told = f"memory/{name} has {readable(large[name])} and could not be compacted"
                mend = "most of it is text of people or agents, or the mode is not normal; mend: move what counts to MEMORY.md"
                self._told("daily file", f"{told}: {mend}")
                return
        self._told("daily file", None)


def _is_critical(folder: Path, node: str, lost: Gap) -> bool:
    from outlast.store.git import shown

    diff = shown(folder, lost.git, _GIT_S) if lost.git else ""
    return thresholds.is_critical(diff, node, lost.first, lost.last)


def _studies(path: Path) -> bool:
    try:
        with regular.opened(path) as file:
            return from_json(file.read(_STUDY_BYTES), dict).get("active") is True
    except (OSError, ValueError):
        return False
