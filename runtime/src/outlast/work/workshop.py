"""Where sub-agents work: shut in, with a token for this one run, and what becomes of what they made.

Rules kept here: nothing runs without a sandbox where one is required; every begun run is counted on the disk before it
begins, and a token is good for that run alone; what a run left is judged before anything else sees it; it becomes an artifact
only through the five steps, and carrying that on after a crash does it once.

Left to others: which of them runs when, and what a failure leads to (work.subagents).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec

from outlast.clock import iso, stamp
from outlast.control import carry_out
from outlast.core.ids import trace_of
from outlast.core.record import one_line
from outlast.errors import AgentError, BadInput, DurabilityError
from outlast.messages import ArtifactFile
from outlast.quantity import duration, size
from outlast.store import durable
from outlast.work.cell import Bounds, Folder, Heard, run_in
from outlast.work.gate import Gate
from outlast.work.judged import judge
from outlast.work.leavings import Leavings
from outlast.work.sandbox import Cell, Sandbox, find_sandbox, limited, readable
from outlast.work.spawned import Spawn, Ticket, write_ticket
from outlast.work.spawning import accepted, promised
from outlast.work.steps import Steps

if TYPE_CHECKING:
    from outlast.upkeep import Around

__all__ = ["Workshop"]

# A token is of use until its holder is ended; clocks are looked at one after the other.
_SLACK_S = 60
_LOG_BYTES = 1 << 20


class Workshop:
    """Runs one sub-agent after the other, as it is told. ``gate`` is where they call."""

    def __init__(self, around: Around, gate: Gate, leavings: Leavings) -> None:
        self.sandbox: Sandbox | None = None
        self.gate = gate
        self._around = around
        self._leavings = leavings
        self._home = around.home
        self._config = around.config.subagents
        # Steps of its own: no one else's have such names.
        self._steps = Steps(around.home, around.config, around.memory, around.events, around.clock)
        self._trying = asyncio.Lock()

    async def open(self, cell: Cell) -> Sandbox:
        """Be ready for work: the door, and the sandbox, which is tried once. Raises OutlastError where that cannot be."""
        await self.gate.open()
        async with self._trying:
            # Whoever installed what was missing need not start the node anew.
            if self.sandbox is None or self.sandbox.trouble:
                self.sandbox = await find_sandbox(cell)
        if self.sandbox.trouble and self._config.sandbox == "required":
            mend = "or say outlast_subagents: {sandbox: none} in the inventory, and mean it"
            raise BadInput("sandbox", self.sandbox.trouble, mend)
        return self.sandbox

    async def accept(self, order: Spawn) -> Ticket:
        """The ticket of an order that can work here. Raises OutlastError."""
        cell = self.cell(order.id, frozenset(order.allow))
        sandbox = await self.open(cell)
        seen = (*cell.readable, *cell.shown) if sandbox.kind != "none" else ()
        return accepted(order, self._config, seen, iso(self._around.clock.time()))

    def output(self, name: str) -> Heard:
        """Where the output of a run goes."""
        return Heard(Folder(self._home, name).output, _LOG_BYTES)

    def cell(self, name: str, actions: frozenset[str]) -> Cell:
        """What the sub-agent ``name`` sees that is allowed ``actions``."""
        folder = Folder(self._home, name)
        return Cell(
            home=self._home,
            work=folder.work,
            temporary=folder.temporary,
            papers=folder.papers,
            socket=self._home.agents_socket,
            readable=readable(self._config.readable),
            shown=(self._home.workspace,) if "read:workspace" in actions else (),
            network="use:network" in actions and self._config.network,
        )

    async def run(self, ticket: Ticket, output: Heard) -> tuple[ArtifactFile, ...]:
        """Run it once, and judge what it left. Raises OutlastError for whatever is not as it should be; DurabilityError."""
        actions, ours = frozenset(ticket.allow), self._config
        folder, cell = Folder(self._home, ticket.id), self.cell(ticket.id, actions)
        sandbox = await self.open(cell)
        folder.clear(self._leavings, self._home.trash, stamp(self._around.clock.time()))
        # Counted here once it is counted on the disk: what a full one keeps from beginning was not begun.
        write_ticket(folder.path, msgspec.structs.replace(ticket, attempts=ticket.attempts + 1, exit_code=None))
        ticket.attempts += 1
        ticket.exit_code = None
        token = self.gate.token(ticket.id, ticket.attempts, actions, ticket.timeout_s + _SLACK_S)
        folder.prepare(self._around.config, token)
        self._around.events.emit(
            "subagent.started",
            trace_id=trace_of(ticket.id),
            correlation_id=ticket.id,
            name=ticket.id,
            attempt=ticket.attempts,
            sandbox=sandbox.kind,
        )
        most = min(size(ours.output_limit), size(self._around.config.agent.artifact_limit))
        bounds = Bounds(
            timeout_s=ticket.timeout_s,
            heartbeat_s=ticket.heartbeat_s,
            cpu_s=duration(ours.cpu),
            memory_bytes=size(ours.memory),
            disk_bytes=most,
            processes=ours.processes,
            files=ours.files,
        )
        limits = bounds.each(size(ours.file_size), own_processes=sandbox.own_processes)
        wrapper = [*sandbox.wrapper(cell), *limited(limits)]
        output.sign()
        try:
            environment = {**ours.environment, **folder.environment(ticket, cell.socket)}
            ended = await run_in(folder, ticket, wrapper, environment, output, self._around.guard, bounds)
        except asyncio.CancelledError:
            # A stop of the node is no fault of it.
            ticket.attempts -= 1
            with contextlib.suppress(DurabilityError):
                write_ticket(folder.path, ticket)
            raise
        ticket.exit_code = ended.exit_code
        if ended.reason:
            raise AgentError(ended.reason)
        files = await judge(folder.work, ticket.expect, most)
        if not files and "write:artifacts" in actions:
            raise AgentError("it left no artifact: no file in its working directory")
        return files

    async def integrate(self, ticket: Ticket) -> None:
        """What it made becomes an artifact. Doing it twice does it once. Raises OutlastError."""
        orders, unit, work = self._steps.orders(), ticket.id, Folder(self._home, ticket.id).work
        staged = self._home.steps / unit / "work"
        there = work if work.is_dir() else staged
        names = promised([str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()], ticket.expect)
        if (known := self._around.memory.state.units.get(unit)) and not known.may_begin_again():
            # Begun before a crash.
            names = list(known.artifacts)
        begin = {"unit": unit, "artifacts": names, "what": one_line(ticket.task)}
        await carry_out(orders, "step/begin", msgspec.json.encode(begin))
        if work.is_dir():
            durable.move(work, staged)
        one = msgspec.json.encode({"unit": unit})
        await carry_out(orders, "step/act", one)
        told = await carry_out(orders, "step/commit", one)
        if isinstance(told, dict) and told["status"] != "done":
            raise AgentError(f"it could not be integrated: {told['detail']}")
