"""The outbox: messages that were promised, sent in order, until each peer has taken them.

Rules kept here: at most once on the wire at a time, oldest first; a failure waits (backoff with full jitter), several in
a row open the circuit breaker; a peer that is heard again is tried at once; what is refused for good, or too old, is taken
out and named, never dropped in silence. The id of a message never changes, so that sending again is safe.

Left to others: durability (store.ledger), the request itself (net.courier), the decisions (core.backoff, core.breaker).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from outlast.clock import Clock, iso
from outlast.core import breaker
from outlast.core.backoff import delay, lifted
from outlast.core.lasthour import LastHour
from outlast.core.state import Verdict
from outlast.errors import DurabilityError, PeerError, UnreachableError
from outlast.messages import sent_span
from outlast.net.courier import Answer, Courier
from outlast.quantity import duration
from outlast.settings import Config
from outlast.store.events import EventLog
from outlast.store.ledger import Ledger, Outgoing

__all__ = ["Outbox"]

# Answers that will not change when the same message is sent again.
_FINAL = {400, 404, 405, 413, 422}
_LOOK_S = 1.0


class Outbox:
    """Everything that waits for one peer."""

    def __init__(
        self,
        peer: str,
        config: Config,
        ledger: Ledger,
        courier: Courier,
        events: EventLog,
        clock: Clock,
        uniform: Callable[[float, float], float],
        given_up: Callable[[str, str, Verdict, str], None],
    ) -> None:
        """``given_up(peer, message id, verdict, why)`` is called, once, for a message that will never be delivered."""
        self.breaker = breaker.BreakerState()
        # Why what waits is not sent, and when that was last so.
        self.last_error, self.error_at = "", 0.0
        self._peer = peer
        self._retry = config.retry
        self._failures = config.breaker.failures
        self._cooldown = duration(config.breaker.cooldown)
        self._keep = config.messages.keep
        # However long a peer asks us to wait, it is tried again after this.
        self._patience = max(self._cooldown, duration(config.retry.max))
        self._ledger = ledger
        self._courier = courier
        self._events = events
        self._clock = clock
        self._uniform = uniform
        self._given_up = given_up
        self._wake = asyncio.Event()
        self._hour = LastHour(clock.monotonic())
        # How many messages were given up since the start, and the last of them.
        self._dropped = 0
        self._dropped_last = ""
        self._attempt = 0
        self._tried = ""
        # No request before this monotonic second; a sign of life lifts it, unless it is the peer's rate limit.
        self._not_before = 0.0
        # When the last request began, in monotonic seconds.
        self._asked_at = 0.0
        self._asked_to_wait = False
        # Nobody was there when it was last tried; and that was because it had been seen.
        self._away = self._seen = False

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    def report(self) -> dict[str, Any]:
        """How sending to the peer went, as ``outlast channel --json`` prints it. Raises DurabilityError."""
        now = self._clock.monotonic()
        waits = self._ledger.next_outgoing(self._peer)
        pause = max(0.0, self._not_before - now, breaker.opens_in(self.breaker, now, self._cooldown))
        return {
            "oldest_queued": waits and iso(waits.queued),
            "next_try_s": round(pause, 1) if waits else None,
            "hour": self.hour(),
            "given_up": self._dropped,
            "given_up_last": self._dropped_last,
        }

    def hour(self) -> dict[str, Any]:
        """What became of the requests of the last hour."""
        hour = self._hour.tally(self._clock.monotonic())
        return {
            "tried": hour.tried,
            "taken": hour.taken,
            "retries": hour.retries,
            "success": hour.success,
            "watched_s": round(hour.seconds),
        }

    def heard(self) -> None:
        """The peer gave a sign of life: what waits for it need not wait longer."""
        if self._not_before and not self._asked_to_wait:
            self.breaker = breaker.heard(self.breaker, self._clock.monotonic(), self._cooldown)
            self._not_before = lifted(self._not_before, self._asked_at)
            self._wake.set()

    async def run(self) -> None:
        """Send for ever, until cancelled."""
        while True:
            self._wake.clear()
            try:
                pause = await self._step()
            except DurabilityError as error:
                # The message stays; whether it was delivered is settled when it is sent again under the same id.
                self._events.burst("outbox.failed", str(error), peer=self._peer)
                pause = duration(self._retry.max)
            await self._rest(pause)

    async def _rest(self, pause: float | None) -> None:
        """Wait so many seconds, or until there is something to do. Whom nobody could reach is looked for meanwhile: that it is
        back must be noticed sooner than the breaker's trial, also where only the network was away.
        """
        loop = asyncio.get_running_loop()
        until = None if pause is None else loop.time() + pause
        # Not wait_for: before Python 3.12 it can swallow the cancellation of this task.
        waiter = asyncio.ensure_future(self._wake.wait())
        look: asyncio.Task[bool] | None = None
        try:
            while until is not None and until - loop.time() > _LOOK_S and not self._asked_to_wait:
                await asyncio.wait({waiter}, timeout=_LOOK_S)
                look = asyncio.create_task(self._courier.alive(self._peer, _LOOK_S))
                await asyncio.wait({waiter, look}, return_when=asyncio.FIRST_COMPLETED)
                if waiter.done():
                    return
                if look.result() and self._away:
                    self._seen = True
                    self.heard()
                    return
                self._away = not look.result()
            await asyncio.wait({waiter}, timeout=None if until is None else max(0.0, until - loop.time()))
        finally:
            waiter.cancel()
            if look:
                look.cancel()

    async def _step(self) -> float | None:
        """Send what can be sent. Returns how many seconds to wait for, None for as long as nothing happens."""
        while (out := self._ledger.next_outgoing(self._peer)) is not None:
            now = self._clock.monotonic()
            # Tried at least once since the start: a clock that jumped must not drop what could be delivered.
            if self._tried == out.id and self._clock.time() - out.queued > duration(self._keep):
                why = f"its delivery was not confirmed within {self._keep} (messages.keep)"
                self._give_up(out, 0, why, "in doubt")
                continue
            if now < self._not_before:
                return self._not_before - now
            if not breaker.allows(self.breaker, now, self._cooldown):
                return breaker.opens_in(self.breaker, now, self._cooldown)
            self.breaker = breaker.started(self.breaker)
            again, self._tried, self._asked_at = self._tried == out.id, out.id, now
            try:
                answer = await self._courier.deliver(self._peer, out.id, out.body)
            except PeerError as error:
                self._hour.count(self._clock.monotonic(), taken=False, retry=again)
                # One that is seen and yet takes nothing is left to the breaker.
                self._away = isinstance(error, UnreachableError) and not self._seen
                self._seen = False
                self._failed(str(error))
                continue
            except BaseException:
                self.breaker = breaker.failed(self.breaker, self._clock.monotonic(), self._failures)
                raise
            self._hour.count(self._clock.monotonic(), taken=answer.reply.accepted, retry=again)
            self.breaker = breaker.succeeded(self.breaker)
            self._answered(out, answer)
        # Trouble with what does not wait any more is none.
        self.last_error = ""
        return None

    def _answered(self, out: Outgoing, answer: Answer) -> None:
        if answer.reply.accepted:
            self._ledger.settle(self._peer, out, answer.reply.status, self._clock.time())
            self._attempt, self._not_before, self.last_error = 0, 0.0, ""
            self._events.emit("message.delivered", **self._about(out), status=answer.reply.status)
            return
        if answer.reply.status in _FINAL:
            self._give_up(out, answer.reply.status, f"{self._peer} refused it: {answer.reply.reason}", "failed")
            return
        # The peer is there, and asks for patience: that is no failure of the channel.
        self.last_error, self.error_at = f"{self._peer}: {answer.reply.reason}", self._clock.time()
        self._wait(
            max(min(answer.reply.retry_after, self._patience), self._backoff()), asked=answer.reply.status == 429
        )
        self._attempt += 1

    def _failed(self, why: str) -> None:
        self.breaker = breaker.failed(self.breaker, self._clock.monotonic(), self._failures)
        self.last_error, self.error_at = why, self._clock.time()
        pause = self._backoff()
        self._attempt += 1
        self._events.burst("message.undelivered", why, peer=self._peer, breaker=self.breaker.status)
        if self._attempt >= self._retry.attempts:
            # A round is over. The next begins with a sign of life from the peer, or with the breaker's trial.
            self._attempt = 0
            self.breaker = breaker.failed(self.breaker, self._clock.monotonic(), 1)
        self._wait(max(pause, breaker.opens_in(self.breaker, self._clock.monotonic(), self._cooldown)), asked=False)

    def _wait(self, seconds: float, *, asked: bool) -> None:
        self._not_before = self._clock.monotonic() + seconds
        self._asked_to_wait = asked

    def _backoff(self) -> float:
        retry = self._retry
        return delay(self._attempt, duration(retry.base), duration(retry.max), self._uniform)

    def _give_up(self, out: Outgoing, status: int, why: str, verdict: Verdict) -> None:
        # Told before it is forgotten: after a crash in between it is told twice, which changes nothing.
        self._given_up(self._peer, out.id, verdict, why)
        self._ledger.settle(self._peer, out, status, self._clock.time())
        self._dropped += 1
        self._dropped_last = f"{out.id}, queued {iso(out.queued)}: {why}"
        self._events.emit("message.given_up", **self._about(out), queued=iso(out.queued), why=why)

    def _about(self, out: Outgoing) -> dict[str, Any]:
        seconds = round(max(0.0, self._clock.time() - out.queued), 3)
        return {**sent_span(out.id, out.body), "id": out.id, "peer": self._peer, "seq": out.seq, "seconds": seconds}
