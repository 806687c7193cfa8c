"""Runs the programs that run by the clock.

Rules kept here:

* what is due, skipped, or another node's is decided in core.schedule, of what the clock shows, the mode, and who was heard;
* a run is on the disk before its program starts, so that no restart runs a cycle twice; one whose runtime was killed is told
  as in doubt, and not run again;
* a person's order runs a job at once, in any mode, whoever's it is; but never while it runs already;
* what a job that did its work printed is in its log alone; the last line of one that failed is told on this machine only;
* an idle node writes nothing, and looks at its clock twice a minute, so that one that slept notices.

Left to others: reading the schedules (work.timetable), the record (work.jobbook), the program (work.jobrun), and showing it
(cli.run).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from outlast.clock import iso
from outlast.control import Order
from outlast.core.ids import span_of, trace_of
from outlast.core.schedule import NEVER, Schedule, Track, begun_with, takes_over, turn
from outlast.core.similar import did_you_mean
from outlast.errors import AgentError, BadInput, DurabilityError
from outlast.quantity import duration
from outlast.settings import Job, Name
from outlast.work import jobbook
from outlast.work.jobbook import Entry, Run, Verdict
from outlast.work.jobrun import run_job
from outlast.work.process import within

if TYPE_CHECKING:
    from outlast.upkeep import Around

__all__ = ["Jobs"]

_LOOK_S = 30.0
_SLEPT_S = 60.0
_LEAST_S = 0.001
_MISSED = "the machine slept, the node was down, or the clock was set"


class _Start(msgspec.Struct, forbid_unknown_fields=True):
    name: Name


class _Wait(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    id: Annotated[str, msgspec.Meta(max_length=128)]
    seconds: Annotated[float, msgspec.Meta(ge=0, le=60)]


@dataclass
class _Job:
    """One job, as it is now."""

    name: str
    settings: Job
    schedule: Schedule
    track: Track
    entry: Entry
    ours: bool
    due: float
    task: asyncio.Task[None] | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> bool:
        return self.task is not None and not self.task.done()


class Jobs:
    """The jobs of one node."""

    def __init__(self, around: Around) -> None:
        """Tell what was cut off. Raises ConfigError."""
        self._around = around
        self._limit = duration(around.config.health.sibling_silent)
        self._jobs: dict[str, _Job] = {}
        self._awake = around.clock.monotonic()
        self._looked: tuple[float, float] | None = None
        if around.config.jobs:
            known, now = jobbook.read(around.home, around.events, around.clock), around.clock.time()
            self._jobs = {
                name: self._made(name, settings, known.get(name), now) for name, settings in around.config.jobs.items()
            }
            self._close_open()

    def _made(self, name: str, settings: Job, entry: Entry | None, now: float) -> _Job:
        # Imported where it is used: zones and cron lines are nothing to a node without jobs.
        from outlast.work.timetable import schedule_of

        timed = f"{settings.schedule} {settings.zone}".strip()
        # Cycles of another schedule say nothing about this one's.
        track = begun_with(entry.cycle if entry and entry.timed == timed else None, now)
        if entry is None:
            entry = Entry(timed, track.cycle)
        elif entry.timed == timed:
            track = Track(track.cycle, entry.rested)
        entry.timed = timed
        schedule = schedule_of(name, settings)
        return _Job(name, settings, schedule, track, entry, self._is_own(settings), schedule.next(track.cycle))

    def _close_open(self) -> None:
        """A run that the record has no end of was cut off with its runtime."""
        for job in self._jobs.values():
            if job.entry.last is not None and not job.entry.last.ended:
                detail = "the node was killed while it ran; whether it was done is not known, and it is not run again"
                self._end(job, job.entry.last, "in doubt", None, detail, 0.0)
            else:
                self._tell_failures(job)

    async def run(self) -> None:
        """Look at the clock for ever, until cancelled; what runs then is ended."""
        if not self._jobs:
            await asyncio.Event().wait()
        try:
            while True:
                self.look()
                await asyncio.sleep(self._pause())
        finally:
            left = {job.task for job in self._jobs.values() if job.task is not None}
            for task in left:
                task.cancel()
            # However often we are cancelled meanwhile: each end is bounded by itself.
            while left := {task for task in left if not task.done()}:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait(left)

    def look(self) -> None:
        """Begin what is due now, and count what was missed."""
        now = self._around.clock.time()
        self._notice_sleep(now)
        for job in self._jobs.values():
            self._settle(job)
            pace = self._around.pace(job.settings.priority)
            found = turn(job.track, now, job.schedule, pace, ours=job.ours, running=job.running)
            if found.track.cycle != job.track.cycle:
                job.due = job.schedule.next(found.track.cycle)
            job.track = found.track
            if found.missed:
                self._skip(job, "missed", _MISSED, found.missed)
            if found.held:
                self._skip(job, found.held, self._held_in_words(job, found.held), 1)
            if found.run is not None:
                self._begin(job, "clock")

    def _pause(self) -> float:
        """Seconds until the next look: at the next cycle, and in time to notice that the machine slept."""
        nearest = min(job.due for job in self._jobs.values()) - self._around.clock.time()
        return min(max(nearest, _LEAST_S), _LOOK_S)

    def _notice_sleep(self, now: float) -> None:
        """Who slept has not heard anybody, and must not take others for silent."""
        moment = self._around.clock.monotonic()
        if self._looked is not None:
            wall, steady = self._looked
            if max(now - wall, moment - steady) > _LOOK_S + _SLEPT_S:
                self._awake = moment
        self._looked = now, moment

    def _is_own(self, settings: Job) -> bool:
        return settings.owner in {"", self._around.config.node}

    def _settle(self, job: _Job) -> None:
        """Whose job is it now? And a defect in its last run is one of this part."""
        if job.task is not None and job.task.done():
            over, job.task = job.task, None
            if not over.cancelled():
                over.result()
        if self._is_own(job.settings) or not job.settings.takeover:
            return
        owner = job.settings.owner
        silent = self._around.silence().get(owner, 0.0)
        ours = takes_over(silent, self._around.clock.monotonic() - self._awake, self._limit)
        if ours != job.ours:
            job.ours = ours
            self._around.events.emit("job.taken_over" if ours else "job.given_back", name=job.name, owner=owner)

    def _held_in_words(self, job: _Job, held: str) -> str:
        priority, mode = job.settings.priority, self._around.standing().mode
        return {
            "running": "its last run was not over",
            "shed": f"{priority} is off in mode {mode}",
            "paced": f"{priority} runs every second time in mode {mode}",
        }[held]

    def _skip(self, job: _Job, reason: str, why: str, count: int) -> None:
        skips = job.entry.skips
        job.entry.skips = {**skips, reason: skips.get(reason, 0) + count}
        # A job that is off for days is no news each time.
        if job.entry.why != why or reason == "missed":
            self._around.events.emit("job.skipped", name=job.name, why=why, count=count)
        job.entry.why = why

    def _begin(self, job: _Job, by: Literal["clock", "person"]) -> Run:
        started = iso(self._around.clock.time())
        run = Run(f"{job.name}@{started}", by, started)
        job.entry.last, job.entry.why = run, ""
        job.entry.runs += 1
        self._keep()
        self._emit("job.started", job, run, by=by)
        job.over = asyncio.Event()
        job.task = asyncio.create_task(self._run(job, run))
        return run

    async def _run(self, job: _Job, run: Run) -> None:
        around = self._around
        began = around.clock.monotonic()
        verdict: Verdict = "in doubt"
        code, detail, said = None, "the node was stopped while it ran", ""
        try:
            outcome = await run_job(job.name, job.settings, around.home, around.guard, around.clock)
            verdict = "failed" if outcome.wrong else "done"
            code, detail, said = outcome.code, outcome.wrong, outcome.said
        except AgentError as error:
            verdict, detail = "failed", str(error)
        finally:
            self._end(
                job, msgspec.structs.replace(run, said=said), verdict, code, detail, around.clock.monotonic() - began
            )

    def _end(self, job: _Job, run: Run, verdict: Verdict, code: int | None, detail: str, seconds: float) -> None:
        entry, ended = job.entry, iso(self._around.clock.time())
        entry.last = msgspec.structs.replace(
            run, ended=ended, verdict=verdict, exit_code=code, seconds=round(seconds, 3), detail=detail
        )
        entry.failures = 0 if verdict == "done" else entry.failures + (verdict == "failed")
        self._keep()
        why = f"{detail}: {run.said}" if run.said else detail
        self._emit("job.ended", job, run, verdict=verdict, exit_code=code, detail=why, seconds=round(seconds, 3))
        if verdict == "done":
            # A run that did its work is no check that may be wrong.
            self._around.alerts.over(f"job {job.name}")
        self._tell_failures(job)
        job.over.set()

    def _tell_failures(self, job: _Job) -> None:
        entry = job.entry
        if entry.last is not None and entry.failures >= job.settings.failures:
            again = "once" if entry.failures == 1 else f"{entry.failures} times in a row"
            mend = f"outlast logs {job.name}, then: outlast run {job.name}"
            # Alerts leave this machine, to peers and to who is told: without what a program printed, which may be anything.
            text = f"the job {job.name} failed {again}: {entry.last.detail}; mend: {mend}"
            self._around.alerts.found(f"job {job.name}", "soon", text)

    def _emit(self, event: str, job: _Job, run: Run, **told: object) -> None:
        trace_id, span_id = trace_of(run.id), span_of(run.id, "job")
        named: dict[str, Any] = {"name": job.name, **told}
        self._around.events.emit(event, trace_id=trace_id, span_id=span_id, correlation_id=run.id, **named)

    def _keep(self) -> None:
        for job in self._jobs.values():
            job.entry.cycle, job.entry.rested, job.entry.next = job.track.cycle, job.track.rested, _next(job)
        try:
            jobbook.write(self._around.home, {name: job.entry for name, job in self._jobs.items()})
        except DurabilityError as error:
            # A full disk must not keep from running what makes room on it; health tells of the disk.
            self._around.events.burst("jobs.not_written", str(error))

    def orders(self) -> dict[str, Order]:
        """List the jobs; run one now, and wait for what comes of it."""
        return {"jobs": lambda _: self._listed(), "jobs/run": self._run_now, "jobs/wait": self._wait}

    def _listed(self) -> object:
        return {"node": self._around.config.node, "mode": self._around.standing().mode, "jobs": self.report()}

    def _run_now(self, body: bytes) -> object:
        job = self._known(msgspec.json.decode(body, type=_Start).name)
        if job.running:
            since = job.entry.last.started if job.entry.last else ""
            raise BadInput("JOB", f"{job.name} runs already, since {since}", "wait for its end: outlast jobs")
        self._settle(job)
        return {"name": job.name, "id": self._begin(job, "person").id}

    async def _wait(self, body: bytes) -> object:
        order = msgspec.json.decode(body, type=_Wait)
        job = self._known(order.name)
        if job.entry.last is None or job.entry.last.id != order.id:
            raise BadInput("JOB", f"{job.name} was run again since", "look at outlast jobs, and outlast tail")
        if not job.entry.last.ended:
            await within(order.seconds, job.over)
        return {"name": job.name, **msgspec.to_builtins(job.entry.last)}

    def _known(self, name: str) -> _Job:
        if name not in self._jobs:
            mend = did_you_mean(name, self._jobs, "declare it in the inventory, under outlast_jobs")
            raise BadInput("JOB", f"{self._around.config.node} has no job {name}", mend)
        return self._jobs[name]

    def report(self) -> dict[str, Any]:
        """Each job: its schedule, when it runs next, and how it last ran."""
        return {job.name: dict(self._told(job)) for job in self._jobs.values()}

    def _told(self, job: _Job) -> Iterator[tuple[str, object]]:
        entry, last = job.entry, job.entry.last
        yield "state", _state(job)
        yield "note", "" if entry.why or last is None else last.detail
        yield "since", last.started if last and job.running else ""
        for name in ("schedule", "zone", "priority", "owner"):
            yield name, getattr(job.settings, name)
        yield "clock", datetime.fromtimestamp(self._around.clock.time(), job.schedule.zone).tzname() or ""
        yield "here", job.ours
        yield "next", _next(job)
        yield "runs", entry.runs
        yield "failures", entry.failures
        yield "skips", entry.skips
        yield "why", entry.why
        yield "last", msgspec.to_builtins(last) if last else None


def _next(job: _Job) -> str:
    """When it runs next here."""
    return iso(job.due) if job.ours and job.due != NEVER else ""


def _state(job: _Job) -> str:
    if job.running:
        return "running"
    if not job.ours:
        return "elsewhere"
    return job.entry.last.verdict or "waiting" if job.entry.last else "waiting"
