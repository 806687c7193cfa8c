"""Hand-offs that this node makes: intent, message in the outbox, and the peer's confirmation.

Rules kept here: a hand-off is remembered before it is queued, and closed once, by the peer's signed result, or by the news
that it can never be delivered; asking twice for the same unit makes one. Until it is confirmed its text is in a durable file,
the journal where it fits into its INTENT, else ``var/handoffs/UNIT.json``: an outbox that is lost can be filled again.

Left to others: delivery (net.outbox), what the peer does (its work.tasks).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from outlast.clock import Clock
from outlast.core.ids import age, message_id, span_of, trace_of
from outlast.core.plainjson import from_json
from outlast.core.record import one_line
from outlast.core.recovery import Handoff, plan_handoff
from outlast.core.state import Unit, Verdict, intent_phrase, is_whole
from outlast.errors import DurabilityError
from outlast.messages import ArtifactFile, Result, Task, sealed
from outlast.quantity import size
from outlast.settings import Config
from outlast.store import durable
from outlast.store.events import EventLog
from outlast.store.ledger import Ledger
from outlast.store.memory import Memory
from outlast.work.notes import room_for

__all__ = ["Handoffs", "summary"]


# How far the time of an INTENT may be off: it is in the zone where the node was then.
_ZONES_S = 86_400.0


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    peer: str
    text: str
    trace_id: str


class Handoffs:
    """The hand-offs of one node."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        memory: Memory,
        ledger: Ledger,
        events: EventLog,
        clock: Clock,
        wake: Callable[[str], None],
    ) -> None:
        """``folder``: for long texts; ``wake(peer)`` tells the peer's outbox that there is something to send."""
        self._node = config.node
        self._limit = size(config.messages.outbox_limit)
        self._folder = folder
        self._memory = memory
        self._ledger = ledger
        self._events = events
        self._clock = clock
        self._wake = wake
        self._unqueued: set[str] = set()
        self._closed: dict[str, asyncio.Event] = {}

    def make(self, unit: str, peer: str, text: str) -> None:
        """Hand ``text`` to ``peer`` as ``unit``. Once, however often it is asked. Raises DurabilityError; BadInput where too
        much waits for the peer already, and then nothing is remembered.
        """
        known = self._memory.state.units.get(unit)
        if known is not None and (known.status != "open" or known.kind != "handoff"):
            return
        if known is None:
            room_for(self._ledger, peer, len(text.encode()), self._limit)
        # Asked again after a full disk, the intent may be there and the message not: each of the two is done once.
        trace_id = trace_of(unit)
        if not is_whole(one_line(intent_phrase("handoff", peer, text))):
            durable.make_dir(self._folder)
            durable.replace(self._path(unit), msgspec.json.encode(_Kept(peer, text, trace_id)) + b"\n")
        self._memory.intent(unit, "handoff", peer, text)
        try:
            self._queue(unit, peer, text, trace_id)
        except DurabilityError:
            # Whoever asked is told that it failed; the journal is told as soon as it can be written.
            self._unqueued.add(unit)
            raise
        self._unqueued.discard(unit)
        span_id = span_of(unit, "handoff")
        self._events.emit("handoff.made", trace_id=trace_id, span_id=span_id, correlation_id=unit, peer=peer)

    def _queue(self, unit: str, peer: str, text: str, trace_id: str) -> None:
        body = sealed(self._node, peer, trace_id, unit, Task(unit=unit, task=text))
        self._ledger.enqueue(peer, message_id(unit, "task"), body, self._clock.time())
        self._wake(peer)

    def confirmed(self, peer: str, result: Result) -> None:
        """The peer says how a unit ended. A unit that is not ours, or closed, changes nothing. Raises DurabilityError."""
        unit = self._memory.state.units.get(result.unit)
        if unit is None or unit.kind != "handoff" or unit.peer != peer:
            self._events.emit("result.unexpected", correlation_id=result.unit, peer=peer)
            return
        self._close(result.unit, result.verdict, summary(result.detail, result.files))

    def undeliverable(self, unit: str, verdict: Verdict, why: str) -> None:
        """The message about ``unit`` is given up. Raises DurabilityError."""
        self._close(unit, verdict, why)

    def tidy(self) -> None:
        """Close what could not be queued when it was asked for. Raises DurabilityError."""
        for unit in sorted(self._unqueued):
            self._close(unit, "failed", "it was never sent: the disk did not take it")
            self._unqueued.discard(unit)

    def recover(self) -> None:
        """Put right what the last stop left. Raises DurabilityError."""
        for unit, state in self._memory.state.unconfirmed("handoff").items():
            self._memory.confirm(unit, state.closed_as(), state.detail)
        for unit, state in self._memory.state.open("handoff").items():
            msg_id = message_id(unit, "task")
            sent = self._ledger.waiting(msg_id) or self._ledger.delivered(msg_id)
            kept = self._kept(unit, state)
            plan = plan_handoff(Handoff(sent=sent, lost=self._was_lost_since(state), text=kept is not None))
            if plan is None:
                continue
            self._memory.recovered(unit, plan.told)
            if plan.action == "run" and kept is not None:
                self._queue(unit, kept.peer, kept.text, kept.trace_id)
            else:
                self._close(unit, plan.verdict, plan.told)
        self._sweep()

    def _path(self, unit: str) -> Path:
        return self._folder / f"{unit}.json"

    def _kept(self, unit: str, state: Unit) -> _Kept | None:
        """All that was to be handed over; None where that is not known any more."""
        try:
            return from_json(self._path(unit).read_bytes(), _Kept)
        except (OSError, ValueError):
            return _Kept(state.peer, state.what, trace_of(unit)) if is_whole(state.what) else None

    def _was_lost_since(self, state: Unit) -> bool:
        """Was the ledger begun anew after this unit was opened?"""
        began = self._ledger.not_before
        return bool(began) and datetime.fromisoformat(state.since).timestamp() <= began + _ZONES_S

    def _sweep(self) -> None:
        """Forget the texts of what is not open any more, or never was."""
        still_open = self._memory.state.open("handoff")
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder):
                if name.removesuffix(".json") not in still_open:
                    os.unlink(self._folder / name)

    async def wait(self, unit: str, seconds: float) -> None:
        """Wait until ``unit`` is closed, for at most so many seconds."""
        state = self._memory.state.units.get(unit)
        if state is None or state.status != "open":
            return
        event = self._closed.setdefault(unit, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return

    def _close(self, unit: str, verdict: Verdict, detail: str) -> None:
        state = self._memory.state.units.get(unit)
        if state is None or state.confirmed:
            return
        if state.status == "open":
            self._memory.update(unit, verdict, detail)
        else:
            # The disk took the UPDATE and not the CONFIRM: what was said first is what is confirmed.
            verdict, detail = state.closed_as(), state.detail
        self._memory.confirm(unit, verdict, detail)
        with contextlib.suppress(OSError):
            # Left behind it is forgotten at the next start.
            os.unlink(self._path(unit))
        self._events.emit(
            "handoff.closed",
            span_id=span_of(unit, "handoff"),
            correlation_id=unit,
            peer=state.peer,
            verdict=verdict,
            detail=detail,
            seconds=age(unit, self._clock.time()),
        )
        if event := self._closed.pop(unit, None):
            event.set()


def summary(detail: str, files: tuple[ArtifactFile, ...]) -> str:
    """How a unit ended, on one line: its artifact's files, and what the agent said last."""
    detail = one_line(detail, 400)
    names = ", ".join(one_line(file.path) for file in files[:3]) + (", …" if len(files) > 3 else "")
    return f"{names} ({detail})" if names and detail else names or detail
