"""Sub-agents: what this node's agents hand on to programs that are shut in, limited, and judged (spec.md, sections 5 and 8).

Rules kept here:

* accepted means: ``var/subagents/ID/ticket.json`` is on the disk; the same id is never taken twice, and runs again after a
  restart, each begun run counted;
* what fails is queued again; what failed ``attempts`` times is given up: the journal tells the main agent, an alert the
  person, and the third within a day switches the feature off until a person turns it on (F5);
* what a run left is integrated only when it was found right, and only where ``write:artifacts`` was allowed. "Made" is on the
  disk before that, so that a crash in between integrates it and runs nothing again;
* nothing counts here before it is on the disk; what the disk did not take is written again later, and nothing else repeated;
* a defect in the work on one ticket ends that ticket, and not the node;
* they are shed with the rest of P1: in an emergency and in maintenance none begins.

Left to others: a run and what it made (work.workshop), the door (work.gate), what an order must be (work.spawning), being
switched off (work.features).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec.structs import replace

from outlast.clock import iso
from outlast.core.features import DAY_S
from outlast.core.ids import span_of, trace_of
from outlast.core.record import one_line
from outlast.errors import BadInput, DurabilityError, OutlastError
from outlast.quantity import duration
from outlast.store import durable
from outlast.work.features import Features
from outlast.work.handoffs import summary
from outlast.work.leavings import Leavings
from outlast.work.marks import end_leftovers
from outlast.work.process import within
from outlast.work.spawned import (
    Ending,
    Named,
    Spawn,
    Ticket,
    Waiting,
    ended_last,
    ended_since,
    left_open,
    outward,
    put_away,
    read_ticket,
    told,
    write_ticket,
)

if TYPE_CHECKING:
    from outlast.control import Order
    from outlast.upkeep import Around
    from outlast.work.cell import Heard
    from outlast.work.workshop import Workshop

__all__ = ["SubAgents"]

FEATURE = "subagents"
_LOOK_S = 5.0
_DETAIL = 200


class SubAgents:
    """The sub-agents of one node."""

    def __init__(self, around: Around) -> None:
        """Take up what the last stop left. Raises DurabilityError."""
        self.features = Features(around)
        self.features.changed = self._changed
        self._around = around
        self._home = around.home
        self._config = around.config.subagents
        self._workshop: Workshop | None = None
        self._wake = asyncio.Event()
        self._leavings = Leavings(around.home.subagents)
        self._open: dict[str, Ticket] = {}
        self._unwritten: dict[str, Ticket] = {}
        self._queue: deque[str] = deque()
        self._running: dict[str, Heard] = {}
        self._closed: dict[str, asyncio.Event] = {}
        self._alerted: dict[str, float] = {}
        self._day: deque[tuple[float, bool]] = deque()
        self._recover()

    def orders(self) -> dict[str, Order]:
        """What the command asks for."""
        return {
            **self.features.orders(),
            "subagents/spawn": self._spawn,
            "subagents/show": lambda body: self._shown(msgspec.json.decode(body, type=Named).id),
            "subagents/ls": lambda _: {**self.report(), "ended": ended_last(self._home)},
            "subagents/wait": self._wait,
            "subagents/end": self._end,
        }

    def report(self) -> dict[str, Any]:
        """What runs, what waits, and how many of the last day's were done."""
        self._forget_old()
        done, sandbox = sum(ok for _, ok in self._day), self._workshop.sandbox if self._workshop else None
        return {
            "off": {FEATURE: why} if (why := self.features.off(FEATURE)) else {},
            "sandbox": sandbox.kind if sandbox else "",
            "sandbox_trouble": sandbox.trouble if sandbox else "",
            "running": {name: self._line(name, "running") for name in self._running if name in self._open},
            "queued": {name: self._line(name, "queued") for name in self._queue if not self._open[name].ended},
            "day": {
                "done": done,
                "failed": len(self._day) - done,
                "success": round(done / len(self._day), 3) if self._day else None,
            },
        }

    async def run(self) -> None:
        """Run what waits, as many at once as may be, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._leavings.run())
                while True:
                    self._wake.clear()
                    for name in self._due():
                        self._running[name] = self._shop.output(name)
                        group.create_task(self._work(name))
                    # A mode that holds the queue back is looked at again; an empty queue wakes nobody up.
                    await within(_LOOK_S if self._queue else DAY_S, self._wake)
                    self._forget_old()
        finally:
            if self._workshop:
                await self._workshop.gate.close()

    @property
    def _shop(self) -> Workshop:
        """Where they work; most nodes never have one, and it is a third of a megabyte."""
        if self._workshop is None:
            from outlast.work.gate import Gate
            from outlast.work.workshop import Workshop

            self._workshop = Workshop(self._around, Gate(self._around, self._heard), self._leavings)
        return self._workshop

    def _due(self) -> list[str]:
        """Take from the queue what may begin now."""
        # What is over, and only to be put away, waits for no better times.
        held = self.features.off(FEATURE) or not self._around.pace("P1")
        due = [name for name in self._queue if not held or self._open[name].ended]
        due = due[: self._config.most - len(self._running)]
        for name in due:
            self._queue.remove(name)
        return due

    async def _spawn(self, body: bytes) -> object:
        order = msgspec.json.decode(body, type=Spawn)
        if known := self._find(order.id):
            return told(known)
        if why := self.features.off(FEATURE):
            raise BadInput("subagents", f"they are switched off: {why}", f"outlast feature on {FEATURE}")
        ticket = await self._shop.accept(order)
        if len(self._queue) >= self._config.queue:
            raise BadInput("subagents", f"{len(self._queue)} are waiting", "wait, or raise subagents.queue")
        # Others may have asked while the sandbox was tried.
        if known := self._find(order.id):
            return told(known)
        durable.make_dir(self._home.subagents / ticket.id)
        write_ticket(self._home.subagents / ticket.id, ticket)
        self._emit("spawned", ticket, allow=ticket.allow)
        self._put(ticket)
        return told(ticket)

    async def _wait(self, body: bytes) -> object:
        order = msgspec.json.decode(body, type=Waiting)
        if (ticket := self._open.get(order.id)) and not ticket.ended:
            await within(order.seconds, self._closed.setdefault(order.id, asyncio.Event()))
        return self._shown(order.id)

    def _end(self, body: bytes) -> object:
        """A person, or who spawned it, has seen enough of it."""
        order = msgspec.json.decode(body, type=Ending)
        why = one_line(order.reason, _DETAIL) or "no reason was given"
        if output := self._running.get(order.id):
            output.to_end = why
        elif (ticket := self._open.get(order.id)) and not ticket.ended:
            self._close(replace(ticket, detail=why), "ended")
            self._queue.remove(order.id)
        return self._shown(order.id)

    def _shown(self, name: str) -> dict[str, Any]:
        ticket = self._find(name)
        if ticket is None:
            raise BadInput("ID", f"{name} is not known here", "see `outlast subagents`")
        place = (self._home.subagents if name in self._open else self._home.ended) / name
        return {**told(ticket), "running": name in self._running, "folder": str(place)}

    def _find(self, name: str) -> Ticket | None:
        return self._open.get(name) or read_ticket(self._home.ended / name)

    def _line(self, name: str, state: str) -> dict[str, object]:
        ticket = self._open[name]
        return {"state": state, "task": one_line(ticket.task, 80), "attempt": ticket.attempts, "since": ticket.accepted}

    def _put(self, ticket: Ticket) -> None:
        self._open[ticket.id] = ticket
        self._queue.append(ticket.id)
        self._wake.set()

    async def _work(self, name: str) -> None:
        """One run of a sub-agent, and what follows."""
        ticket = self._open[name]
        try:
            try:
                await self._attempt(ticket, self._running[name])
            except DurabilityError:
                raise
            except Exception as error:
                self._emit("broke", ticket, error=repr(error))
                if (ticket := self._open[name]).ended:
                    raise
                self._give_up(replace(ticket, detail=one_line(f"a defect: {error!r}", _DETAIL)))
        except Exception as error:  # noqa: BLE001 - a defect ends one ticket, not the node
            # What reached the disk tells how to go on, once it takes more.
            self._emit("stuck", ticket, error=str(error))
            await asyncio.sleep(duration(self._around.config.retry.max))
        finally:
            del self._running[name]
            self._shop.gate.forget(name)
            if name in self._open:
                self._queue.append(name)
            self._wake.set()

    async def _attempt(self, ticket: Ticket, output: Heard) -> None:
        """Run it once and see what came of it. Raises DurabilityError."""
        if unwritten := self._unwritten.get(ticket.id):
            ticket = self._keep(unwritten)
        if ticket.ended:
            self._finish(ticket)
            return
        if ticket.attempts >= self._config.attempts and ticket.status != "made":
            # Cut off by a crash, for the last time.
            self._give_up(ticket)
            return
        began = self._around.clock.monotonic()
        try:
            if ticket.status != "made":
                files = await self._shop.run(ticket, output)
                ticket = self._keep(
                    replace(ticket, status="made", detail=summary("", files) if files else "it left no files")
                )
            if "write:artifacts" in ticket.allow:
                await self._shop.integrate(ticket)
        except DurabilityError:
            raise
        except (OutlastError, OSError) as error:
            # It may have closed its folder to us, or removed it.
            ticket = replace(ticket, status="queued", detail=one_line(str(error), _DETAIL))
        self._emit(
            "ended",
            ticket,
            span_id=span_of(ticket.id, f"run {ticket.attempts}"),
            verdict="done" if ticket.status == "made" else "failed",
            seconds=round(self._around.clock.monotonic() - began, 3),
            exit_code=ticket.exit_code,
            attempt=ticket.attempts,
            detail=ticket.detail,
        )
        if ticket.status == "made":
            self._close(ticket, "done")
        elif output.to_end:
            self._close(ticket, "ended")
        elif ticket.attempts >= self._config.attempts:
            self._give_up(ticket)
        else:
            self._keep(ticket)

    def _give_up(self, ticket: Ticket) -> None:
        """It failed for the last time: whoever is above it is told (spec.md, section 5). Raises DurabilityError."""
        if ticket.id not in self._alerted:
            why, most = outward(ticket.detail) or "it was cut off", self._config.off_after
            text = f"{ticket.id} failed {ticket.attempts} times, its task is yours: {one_line(ticket.task, 60)}"
            self._around.memory.note(FEATURE, one_line(f"{text} ({why})"))
            self.features.failed(FEATURE, most, f"{most} failed for good within a day, the last {ticket.id}: {why}")
            self._emit("escalated", ticket, why=why)
            self._alerted[ticket.id] = self._around.clock.time()
            self._around.alerts.found(f"subagent-{ticket.id}", "soon", f"{text} ({why}); outlast subagents {ticket.id}")
        self._close(ticket, "failed")

    def _close(self, ticket: Ticket, verdict: Literal["done", "failed", "ended"]) -> None:
        """This is its end. Raises DurabilityError."""
        self._finish(self._keep(replace(ticket, status=verdict, ended=iso(self._around.clock.time()))))

    def _finish(self, ticket: Ticket) -> None:
        """What follows its end, which is on the disk. Raises DurabilityError."""
        if waiting := self._closed.pop(ticket.id, None):
            waiting.set()
        put_away(self._home, ticket.id, self._leavings)
        del self._open[ticket.id]
        if ticket.status != "ended":
            self._day.append((self._around.clock.time(), ticket.status == "done"))

    def _keep(self, ticket: Ticket) -> Ticket:
        """Write it, and go by it from then on; what the disk does not take is written next time. Raises DurabilityError."""
        self._unwritten[ticket.id] = ticket
        write_ticket(self._home.subagents / ticket.id, ticket)
        self._open[ticket.id] = self._unwritten.pop(ticket.id)
        return ticket

    def _recover(self) -> None:
        """Queue again what the last stop left. Raises DurabilityError."""
        if self._home.subagents.is_dir():
            end_leftovers(self._home.subagents)
        for ticket in left_open(self._home, self._leavings, self._around.clock.time(), self._around.events):
            if ticket.attempts and not ticket.ended:
                again = "its output is integrated" if ticket.status == "made" else "it was cut off, and is queued again"
                self._around.memory.recovered(ticket.id, again)
            self._put(ticket)
        self._day.extend(ended_since(self._home, self._around.clock.time() - DAY_S))

    def _heard(self, name: str) -> None:
        if output := self._running.get(name):
            output.sign()

    def _changed(self) -> None:
        if not self.features.off(FEATURE):
            # Who turned it on again has looked.
            self._calm(list(self._alerted))
        self._wake.set()

    def _forget_old(self) -> None:
        old = self._around.clock.time() - DAY_S
        while self._day and self._day[0][0] < old:
            self._day.popleft()
        self._calm([name for name, at in self._alerted.items() if at < old])

    def _calm(self, names: list[str]) -> None:
        for name in names:
            del self._alerted[name]
            self._around.alerts.over(f"subagent-{name}")

    def _emit(self, what: str, ticket: Ticket, *, span_id: str = "", **fields: object) -> None:
        self._around.events.emit(
            f"subagent.{what}",
            trace_id=trace_of(ticket.id),
            span_id=span_id,
            correlation_id=ticket.id,
            name=ticket.id,
            **fields,
        )
