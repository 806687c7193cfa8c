"""Bringing a peer up to date with what the nodes know together, and only with what it lacks.

Rules kept here:

* At a start, and where nothing is known of the peer, an empty Share asks what it holds; then it is sent what it lacks, in
  batches, until it lacks nothing. Whoever finds out that the peer lacks something sends it; nobody asks for entries.
* Idle nodes send nothing: what a peer holds is known from its last answer or its last Share.
* Where both claim to hold the same and the sums differ (a damaged file, a node put back to an old backup, another
  ``shared.priority``), all entries of the agents concerned are sent, at most once a ``breaker.cooldown``.
* A peer that does not answer is left alone until it is heard, and where something waits for it, tried again after the breaker's
  cooldown; one that asks for patience gets it. The outbox has its own way: neither waits for the other.

Left to others: the request itself (net.courier), durability and merging (work.shared).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from math import inf
from typing import Literal, Protocol

import msgspec

from outlast.clock import Clock
from outlast.core.backoff import delay, lifted
from outlast.core.crdt import Entry, Holding, differing
from outlast.core.ratelimit import Bucket, take
from outlast.errors import DurabilityError, PeerError
from outlast.messages import Share, sealed
from outlast.net.courier import Answer, Courier
from outlast.quantity import duration
from outlast.settings import Config
from outlast.store.events import EventLog

__all__ = ["Exchange", "Knowledge"]

# With the largest entry and the holding of 64 agents a body stays below the least ``messages.body_limit``.
_BATCH_BYTES = 96 << 10
_BATCH_ENTRIES = 4096


class Knowledge(Protocol):
    """What is exchanged. Every method raises DurabilityError."""

    def holding(self) -> Holding:
        """What is held here, in short."""

    def heed(self, holding: Holding) -> None:
        """A peer said what it holds."""

    def lacking(self, have: dict[str, int]) -> list[Entry]:
        """The entries that somebody with this ``have`` lacks, ascending."""

    def of(self, agents: Iterable[str]) -> list[Entry]:
        """All entries of these agents."""


class Exchange:
    """The exchange with one peer, as far as this node has to speak in it."""

    def __init__(
        self,
        peer: str,
        config: Config,
        shared: Knowledge,
        courier: Courier,
        events: EventLog,
        clock: Clock,
        uniform: Callable[[float, float], float],
    ) -> None:
        # Why what the peer lacks is not sent, and when that was last so.
        self.last_error, self.error_at = "", 0.0
        self._peer = peer
        self._node = config.node
        self._shared = shared
        self._courier = courier
        self._events = events
        self._clock = clock
        self._uniform = uniform
        self._base, self._max = duration(config.retry.base), duration(config.retry.max)
        self._failures = config.breaker.failures
        self._cooldown = duration(config.breaker.cooldown)
        self._rate, self._window = config.shared.rate, duration(config.messages.rate_window)
        self._bucket: Bucket | None = None
        self._wake = asyncio.Event()
        # What the peer said last that it holds.
        self._theirs: Holding | None = None
        # What is still to be sent again because the sums differ.
        self._again: list[Entry] = []
        self._mended = -self._cooldown
        self._attempt = 0
        self._not_before = 0.0
        # When the last request began, in monotonic seconds.
        self._asked_at = 0.0
        # What ends the wait early: any sign of life, only a Share of the peer's, or nothing.
        self._until: Literal["sign", "share", "time"] = "sign"

    def wake(self) -> None:
        """Something changed here."""
        self._wake.set()

    def heard(self) -> None:
        """The peer gave a sign of life."""
        if self._attempt and self._until == "sign":
            self._not_before = lifted(self._not_before, self._asked_at)
            self._wake.set()

    def told(self, holding: Holding) -> None:
        """The peer said, in a Share of its own, what it holds."""
        self._theirs = holding
        if self._until != "time":
            self._not_before = 0.0
        self._wake.set()

    async def run(self) -> None:
        """Keep the peer up to date for ever, until cancelled."""
        while True:
            self._wake.clear()
            try:
                pause = await self.step()
            except DurabilityError as error:
                self._events.burst("share.failed", str(error), peer=self._peer)
                pause = self._max
            waiter = asyncio.ensure_future(self._wake.wait())
            try:
                await asyncio.wait({waiter}, timeout=pause)
            finally:
                waiter.cancel()

    async def step(self) -> float | None:
        """Send what is to be sent now. Returns how many seconds to wait for, None for as long as nothing happens."""
        while (share := self._next()) is not None:
            now = self._clock.monotonic()
            if now < self._not_before:
                return None if self._not_before == inf else self._not_before - now
            self._bucket, wait = take(self._bucket, now, self._rate, self._window)
            if wait:
                return wait
            self._asked_at = now
            try:
                answer = await self._send(share)
            except PeerError as error:
                self._failed(str(error))
                continue
            self._answered(share, answer)
        # Trouble with what does not wait any more is none.
        self.last_error = ""
        return None

    def _next(self) -> Share | None:
        """What is to be said next; None where there is nothing to say."""
        ours, theirs = self._shared.holding(), self._theirs
        if theirs is None:
            return Share(ours)
        if any(seq > theirs.have.get(agent, 0) for agent, seq in ours.have.items()):
            entries = self._shared.lacking(theirs.have)
            batch = _batch(entries)
            return Share(ours, batch, whole=len(batch) == len(entries))
        if self._again:
            return Share(ours, _batch(self._again))
        differ = differing(ours, theirs)
        if differ and self._clock.monotonic() - self._mended >= self._cooldown:
            self._mended = self._clock.monotonic()
            self._again = self._shared.of(differ)
            self._events.emit("share.differs", peer=self._peer, agents=differ, entries=len(self._again))
            # The peer must learn of it also where we hold nothing.
            return Share(ours, _batch(self._again))
        return None

    async def _send(self, share: Share) -> Answer:
        body = sealed(self._node, self._peer, secrets.token_hex(16), "share", share)(0)
        return await self._courier.deliver(self._peer, f"share_{secrets.token_hex(10)}", body)

    def _answered(self, share: Share, answer: Answer) -> None:
        reply = answer.reply
        if reply.accepted and reply.holding is not None:
            self._theirs = reply.holding
            self._shared.heed(reply.holding)
            if share.entries == tuple(self._again[: len(share.entries)]):
                self._again = self._again[len(share.entries) :]
            self._attempt, self._not_before, self.last_error = 0, 0.0, ""
            # What the peer has that we lack it sends by itself: it learnt from this Share what we hold.
            return
        self.last_error = f"{self._peer}: {reply.reason or f'answered {reply.status}'}"
        self.error_at = self._clock.time()
        patience = reply.status in (429, 503)
        self._events.burst("share.not_taken", self.last_error, peer=self._peer)
        self._pause(
            max(min(float(reply.retry_after), self._cooldown), self._backoff()) if patience else self._cooldown,
            "time" if patience else "share",
        )

    def _failed(self, why: str) -> None:
        self.last_error, self.error_at = why, self._clock.time()
        self._events.burst("share.undelivered", why, peer=self._peer)
        if self._attempt + 1 < self._failures:
            self._pause(self._backoff(), "sign")
        else:
            # Nothing waits for a peer of which nothing is known: it will be heard, or ask us itself.
            self._pause(inf if self._theirs is None else self._cooldown, "sign")

    def _backoff(self) -> float:
        return delay(self._attempt, self._base, self._max, self._uniform)

    def _pause(self, seconds: float, until: Literal["sign", "share", "time"]) -> None:
        self._attempt += 1
        self._not_before = self._clock.monotonic() + seconds
        self._until = until


def _batch(entries: list[Entry]) -> tuple[Entry, ...]:
    """The first of some entries, as many as one message may carry: one at least, where there is one."""
    room = _BATCH_BYTES
    for count, entry in enumerate(entries[:_BATCH_ENTRIES]):
        room -= len(msgspec.json.encode(entry)) + 1
        if room < 0:
            return tuple(entries[: max(count, 1)])
    return tuple(entries[:_BATCH_ENTRIES])
