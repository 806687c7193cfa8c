"""The heartbeat monitor: looks at the disk, the siblings and HEARTBEAT.md, and keeps the node's mode.

Rules kept here: looking costs no write; a mode is journalled, logged and shown in HEARTBEAT.md only when it changes.

Left to others: the decision (core.modes), what is shed in a mode.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import psutil

from outlast.clock import Clock
from outlast.config import Config
from outlast.core.modes import Observed, Standing, Thresholds, decide, resume
from outlast.core.state import MODE, RESUMED
from outlast.errors import BadInput, DurabilityError, PeerError
from outlast.home import Home
from outlast.net.courier import Courier
from outlast.quantity import duration
from outlast.store import heartbeat
from outlast.store.events import EventLog
from outlast.store.memory import Memory

__all__ = ["Health"]


class Health:
    """The health of one node."""

    def __init__(
        self,
        config: Config,
        home: Home,
        memory: Memory,
        courier: Courier,
        events: EventLog,
        clock: Clock,
        alive: Callable[[str], None],
        tidy: Callable[[], None],
    ) -> None:
        """``alive(peer)`` is called when a peer answers (it is expected to call ``heard``), ``tidy()`` at each check."""
        cause = (memory.state.emergency,) if memory.state.emergency else ()
        self.standing = Standing("emergency", cause, cause) if cause else Standing()
        self.disk = 0.0
        self._home = home
        self._memory = memory
        self._courier = courier
        self._events = events
        self._clock = clock
        self._alive = alive
        self._tidy = tidy
        self._interval = duration(config.health.interval)
        self._limits = Thresholds(
            config.health.disk_degraded, config.health.disk_emergency, duration(config.health.sibling_silent)
        )
        self._present: set[str] = set()
        # A sibling is given the whole of its time from our own start.
        self._heard = dict.fromkeys(config.peers, clock.monotonic())

    def heard(self, peer: str) -> None:
        """A peer gave a sign of life."""
        self._heard[peer] = self._clock.monotonic()

    async def run(self) -> None:
        """Check for ever, until cancelled."""
        greeting: set[asyncio.Task[None]] = set()
        try:
            while True:
                # A peer that does not answer must not delay the check: that is what a person's order waits for.
                greeting = greeting or {asyncio.create_task(self._greet(peer)) for peer in self._heard}
                await asyncio.sleep(self._interval)
                greeting = {task for task in greeting if not task.done()}
                self.check()
                with contextlib.suppress(DurabilityError):
                    self._tidy()
        finally:
            for task in greeting:
                task.cancel()

    async def _greet(self, peer: str) -> None:
        """See whether a peer is there; one that has come back, or is seen first, is greeted with a signed ping.

        The greeting tells the peer that we are back, so that what waits there for us is sent, and measures its clock.
        """
        alive = await self._courier.alive(peer)
        if alive and peer not in self._present:
            try:
                await self._courier.ping(peer)
            except (PeerError, DurabilityError) as error:
                self._events.burst("peer.not_greeted", str(error), peer=peer)
                return
        if alive != (peer in self._present):
            self._events.emit("peer.back" if alive else "peer.gone", peer=peer)
        if alive:
            self._present.add(peer)
            self._alive(peer)
        else:
            self._present.discard(peer)

    def check(self) -> None:
        """Look once, and change the mode if that is what follows."""
        now = self._clock.monotonic()
        self.disk = psutil.disk_usage(str(self._home.workspace)).percent
        try:
            maintenance = heartbeat.asks_maintenance(self._home.heartbeat)
        except OSError:
            maintenance = self.standing.mode == "maintenance"
        seen = Observed(self.disk, {peer: now - at for peer, at in self._heard.items()}, maintenance)
        self._enter(decide(self.standing, seen, self._limits))

    def begin(self) -> None:
        """Look for the first time, before anything is taken, and put right what HEARTBEAT.md says of us."""
        self.check()
        self._show()

    def resume(self, reason: str) -> None:
        """A person clears an emergency, for a reason that is kept. Raises BadInput where there is none, DurabilityError."""
        if not self.standing.emergency:
            raise BadInput(
                "resume", f"there is no emergency, the mode is {self.standing.mode}", "nothing is to be done"
            )
        self._memory.note(MODE, f"{RESUMED}{reason}")
        self.standing = resume(self.standing)
        self.check()

    def _enter(self, standing: Standing) -> None:
        before, self.standing = self.standing, standing
        if standing.mode == before.mode:
            return
        why = "; ".join(standing.reasons) or "the causes are gone"
        self._events.emit("mode.changed", mode=standing.mode, before=before.mode, why=why)
        try:
            self._memory.note(MODE, f"{standing.mode}: {why}")
        except DurabilityError as error:
            self._events.emit("mode.not_written", error=str(error))
        self._show()

    def _show(self) -> None:
        mode, why = self.standing.mode, "; ".join(self.standing.reasons)
        try:
            heartbeat.show(self._home.heartbeat, "" if mode == "normal" else f"Outlast: {mode}, {why}")
        except (DurabilityError, OSError) as error:
            self._events.emit("mode.not_shown", error=str(error))
