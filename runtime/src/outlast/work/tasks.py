"""Tasks that this node was given: accepted, worked on one after the other, and confirmed, through the five steps.

Rules kept here (spec.md, section 3):

* accepted means: ``var/tasks/UNIT/task.json`` and the INTENT are on the disk; the same unit is never taken twice;
* ACTION: the agent works in a folder of its own; its verdict is written down (``result.json``) before anything shows it,
  then the folder becomes ``artifacts/UNIT`` in one rename; VERIFY reads every file back; then UPDATE, the result into the
  outbox (its id comes from the unit, so there is one), and CONFIRM; an outbox that was lost is filled again;
* whatever moment the power goes, ``recover`` carries on from what is on the disk;
* a stop finishes what it can within its grace and hands the rest back.

Left to others: running the agent (work.runner), what to do after a crash (core.recovery), delivery (net.outbox).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import msgspec

from outlast.clock import Clock, iso, stamp
from outlast.core.ids import message_id, trace_of, valid_unit
from outlast.core.recovery import Task as Evidence
from outlast.core.recovery import plan_task
from outlast.core.state import Verdict
from outlast.errors import DurabilityError
from outlast.home import Home
from outlast.messages import ArtifactFile, Envelope, Result, Task, sealed
from outlast.quantity import duration, size
from outlast.settings import Config
from outlast.store import durable
from outlast.store.events import EventLog
from outlast.store.ledger import Ledger
from outlast.store.memory import Memory
from outlast.work.artifacts import MANIFEST, Manifest, publish, verify
from outlast.work.handoffs import summary
from outlast.work.marks import end_leftovers
from outlast.work.runner import AgentLimits, Outcome, run_agent
from outlast.work.tickets import RESULT, TICKET, Ticket, agent_span, read_manifest, read_ticket, task_span
from outlast.work.trees import remove

__all__ = ["Tasks"]

_KEEP_ENDED = 200
_DETAIL_LIMIT = 400


class Tasks:
    """The tasks of one node."""

    def __init__(
        self,
        config: Config,
        home: Home,
        memory: Memory,
        ledger: Ledger,
        events: EventLog,
        clock: Clock,
        wake: Callable[[str], None],
        about_node: Callable[[], dict[str, object]],
    ) -> None:
        """``wake(peer)`` tells an outbox of its work; ``about_node()`` is what the agent is told of its node."""
        self.running = ""
        self._config = config
        self._home = home
        self._memory = memory
        self._ledger = ledger
        self._events = events
        self._clock = clock
        self._wake = wake
        self._about_node = about_node
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._limits = AgentLimits(
            timeout_s=duration(config.agent.timeout),
            stdout_bytes=size(config.agent.stdout_limit),
            artifact_bytes=size(config.agent.artifact_limit),
        )

    def accept(self, envelope: Envelope, task: Task) -> None:
        """Take a task; it is on the disk when this returns. A unit that is known changes nothing. Raises DurabilityError."""
        known = self._memory.state.units.get(task.unit)
        # Its INTENT may have come to light after whoever asked was told that it could not be written.
        waits = known is not None and known.status == "open" and task.unit not in {*self._queued, self.running}
        if self._ended(task.unit) or (known is not None and not waits):
            return
        now = iso(self._clock.time())
        folder = self._home.tasks / task.unit
        durable.make_dir(folder)
        self._write(Ticket(task.unit, task.task, envelope.sender, envelope.trace_id, now))
        self._memory.intent(task.unit, "task", envelope.sender, task.task)
        self._put(task.unit)

    async def run(self) -> None:
        """Work for ever, one task after the other, until cancelled."""
        while True:
            unit = await self._queue.get()
            self._queued.discard(unit)
            self.running = unit
            try:
                await self._work(unit)
            except DurabilityError as error:
                await self._stuck(unit, error)
            finally:
                self.running = ""

    def _put(self, unit: str) -> None:
        self._queued.add(unit)
        self._queue.put_nowait(unit)

    async def _stuck(self, unit: str, error: DurabilityError) -> None:
        """Try again until the disk takes it. What reached the disk tells how to go on, as after a start."""
        while True:
            self._events.emit("task.stuck", correlation_id=unit, error=str(error))
            await asyncio.sleep(duration(self._config.retry.max))
            try:
                self._resume(unit)
                return
            except DurabilityError as again:
                error = again

    def recover(self) -> None:
        """Put right what the last stop left open. Raises DurabilityError."""
        durable.make_dir(self._home.tasks)
        durable.make_dir(self._home.artifacts, mode=durable.SHARED_FOLDER)
        end_leftovers(self._home.tasks)
        on_disk = {name for name in os.listdir(self._home.tasks) if valid_unit(name)}
        known = self._memory.state.units
        for unit in sorted(on_disk - set(known)):
            ticket = self._read(unit)
            if self._ended(unit):
                self._clear_away(unit)
            elif ticket is not None:
                self._memory.intent(unit, "task", ticket.peer, ticket.task)
            else:
                # Never accepted. Kept among the ended ones, it would look done when its sender offers it again.
                durable.set_aside(self._home.tasks / unit, self._home.trash, stamp(self._clock.time()))
        for unit in self._memory.state.open("task"):
            self._resume(unit)
        for unit in self._memory.state.unconfirmed("task"):
            self._tell_again(unit)
        for unit in on_disk:
            if (closed := self._memory.state.units.get(unit)) and closed.status != "open":
                self._clear_away(unit)
        self._tell_lost()

    def _tell_lost(self) -> None:
        """Queue the results that the ledger has no trace of: one that was lost took with it what waited."""
        if not self._ledger.not_before or not self._home.ended.is_dir():
            return
        oldest = self._clock.time() - duration(self._config.messages.keep)
        again = 0
        for folder in sorted(self._home.ended.iterdir()):
            msg_id = message_id(folder.name, "result")
            if self._ledger.waiting(msg_id) or self._ledger.delivered(msg_id) or folder.stat().st_mtime < oldest:
                continue
            ticket, manifest = read_ticket(folder), read_manifest(folder / RESULT)
            state = self._memory.state.units.get(folder.name)
            if ticket is None or (state.status == "open" if state else manifest is None):
                continue
            # What was confirmed counts; what the agent left may have been found damaged after it was written down.
            verdict = state.closed_as() if state else manifest.verdict if manifest else "in doubt"
            same = manifest if manifest and manifest.verdict == verdict else None
            detail = same.detail if same else state.detail if state else ""
            files = same.files if same and verdict == "done" else ()
            self._queue_result(ticket.peer, ticket.trace_id, Result(folder.name, verdict, detail, files))
            again += 1
        if again:
            self._memory.recovered("node", f"the ledger was lost; {again} results are told again")

    def _resume(self, unit: str) -> None:
        """Carry a task on from what the disk knows of it."""
        if self._memory.state.units[unit].status != "open":
            self._tell_again(unit)
            return
        ticket = self._read(unit)
        result = self._result(unit)
        agent = self._config.agent
        plan = plan_task(
            Evidence(accepted=ticket is not None, result=result is not None, attempts=ticket.attempts if ticket else 0),
            rerun=agent.after_crash == "rerun",
            attempts=agent.attempts,
        )
        self._memory.recovered(unit, plan.told)
        self._events.emit("task.recovered", correlation_id=unit, action=plan.action, told=plan.told)
        if plan.action == "finish":
            self._finish(unit)
        elif plan.action == "run":
            self._put(unit)
        else:
            self._close(unit, plan.verdict, plan.told, ())

    def hand_back(self) -> list[str]:
        """Close every open task as returned, so that its sender may do it elsewhere. Returns their names."""
        returned = list(self._memory.state.open("task"))
        for unit in returned:
            ticket = self._read(unit)
            if self._result(unit) is not None:
                self._finish(unit)
            elif ticket is not None and ticket.attempts and self._config.agent.after_crash == "report":
                told = "its agent was cut off by a stop; what it had done by then is not known"
                self._close(unit, "in doubt", told, ())
            else:
                self._close(unit, "returned", f"{self._config.node} was stopped before it was done", ())
        return returned

    def idle(self) -> bool:
        """Is nothing in hand, and nothing waiting?"""
        return not self._memory.state.open("task")

    async def _work(self, unit: str) -> None:
        ticket = self._read(unit)
        if ticket is None:
            self._close(unit, "failed", "its text is gone", ())
            return
        folder = self._home.tasks / unit
        work = folder / "work"
        if work.exists():
            durable.set_aside(work, folder, f"attempt-{ticket.attempts}")
        ticket.attempts += 1
        self._write(ticket)
        durable.make_dir(work, mode=durable.SHARED_FOLDER)
        task = {
            "unit": unit,
            "task": ticket.task,
            "from": ticket.peer,
            "node": self._about_node(),
            "attempt": ticket.attempts,
            "trace_id": ticket.trace_id,
        }
        self._events.emit("agent.started", **agent_span(ticket))
        agent = self._config.agent
        outcome = await run_agent(agent.command, task, work, self._limits, agent.environment)
        self._record(ticket, outcome)
        self._events.emit(
            "agent.ended",
            verdict=outcome.verdict,
            reason=outcome.reason,
            exit_code=outcome.exit_code,
            seconds=round(outcome.seconds, 3),
            **agent_span(ticket),
        )
        self._finish(unit)

    def _record(self, ticket: Ticket, outcome: Outcome) -> None:
        manifest = Manifest(
            unit=ticket.unit,
            task=ticket.task,
            sender=ticket.peer,
            trace_id=ticket.trace_id,
            verdict=outcome.verdict,
            detail=(outcome.summary if outcome.verdict == "done" else outcome.reason)[:_DETAIL_LIMIT],
            exit_code=outcome.exit_code,
            ended=iso(self._clock.time()),
            files=outcome.files,
        )
        data = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
        folder = self._home.tasks / ticket.unit
        if outcome.verdict == "done":
            durable.replace(folder / "work" / MANIFEST, data, mode=durable.SHARED_FILE)
        durable.replace(folder / RESULT, data)

    def _finish(self, unit: str) -> None:
        """Carry a verdict that is on the disk through: publish, verify, update, tell, confirm."""
        manifest = self._result(unit)
        if manifest is None:
            raise DurabilityError(f"{unit} has no result")
        verdict, detail, files = manifest.verdict, manifest.detail, manifest.files
        if verdict == "done":
            publish(self._home.tasks / unit / "work", self._home.artifacts / unit)
            if wrong := verify(self._home.artifacts / unit, manifest):
                verdict, detail, files = "failed", f"the artifact is not what the agent left: {wrong}", ()
        self._close(unit, verdict, detail, files, artifact=manifest.verdict == "done")

    def _close(
        self, unit: str, verdict: Verdict, detail: str, files: tuple[ArtifactFile, ...], *, artifact: bool = False
    ) -> None:
        self._memory.update(unit, verdict, summary(detail, files), artifact)
        self._tell(unit, detail, files)

    def _tell(self, unit: str, detail: str, files: tuple[ArtifactFile, ...]) -> None:
        """After UPDATE: the result into the outbox, CONFIRM, and the folder out of the way. Doing it twice does it once."""
        state = self._memory.state.units[unit]
        verdict = state.closed_as()
        ticket = self._read(unit)
        trace_id = ticket.trace_id if ticket else trace_of(unit)
        self._queue_result(state.peer, trace_id, Result(unit, verdict, detail, files))
        if not state.confirmed:
            self._memory.confirm(unit, verdict, summary(detail, files))
        span = task_span(unit, ticket, self._clock.time())
        self._events.emit("task.closed", **span, verdict=verdict, detail=detail)
        self._clear_away(unit)

    def _queue_result(self, peer: str, trace_id: str, result: Result) -> None:
        # Also for a peer that is not in node.yml now: it may be back at the next start.
        body = sealed(self._config.node, peer, trace_id, result.unit, result)
        self._ledger.enqueue(peer, message_id(result.unit, "result"), body, self._clock.time())
        self._wake(peer)

    def _tell_again(self, unit: str) -> None:
        """Take the steps after UPDATE that were not taken."""
        state, manifest = self._memory.state.units[unit], self._result(unit)
        files = manifest.files if manifest and state.status == "done" else ()
        self._tell(unit, manifest.detail if manifest else state.detail, files)

    def _ended(self, unit: str) -> bool:
        return (self._home.artifacts / unit).exists() or (self._home.ended / unit).exists()

    def _clear_away(self, unit: str) -> None:
        """Keep what is left of a closed task (its output, a failed one's files) where the newest are kept."""
        folder = self._home.tasks / unit
        if not folder.exists():
            return
        durable.make_dir(self._home.ended)
        target = self._home.ended / unit
        if target.exists():
            durable.set_aside(target, self._home.trash, str(int(self._clock.time())))
        durable.move(folder, target)
        kept = sorted(self._home.ended.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in kept[: max(0, len(kept) - _KEEP_ENDED)]:
            remove(path)

    def _write(self, ticket: Ticket) -> None:
        durable.replace(self._home.tasks / ticket.unit / TICKET, msgspec.json.encode(ticket) + b"\n")

    def _read(self, unit: str) -> Ticket | None:
        return read_ticket(self._home.tasks / unit)

    def _result(self, unit: str) -> Manifest | None:
        """The verdict that is on the disk; an artifact that was published tells it too."""
        if found := read_manifest(self._home.tasks / unit / RESULT):
            return found
        shown = read_manifest(self._home.artifacts / unit / MANIFEST)
        return shown if shown and shown.unit == unit and shown.kind == "task" else None
