"""One node: everything of it wired together, and what it answers about itself.

Rules kept here: a start puts right what the last stop left before anything new is taken; a stop takes nothing new, finishes
what it can within its grace, and hands the rest back.

Left to others: the process around it (daemon), each part's own rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Sequence
from typing import Any

from outlast import __version__
from outlast.account import status
from outlast.alerts import Alerts
from outlast.clock import Clock
from outlast.control import Control, Order, node_orders
from outlast.core.overview import overview
from outlast.core.state import State, Verdict
from outlast.errors import DurabilityError, OutlastError
from outlast.health import Health
from outlast.home import Home
from outlast.local import Local
from outlast.messages import Envelope, Result, Share, Status, Task, Trace
from outlast.net.courier import Courier
from outlast.net.exchange import Exchange
from outlast.net.http import HttpLimits
from outlast.net.ingress import Ingress
from outlast.net.intake import Busy, Effect, spans
from outlast.net.outbox import Outbox
from outlast.net.server import HttpServer
from outlast.net.tls import server_context
from outlast.notify import Manager
from outlast.quantity import duration, size
from outlast.settings import Config
from outlast.store import merges
from outlast.store.keyring import Keyring
from outlast.upkeep import Around, Upkeep
from outlast.work.handoffs import Handoffs
from outlast.work.notes import Noted, Notes
from outlast.work.tasks import Tasks

__all__ = ["Node"]

# Only the node's own user comes through the control socket: programs that wait for a confirmation hold a connection each.
_CONTROL = HttpLimits(body_bytes=256 << 10, connections=512)


class Node:
    """A node that is running, or about to."""

    def __init__(self, config: Config, home: Home, keyring: Keyring, clock: Clock) -> None:
        """Open what is on the disk, and put it right. Raises DurabilityError."""
        self.config = config
        self.home = home
        self._clock = clock
        self.since = clock.time()
        self._stopping = False
        self._local = Local(config, home, clock, keyring)
        self.events, self.ledger, self._memory = self._local.events, self._local.ledger, self._local.memory
        self.courier = Courier(config, keyring, self.ledger, clock, home.tls)
        self._local.keys.drained = self.courier.drained
        self.outboxes = {
            peer: Outbox(peer, config, self.ledger, self.courier, self.events, clock, random.uniform, self._given_up)
            for peer in config.peers
        }
        self._shared = self._local.shared
        self.exchanges = {
            peer: Exchange(peer, config, self._shared, self.courier, self.events, clock, random.uniform)
            for peer in config.peers
        }
        self._shared.changed = self._tell_peers
        self.handoffs = Handoffs(config, home.handoffs, self._memory, self.ledger, self.events, clock, self._wake)
        self.notes = Notes(config, self._memory, self.ledger, self.events, clock, self._wake)
        self.tasks = Tasks(config, home, self._memory, self.ledger, self.events, clock, self._wake, self._about_node)
        alerts, causes = Alerts(self.events, clock), dict[str, str]()
        self.health = Health(
            config,
            home,
            self._memory,
            self.courier,
            self.events,
            clock,
            self.heard,
            self._tidy,
            self._local.cleaner,
            alerts,
            causes,
            self._local.keys.trouble,
        )
        around = Around(
            config, home, self._memory, self.ledger, self.events, clock, alerts,
            lambda: self.health.standing, self.health.silence, lambda: status(self), causes,
        )  # fmt: skip
        self.upkeep = Upkeep(around, self.courier, self._local.cleaner.rotate)
        self.orders: dict[str, Order] = {**self._local.orders, **node_orders(self), **self.upkeep.orders()}
        around.orders.update(self.orders)
        self.ingress = Ingress(config, keyring, self.ledger, self, self.events, clock)
        self.tasks.recover()
        self.handoffs.recover()
        self.health.begin()
        self._join_git()
        try:
            self._memory.flush()
        except DurabilityError as error:
            # A full disk: the journal has it all, and the node must be there to say so.
            self.events.emit("state.not_written", error=str(error))

    @property
    def state(self) -> State:
        """What the node remembers."""
        return self._memory.state

    async def run(self, stop: asyncio.Event, manager: Manager | None = None) -> None:
        """Serve until ``stop`` is set, then stop in order; ``manager`` is told so.

        Raises OSError or OutlastError when it cannot listen.
        """
        manager = manager or Manager()
        limits = HttpLimits(body_bytes=size(self.config.messages.body_limit))
        outside = HttpServer(self.ingress, limits, on_error=self._broke)
        inside = HttpServer(Control(self.orders), _CONTROL, on_error=self._broke)
        listen = self.config.listen
        await outside.start_tcp(listen.host, listen.port, server_context(self.home.tls, listen.tls))
        try:
            await inside.start_unix(str(self.home.socket))
            self.events.emit("node.started", version=__version__, pid=os.getpid(), port=self.config.listen.port)
            runs = [self.tasks.run, self.health.run, *self.upkeep.running()]
            work = [asyncio.create_task(run()) for run in runs]
            senders: list[Outbox | Exchange] = [*self.outboxes.values(), *self.exchanges.values()]
            send = [asyncio.create_task(sender.run()) for sender in senders]
            waiting = asyncio.create_task(stop.wait())
            manager.ready(self._in_short())
            beating = asyncio.create_task(self._beat(manager, {*work, *send}))
            try:
                # What the work itself stands on has met what it cannot handle: the service manager starts all of it anew.
                done, _ = await asyncio.wait({*work, *send, waiting}, return_when=asyncio.FIRST_COMPLETED)
                self._stopping = True
                manager.stopping("stopping")
                if waiting in done:
                    await self._finish(work)
            finally:
                await _cancel([*work, *send, waiting, beating])
            for task in done - {waiting}:
                task.result()
        finally:
            await inside.close()
            await outside.close()
            self._local.close()

    async def _beat(self, manager: Manager, parts: set[asyncio.Task[None]]) -> None:
        """Give signs of life, from the event loop that everything runs in, for as long as every part of it runs."""
        while manager.beat_s and not any(part.done() for part in parts):
            manager.alive(self._in_short())
            await asyncio.sleep(manager.beat_s)

    def _in_short(self) -> str:
        """One line about the node, as systemctl shows it."""
        return f"port {self.config.listen.port}, mode {self.health.standing.mode}"

    async def _finish(self, work: list[asyncio.Task[None]]) -> None:
        grace = duration(self.config.stop.grace)
        began = self._clock.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while not self.tasks.idle():
                    await asyncio.sleep(0.02)
        await _cancel(work)
        with contextlib.suppress(DurabilityError):
            returned = self.tasks.hand_back()
            # Told at once where that is possible; the outbox keeps it otherwise.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    while any(self.ledger.queued(peer) and not box.last_error for peer, box in self.outboxes.items()):
                        await asyncio.sleep(0.02)
            self._memory.flush()
            self.events.emit(
                "node.stopped", returned=returned, seconds=round(self._clock.monotonic() - began, 3), pid=os.getpid()
            )

    def accept(self, envelope: Envelope) -> Effect:
        """Take a message that has passed the door. Raises Busy, BadInput or DurabilityError."""
        message = envelope.message
        if isinstance(message, Task):
            if reasons := self.reasons():
                raise Busy(reasons[0])
            self.tasks.accept(envelope, message)
            return Effect(message.unit)
        if isinstance(message, Result):
            self.handoffs.confirmed(envelope.sender, message)
            return Effect(message.unit)
        if isinstance(message, Share):
            holding = self._shared.take(message.holding, message.entries, whole=message.whole)
            self.exchanges[envelope.sender].told(message.holding)
            return Effect(spans(message.entries), holding=holding)
        if isinstance(message, Trace):
            from outlast.work.tracing import for_peer

            return Effect(message.id, trace=for_peer(self.home, self.config.node, envelope.sender, message.id))
        if isinstance(message, Status):
            return Effect(overview=overview(status(self)))
        return Effect()

    def note(self, notes: Sequence[Noted]) -> list[str]:
        """Take notes that have passed the door; returns what they are called. Raises DurabilityError."""
        return self.notes.take(notes)

    def heard(self, peer: str) -> None:
        """A peer gave a sign of life: what waits for it is sent."""
        self.health.heard(peer)
        self.outboxes[peer].heard()
        self.exchanges[peer].heard()

    def reasons(self) -> list[str]:
        """Why no work can be taken now, in words that tell an outsider nothing; empty when it can."""
        reasons = []
        if self._stopping:
            reasons.append("stopping")
        if self.health.standing.mode in {"emergency", "maintenance"}:
            reasons.append(self.health.standing.mode)
        if not os.access(self.config.agent.command[0], os.X_OK):
            reasons.append("agent command missing")
        if not os.access(self.home.workspace, os.W_OK):
            reasons.append("workspace read-only")
        if not self.health.can_write:
            reasons.append("writes fail")
        return reasons

    async def ping(self, peer: str) -> dict[str, Any]:
        """A signed round trip to ``peer``: milliseconds and clock skew in seconds. Raises PeerError."""
        answer = await self.courier.ping(peer)
        self.heard(peer)
        return {"peer": peer, "ok": True, "ms": round(answer.seconds * 1000, 2), "skew_s": round(answer.skew, 3)}

    async def trace(self, name: str) -> dict[str, Any]:
        """What each peer knows of a message, unit or trace."""
        from outlast.net.inquiry import inquire

        return {"peers": await inquire(self.courier, self.config.node, self.config.peers, name)}

    def services(self) -> dict[str, str]:
        """How the parts of it are that others may want to see."""
        missing = "agent command missing" in self.reasons()
        agent = "missing" if missing else "working" if self.tasks.running else "ready"
        return {"ingress": "up", "outbox": "up", "agent": agent}

    def _about_node(self) -> dict[str, object]:
        return {
            "name": self.config.node,
            "mode": self.health.standing.mode,
            "services": self.services(),
            "skew_s": self.courier.skew,
        }

    def _wake(self, peer: str) -> None:
        if peer in self.outboxes:
            self.outboxes[peer].wake()

    def _tell_peers(self) -> None:
        for exchange in self.exchanges.values():
            exchange.wake()

    def _tidy(self) -> None:
        self.handoffs.tidy()
        # Compaction is the first to be shed (spec.md, section 6).
        self._local.tend(compact=self.health.standing.mode == "normal")

    def _join_git(self) -> None:
        """Where the workspace is in a git repository, git learns how our files are merged."""
        try:
            if (done := merges.install(self.home)).changed:
                self.events.emit("git.merge_driver", told=done.told)
        except OutlastError as error:
            self.events.emit("git.merge_driver", error=str(error))

    def _given_up(self, peer: str, msg_id: str, verdict: Verdict, why: str) -> None:
        kind, _, unit = msg_id.partition("_")
        if kind == "task":
            self.handoffs.undeliverable(unit, verdict, why)
        elif kind == "note":
            self.notes.undeliverable(unit, peer, why)
        else:
            self._memory.recovered(unit, f"its result could not be told to {peer}: {why}")

    def _broke(self, error: BaseException) -> None:
        self.events.burst("server.error", type(error).__name__, error=str(error))


async def _cancel(tasks: list[asyncio.Task[Any]]) -> None:
    while left := {task for task in tasks if not task.done()}:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=1.0)
