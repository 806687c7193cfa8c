"""Lets OpenClaw's agent know what is no task: notes, escalations of sub-agents, and alerts that cannot wait.

Notes and escalations are records of the journal, so that nothing is lost between it and here: how far it was looked at is
known by a record's number, over any end of ours. Alerts that are not urgent are left to HEARTBEAT.md, which the agent
reads without a turn of its own.

Rules kept here: in order; several at once are one message, because each costs the owner a turn; what is told, and what waits,
is on the disk before it counts; while the gateway is away all waits, and what is dropped is an event.

Left to others: deciding (core.feeding), the door (openclaw.hooks), tasks (openclaw.turn).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from outlast.core import feeding
from outlast.core.feeding import Book
from outlast.core.record import Record, Step, one_line
from outlast.errors import BadInput, DurabilityError, GatewayError, KeyFileError
from outlast.openclaw import hooks, rpc
from outlast.openclaw.place import Place
from outlast.openclaw.settings import OpenClaw
from outlast.store import durable
from outlast.store.kept import read_kept
from outlast.work.subagents import FEATURE

if TYPE_CHECKING:
    from outlast.control import Order
    from outlast.upkeep import Around

__all__ = ["Feed"]

# The gateway lets a session begin one turn for such a message in half a minute.
_LOOK_S, _PAUSE_S = 3.0, 30.0
_RPC_S = 20.0
_OURS = ("part openclaw", "openclaw", "gateway")


class Feed:
    """What the agent of one node is told. Made only where the node has an OpenClaw."""

    def __init__(
        self, around: Around, settings: OpenClaw, *, look_s: float = _LOOK_S, pause_s: float = _PAUSE_S
    ) -> None:
        """Read what waits. ``look_s``, ``pause_s``: seconds between two looks, and between two messages at least."""
        self._around = around
        self._place = Place(around.home, settings)
        self._look_s, self._pause_s = look_s, pause_s
        self._path = self._place.turns / "feed.json"
        kept = read_kept(self._path, Book, around.home.trash, around.events, around.clock, "feed.forgotten")
        # What was in the journal before there was an agent to tell is not news.
        self._kept = self.book = kept or Book(cursor=around.memory.journal.seq)
        self._trouble = ""

    def orders(self) -> dict[str, Order]:
        """What the command asks for."""
        return {"openclaw/feed": lambda _: self.report()}

    def report(self) -> dict[str, Any]:
        """How telling goes: what waits, what was given and not taken up yet, and what stands in the way."""
        items = self.book.items
        return {
            "waiting": sum(not item.given for item in items),
            "given": sum(bool(item.given) for item in items),
            "dropped": self.book.dropped[2],
            "trouble": self._trouble if items else "",
        }

    async def run(self) -> None:
        """Tell for ever, until cancelled."""
        while True:
            told = await self.step()
            await asyncio.sleep(self._pause_s if told else self._look_s)

    async def step(self) -> bool:
        """Look for news, and tell what waits; whether anything was told."""
        self._take_in()
        if not self.book.items or not self._around.pace("P1"):
            return False
        try:
            return await self._tell()
        except (GatewayError, KeyFileError, BadInput) as error:
            if str(error) != self._trouble:
                self._around.events.burst("feed.waits", "feed", why=str(error))
            self._trouble = str(error)
            return False

    async def _tell(self) -> bool:
        clock, agent = self._around.clock, self._place.settings.agent
        started = await hooks.started(self._place, clock.time())
        if any(item.given for item in self.book.items):
            self.book = feeding.seen(self.book, started, await self._turned(agent))
            self._keep()
        told = feeding.waiting(self.book)
        if told:
            text = feeding.message(self.book, told)
            await hooks.wake(self._place, agent, text, f"outlast-feed-{told[0].number}-{told[-1].number}")
            self.book = feeding.given(self.book, told, started, clock.time())
            self._keep()
            self._around.events.emit("feed.given", first=told[0].number, last=told[-1].number, count=len(told))
        self._trouble = ""
        return bool(told)

    async def _turned(self, agent: str) -> float:
        """When the last turn of the agent's main session began, in seconds since 1970; 0 where that is not known."""
        found = await rpc.call(self._place, "sessions.describe", {"key": f"agent:{agent}:main"}, timeout=_RPC_S)
        session = found.get("session") if isinstance(found, dict) else None
        began = session.get("startedAt") if isinstance(session, dict) else None
        return began / 1000 if isinstance(began, int | float) else 0.0

    def _take_in(self) -> None:
        """News since the last look."""
        journal, alerts = self._around.memory.journal, self._around.alerts
        now, before = self._around.clock.time(), self.book.dropped[2]
        news: list[str] = []
        seq = journal.seq
        if seq != self.book.cursor:
            try:
                news = list(_news(journal.since(min(self.book.cursor, seq))))
            except OSError as error:
                # It is looked at again; whoever watches the disk says why.
                self._trouble = f"the journal cannot be read: {error.strerror or error}"
                return
        holding = {alert.name: alert for alert in alerts.raised if alert.urgency == "now" and not _is_ours(alert.name)}
        news += [one_line(f"alert: {one.text}", 400) for name, one in holding.items() if name not in self.book.alerts]
        book = replace(self.book, cursor=seq, alerts=tuple(sorted(holding)))
        if news or book.items:
            book = feeding.add(book, news, now)
        if book.dropped[2] > before:
            self._around.events.emit("feed.dropped", first=book.dropped[0], last=book.dropped[1], count=book.dropped[2])
        self.book = book
        self._keep()

    def _keep(self) -> None:
        """Write the book where more than its cursor changed: records that say nothing to an agent are looked at again."""
        if replace(self.book, cursor=0) == replace(self._kept, cursor=0) and self._path.exists():
            return
        try:
            durable.make_dir(self._path.parent)
            durable.replace(self._path, msgspec.json.encode(self.book) + b"\n")
            self._kept = self.book
        except DurabilityError as error:
            self._around.events.burst("feed.not_kept", str(error))


def _news(records: Iterable[Record]) -> Iterable[str]:
    for record in records:
        if record.step is Step.NOTE and (record.unit == FEATURE or record.what.startswith(("from ", "outside "))):
            yield record.what


def _is_ours(name: str) -> bool:
    """An alert about the gateway itself: the agent in it cannot help."""
    return name.startswith(_OURS)
