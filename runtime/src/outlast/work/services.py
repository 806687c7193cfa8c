"""Keeps the operator's services running: each on its own, started again when it ends, stopped in order when the node stops.

Rules kept here:

* One for one: what one service does touches no other. When it is started again is decided by core.supervision; one that rests
  because it ended too often is an alert, until it has lasted.
* A service ends with its whole group, and the next one is started when that is gone; nothing of it survives the runtime.
* What the mode sheds is stopped, and started again when the mode allows it. At a stop the priorities go from P3 to P0, those of
  one priority together, each with its own grace; all of it takes the longest grace and ``SPARE_S`` at most.
* An idle service costs nothing but its entry: its end is told by the kernel, and its clock is looked at once a second.

Left to others: processes (work.process), what is declared (work.roster), whether it works (the probes, by ``restart``).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from outlast.clock import iso
from outlast.core.record import one_line
from outlast.core.similar import did_you_mean
from outlast.core.supervision import Supervised, asked, begun, due_in, ended, has_lasted, shed, stop_at_latest
from outlast.errors import AgentError, BadInput
from outlast.isolation import Isolation
from outlast.quantity import duration, size
from outlast.settings import Service
from outlast.work.marks import end_leftovers
from outlast.work.process import Output, Process, Program, within
from outlast.work.roster import SPARE_S, policy, stop_signal

if TYPE_CHECKING:
    from outlast.control import Order
    from outlast.upkeep import Around

__all__ = ["Services"]

_LOOK_S = 1.0
_PATIENCE_S = 5.0
# Of what a stop has to spare: what is killed takes a moment to go.
_KILLED_S = 1.0
_WHY_CHARS = 200


class _Restart(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class _Wish(NamedTuple):
    """Somebody wants it started anew: a person, or a probe."""

    why: str
    person: bool


class _Kept:
    """One service: what is declared, where it stands, and its process."""

    def __init__(self, name: str, settings: Service, around: Around) -> None:
        self.name = name
        self.settings = settings
        self.policy = policy(settings)
        self.program = Program(
            name=name,
            command=settings.command,
            directory=around.home.workspace / settings.directory,
            environment=settings.environment,
            stop_signal=stop_signal(settings),
            grace_s=duration(settings.grace),
        )
        self.output = Output(around.home.outputs / f"{name}.log", size(settings.log_limit))
        self.stands = Supervised()
        self.process: Process | None = None
        self.last: Process | None = None
        self.wake = asyncio.Event()
        self.wish: _Wish | None = None
        self.restarts = 0
        self.last_exit: int | None = None
        self.last_reason = ""

    @property
    def alert(self) -> str:
        return f"service {self.name}"


class Services:
    """The services of one node."""

    def __init__(self, around: Around) -> None:
        """Know them, and end what an earlier runtime left running, of whichever part."""
        self._around = around
        self._kept = {name: _Kept(name, settings, around) for name, settings in around.config.services.items()}
        home = around.home
        if any(place.exists() for place in (home.outputs, home.subagents)) and (
            left := end_leftovers(home.root, started=True)
        ):
            around.events.emit("leftovers.ended", pids=left)

    def orders(self) -> dict[str, Order]:
        """``ps``: what runs; ``restart``: stop and start one service."""
        return {"ps": lambda _: self._ps(), "restart": self._ordered}

    def report(self) -> dict[str, Any]:
        """How each service is."""
        return {"supervised": {name: self._told(one) for name, one in self._kept.items()}}

    def restart(self, name: str, why: str) -> None:
        """A probe found that it does not work: it is ended and started again, which counts as a failure of its own.

        Returns at once. Raises BadInput where there is no such service.
        """
        self._ask(name, _Wish(why, person=False))

    async def run(self) -> None:
        """Keep them running for ever; when cancelled, stop them in order."""
        keepers: list[asyncio.Task[None]] = []
        # A defect that one of them meets is no other's.
        isolation = Isolation(self._around.events, self._around.alerts)
        try:
            ordered = sorted(self._kept.values(), key=lambda one: one.settings.priority)
            keepers += [
                asyncio.create_task(isolation.run(f"services/{one.name}", partial(self._keep, one))) for one in ordered
            ]
            if not keepers:
                await asyncio.Event().wait()
            mode = self._around.standing().mode
            while True:
                await asyncio.sleep(_LOOK_S)
                if self._around.standing().mode != mode:
                    mode = self._around.standing().mode
                    for one in self._kept.values():
                        one.wake.set()
                self._forget_troubles()
        finally:
            for keeper in keepers:
                keeper.cancel()
            await _whatever_comes(asyncio.create_task(self._stop_all()))

    async def _keep(self, one: _Kept) -> None:
        """One service, for ever."""
        while True:
            one.wake.clear()
            await self._settle(one)
            wait = due_in(one.stands, self._now())
            if wait is None:
                await one.wake.wait()
            elif wait > 0:
                await within(wait, one.wake)

    async def _settle(self, one: _Kept) -> None:
        """Do what is to be done now."""
        process, wish = one.process, one.wish
        allowed = self._around.pace(one.settings.priority) > 0
        if process is not None and process.code is not None:
            self._over(one, process)
        elif process is not None and (wish is not None or not allowed):
            await self._stop(one, process, wish)
        if one.wish is not None:
            if one.wish.person and one.process is None:
                one.stands = asked(self._now())
            one.wish = None
        one.stands = shed(one.stands, self._now(), allowed=allowed)
        if due_in(one.stands, self._now()) == 0:
            await self._start(one)

    async def _start(self, one: _Kept) -> None:
        if one.last is not None:
            await one.last.vanished()
            one.last = None
        again = one.stands.again
        one.stands = begun(one.stands, one.policy, self._now())
        try:
            one.program.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            one.process = await Process.start(one.program, one.output, self._around.guard, told=one.wake.set)
        except (AgentError, OSError) as error:
            what = str(error) if isinstance(error, AgentError) else f"{one.program.directory}: {error.strerror}"
            self._ended(one, None, what, well=False)
            return
        one.restarts += again
        self._say(one, f"started, pid {one.process.pid}")
        self._around.events.emit("service.started", name=one.name, pid=one.process.pid, again=again)

    def _over(self, one: _Kept, process: Process) -> None:
        """It ended by itself."""
        one.process, one.last = None, process
        self._ended(one, process.code, _in_words(process.code), well=process.code == 0)

    def _ended(self, one: _Kept, code: int | None, why: str, *, well: bool) -> None:
        one.last_exit, one.last_reason = code, one_line(why, _WHY_CHARS)
        now = self._now()
        lasted = round(now - one.stands.since, 3)
        one.stands = ended(one.stands, one.policy, now, well=well, uniform=random.uniform)
        wait = due_in(one.stands, now)
        then = "it stays so" if wait is None else f"again in {wait:.3g} s"
        self._say(one, f"{one.last_reason}; {then}")
        self._around.events.emit(
            "service.exited",
            name=one.name,
            reason=one.last_reason,
            exit_code=code,
            lasted_s=lasted,
            then=one.stands.state,
        )
        if one.stands.state == "resting" and wait is not None:
            count, span = one.settings.most, one.settings.within
            self._around.alerts.found(
                one.alert,
                "now" if one.settings.priority == "P0" else "soon",
                f"{one.name} was started again {count} times within {span} and does not last ({one.last_reason}); it rests for "
                f"{wait:.0f} s and is tried again; mend: outlast logs {one.name}, then: outlast restart {one.name}",
            )

    async def _stop(self, one: _Kept, process: Process, wish: _Wish | None) -> None:
        """End it, because somebody wants it started anew, or because the mode sheds it."""
        why = wish.why if wish else f"shed in mode {self._around.standing().mode}"
        self._say(one, f"is stopped: {why}")
        code = await process.stop()
        one.process, one.last = None, process
        if wish is not None and not wish.person:
            self._ended(one, code, why, well=False)
            return
        one.last_exit, one.last_reason = code, one_line(why, _WHY_CHARS)
        self._around.events.emit("service.stopped", name=one.name, reason=one.last_reason, exit_code=code)

    async def _stop_all(self) -> None:
        """In order: what is shed first is stopped first."""
        running = [
            (one.settings.priority, one.program.grace_s, one.process) for one in self._kept.values() if one.process
        ]
        order = sorted({priority for priority, _, _ in running}, reverse=True)
        graces = [max(grace for one, grace, _ in running if one == priority) for priority in order]
        began, within_s = self._now(), max(graces, default=0.0) + SPARE_S
        ending: set[asyncio.Task[int]] = set()
        for priority, latest in zip(order, stop_at_latest(graces, within_s - _KILLED_S), strict=True):
            if ending:
                await asyncio.wait(ending, timeout=max(0.0, began + latest - self._now()))
            ending |= {asyncio.create_task(process.end()) for one, _, process in running if one == priority}
        if ending:
            # Who is not gone by then waits for its disk, killed.
            await asyncio.wait(ending, timeout=max(0.0, began + within_s - self._now()))
        for one in self._kept.values():
            one.output.close()

    def _forget_troubles(self) -> None:
        alerts, now = self._around.alerts, self._now()
        for one in self._kept.values():
            if alerts.holds(one.alert) and (one.stands.state == "ended" or has_lasted(one.stands, one.policy, now)):
                alerts.gone(one.alert)

    def _ask(self, name: str, wish: _Wish) -> _Kept:
        one = self._kept.get(name)
        if one is None:
            mend = did_you_mean(name, self._kept, "name it in the inventory, under outlast_services")
            raise BadInput("NAME", f"there is no service {one_line(name, 40)}", mend)
        # What a person wants is not taken back by a probe.
        if one.wish is None or wish.person:
            one.wish = wish
        one.wake.set()
        return one

    async def _ordered(self, body: bytes) -> object:
        """A person's order: answered when it runs again, or cannot."""
        name = msgspec.json.decode(body, type=_Restart).name
        before = self._kept[name].process if name in self._kept else None
        one = self._ask(name, _Wish("a person asked for it", person=True))
        deadline = self._now() + one.program.grace_s + _PATIENCE_S
        while (
            one.wish is not None
            or (one.process is before and before is not None)
            or due_in(one.stands, self._now()) == 0
        ):
            if self._now() > deadline:
                break
            await asyncio.sleep(0.005)
        return {"name": name, "before": before.pid if before else None, **self._told(one)}

    def _ps(self) -> dict[str, Any]:
        mine = {one.process.pid for one in self._kept.values() if one.process}
        others = [process for process in self._around.guard.running if process.pid not in mine]
        return {
            "node": self._around.config.node,
            "mode": self._around.standing().mode,
            "services": {name: self._told(one) for name, one in self._kept.items()},
            "others": [{"name": one.name, "pid": one.pid, "since": iso(one.since)} for one in others],
        }

    def _told(self, one: _Kept) -> dict[str, Any]:
        wait = due_in(one.stands, self._now())
        return {
            "state": one.stands.state,
            "pid": one.process.pid if one.process else None,
            "since": iso(one.process.since) if one.process else "",
            "restarts": one.restarts,
            "last_exit": one.last_exit,
            "last_reason": one.last_reason,
            "priority": one.settings.priority,
            "due_s": None if wait is None else round(wait, 1),
        }

    def _say(self, one: _Kept, what: str) -> None:
        """For who reads its output, between what it printed before and after."""
        one.output.write(f"[outlast {iso(self._around.clock.time())}] {one.name} {what}\n".encode())

    def _now(self) -> float:
        return self._around.clock.monotonic()


async def _whatever_comes(task: asyncio.Task[None]) -> None:
    """Wait for a task, however often we are cancelled meanwhile: its own graces bound it."""
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    task.result()


def _in_words(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"killed by {name}"
