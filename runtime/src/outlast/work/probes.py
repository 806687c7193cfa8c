"""Looks whether what runs here works: asks every probe when it is due, and does what follows.

Rules kept here: no probe is asked while its last answer is awaited, while its service rests, or while its priority is shed;
what does not run is not restarted from here, but by its supervisor; a change is an event, an answer is none. A gateway that
is down while skills run degrades the node and is no emergency: work goes on from files.

Left to others: asking (work.asking), judging (core.probes), restarting (work.services), the mode (health).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from outlast.clock import iso
from outlast.control import Order
from outlast.core.probes import (
    ALIVE,
    LEVELS,
    RESPONDING,
    Answer,
    Condition,
    Seen,
    Then,
    follows,
    idle,
    judge,
    level_of,
    next_ask,
    renewed,
    restarted,
    stand,
)
from outlast.core.record import one_line
from outlast.errors import DurabilityError, OutlastError
from outlast.quantity import duration
from outlast.work.asking import ask_command, ask_file, ask_http
from outlast.work.declared import Declared, declared
from outlast.work.skills import Skill, read_skills

if TYPE_CHECKING:
    from outlast.upkeep import Around

__all__ = ["Probes", "Supervisor"]

_SOON_S = 10.0
_RUNNING = "running"
_SKILLS = "skills"
_NAMED = 3
# Artifacts that wait for their validation; the oldest give way.
_WAITING = 1000


class Supervisor(Protocol):
    """What is used of the services."""

    def report(self) -> dict[str, Any]:
        """``supervised``: of each service its ``state``, ``pid``, ``since``, ``last_reason``."""

    def restart(self, name: str, why: str) -> object:
        """Have it started anew. Raises OutlastError."""


@dataclass(slots=True)
class _Watch:
    """One probe, and where it stands. ``due``: seconds of the monotonic clock."""

    one: Declared
    due: float
    condition: Condition = field(default_factory=Condition)
    asking: asyncio.Task[None] | None = None


class _Order(msgspec.Struct, forbid_unknown_fields=True):
    now: bool = False


class Probes:
    """The probes of one node."""

    def __init__(self, around: Around, services: Supervisor) -> None:
        self._around = around
        self._services = services
        now, config = around.clock.monotonic(), around.config
        self._fresh = duration(config.health.skills)
        self._watches = [_Watch(one, now + min(one.rule.every or 0.0, _SOON_S)) for one in declared(config)]
        for watch in self._watches:
            if watch.one.way == "artifacts":
                watch.condition = Condition(text="nothing was completed yet")
        self._supervised: dict[str, Any] = {}
        self._completed: deque[str] = deque(maxlen=_WAITING)
        self._validating: asyncio.Task[None] | None = None
        self._kick = asyncio.Event()
        if any(watch.one.way == "artifacts" for watch in self._watches):
            around.memory.done = self._complete

    def orders(self) -> dict[str, Order]:
        """``health``: how everything is; asked anew first, where that is wanted."""
        return {"health": self._health}

    async def run(self) -> None:
        """Ask for ever, until cancelled."""
        try:
            while True:
                self._kick.clear()
                await _kicked(self._kick, self.look())
        finally:
            tasks = [task for task in (self._validating, *(watch.asking for watch in self._watches)) if task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def look(self) -> float | None:
        """Ask what is due, and return the seconds until the next is; None where nothing is asked by the clock."""
        self._renew()
        now = self._around.clock.monotonic()
        for watch in self._timed():
            if watch.due <= now:
                self._ask_when_paced(watch, now)
        self._look_at_skills()
        if self._completed and self._validating is None:
            self._validating = asyncio.create_task(self._validate())
        soonest = min((watch.due for watch in self._timed()), default=None)
        return None if soonest is None else max(0.0, soonest - now)

    def report(self) -> dict[str, Any]:
        """``health``: the levels of each subject; ``working``: what follows from them; ``skills``: their last status."""
        health, working = {}, {}
        for subject, levels in self._subjects().items():
            health[subject] = {LEVELS[level]: _shown(seen.condition) for level, seen in sorted(levels.items())}
            standing = stand(levels)
            working[subject] = {**asdict(standing), "since": _moment(standing.since)}
        skills = {name: msgspec.to_builtins(skill) for name, skill in self._skills().items()}
        return {"health": health, "working": working, "skills": skills}

    async def _health(self, body: bytes) -> object:
        if msgspec.json.decode(body, type=_Order).now:
            self._renew()
            for watch in self._timed():
                self._ask(watch)
            await asyncio.gather(*(watch.asking for watch in self._watches if watch.asking), return_exceptions=True)
        report, standing = self.report(), self._around.standing()
        ok = all(one["state"] in {"working", "not looked at"} for one in report["working"].values())
        about = {"node": self._around.config.node, "mode": standing.mode, "mode_reasons": list(standing.reasons)}
        return {**about, "ok": ok, **report}

    def _timed(self) -> Iterable[_Watch]:
        return (watch for watch in self._watches if watch.one.rule.every is not None)

    def _renew(self) -> None:
        """Look at the processes; a service that was started anew is judged by its own answers."""
        before, self._supervised = self._supervised, self._services.report().get("supervised", {})
        pids = {name: service["pid"] for name, service in self._supervised.items()}
        anew = {name for name, pid in pids.items() if pid != before.get(name, {}).get("pid")}
        for watch in self._watches:
            if watch.one.service in anew and watch.one.way != "process":
                watch.condition = renewed(watch.condition)
            if why := idle(self._supervised.get(watch.one.service, {})):
                # Here, and not when it is asked: what is shed may never be asked. Nothing follows from what is not to run.
                watch.condition = Condition(text=why)
                self._around.causes.pop(watch.one.key, None)
                if self._around.alerts.holds(watch.one.key):
                    self._around.alerts.over(watch.one.key)

    def _ask_when_paced(self, watch: _Watch, now: float) -> None:
        pace = 1 if watch.one.way == "process" else self._around.pace(watch.one.priority)
        asked, watch.due = next_ask(now, watch.one.rule.every or 0.0, pace)
        if asked:
            self._ask(watch)

    def _ask(self, watch: _Watch) -> None:
        """Ask now, unless it is being asked."""
        one = watch.one
        if watch.asking is not None and not watch.asking.done():
            return
        if one.service and not self._runs(watch, self._supervised.get(one.service, {})):
            return
        if one.way == "progress":
            self._ask_progress(watch)
        elif one.way == "file":
            path, now = self._around.home.workspace / one.probe.file, self._around.clock.time()
            self._take(watch, ask_file(path, one.probe.file, duration(one.probe.fresh), now))
        else:
            watch.asking = asyncio.create_task(self._await(watch))

    def _runs(self, watch: _Watch, service: Mapping[str, Any]) -> bool:
        """Is there a process to be asked? Where there is none, or that was the question, it is answered here."""
        state, last = str(service.get("state", "gone")), service.get("last_reason") or "not started yet"
        runs = state == _RUNNING
        if idle(service):
            return False
        if watch.one.way == "process":
            self._take(watch, Answer(runs, f"pid {service['pid']}" if runs else f"{state}: {last}", up=runs))
        elif not runs:
            # Its supervisor is at it, and tells a person where that does not help.
            self._take(watch, Answer(False, f"{state}: {last}", up=False), frozenset({"degrade"}))
        return runs and watch.one.way != "process"

    async def _await(self, watch: _Watch) -> None:
        one = watch.one
        try:
            if one.way == "http":
                answer = await ask_http(one.probe, one.timeout)
            else:
                answer = await ask_command(one, one.probe.command, self._around.home, self._around.guard)
        except (OSError, OutlastError) as error:
            answer = Answer(False, one_line(f"it could not be asked: {error}"))
        finally:
            watch.asking = None
        self._take(watch, answer)
        self._look_at_skills()

    def _ask_progress(self, watch: _Watch) -> None:
        """PROGRESS.md, where there is one and work is open: from then on it is to move."""
        home, state = self._around.home, self._around.memory.state
        began = [unit.since for kind in ("task", "step") for unit in state.open(kind).values()]
        if not began or not home.progress.exists():
            watch.condition = Condition()
            return
        since = datetime.fromisoformat(min(began)).timestamp()
        fresh = watch.one.rule.every or 0.0
        self._take(watch, ask_file(home.progress, home.progress.name, fresh, self._around.clock.time(), since))

    def _take(self, watch: _Watch, answer: Answer, may: frozenset[Then] | None = None) -> None:
        """Judge an answer, and do what follows; ``may``: nothing else."""
        one, before = watch.one, watch.condition
        after = watch.condition = judge(before, answer, one.rule, self._around.clock.time())
        said = {"name": one.label, "level": LEVELS[one.rule.level], "text": after.text}
        if after.ok is False and before.ok is not False:
            self._around.events.emit("probe.failed", **said)
        elif after.ok and before.ok is False:
            self._around.events.emit("probe.passed", **said)
        if one.way != "process":
            due = follows(after, one.rule)
            self._do(watch, answer, due if may is None else due & may)

    def _do(self, watch: _Watch, answer: Answer, due: frozenset[Then]) -> None:
        one, around = watch.one, self._around
        key, words = one.key, f"{one.label} ({LEVELS[one.rule.level]}) fails: {answer.text}"
        if "degrade" in due:
            around.causes.setdefault(key, words)
        elif watch.condition.ok is not False:
            around.causes.pop(key, None)
        # Its own hysteresis counts the same answers.
        if answer.ok:
            around.alerts.gone(key)
        elif "alert" in due:
            helped = f", and {watch.condition.restarts} restarts did not help" if watch.condition.restarts else ""
            around.alerts.found(key, "soon", f"{words}{helped}; mend: {one.mend}")
        if "restart" in due:
            try:
                self._services.restart(one.service, f"its probe {words.removeprefix(f'{one.service} ')}")
                watch.condition = restarted(watch.condition)
            except OutlastError as error:
                around.events.emit("probe.not_restarted", name=one.label, error=str(error))

    def _look_at_skills(self) -> None:
        """Does something that people are answered by not work, while skills do their work from files?"""
        broken = self._broken() if any(watch.condition.ok is False for watch in self._watches) else {}
        running = [name for name, skill in self._skills().items() if skill.fresh] if broken else []
        if not running:
            self._around.causes.pop(_SKILLS, None)
            return
        what = ", ".join(f"{name} {'down' if state == 'down' else 'not working'}" for name, state in broken.items())
        more = ", …" if len(running) > _NAMED else ""
        self._around.causes.setdefault(_SKILLS, f"{what} while skills run: {', '.join(running[:_NAMED])}{more}")

    def _broken(self) -> dict[str, str]:
        """The services, and what is asked over HTTP, that are not alive or do not respond."""
        ways = {watch.one.subject for watch in self._watches if watch.one.way in {"process", "http"}}
        return {
            subject: stand(levels).state
            for subject, levels in self._subjects().items()
            if subject in ways
            and any(levels[level].condition.ok is False for level in (ALIVE, RESPONDING) if level in levels)
        }

    def _complete(self, unit: str) -> None:
        self._completed.append(unit)
        self._kick.set()

    async def _validate(self) -> None:
        """Every artifact that waits, one after the other."""
        try:
            while self._completed:
                unit = self._completed.popleft()
                for watch in self._watches:
                    if watch.one.way == "artifacts":
                        await self._validate_by(watch, unit)
        finally:
            self._validating = None

    async def _validate_by(self, watch: _Watch, unit: str) -> None:
        home, one = self._around.home, watch.one
        folder = home.artifacts / unit
        if not folder.is_dir():
            return
        command = [*one.probe.artifacts, str(folder)]
        answer = await ask_command(one, command, home, self._around.guard, {"OUTLAST_UNIT": unit})
        self._take(watch, Answer(answer.ok, f"{unit}: {answer.text}"))
        if not answer.ok:
            self._around.events.emit("artifact.invalid", correlation_id=unit, name=one.label, text=answer.text)
            try:
                self._around.memory.note(unit, one_line(f"its artifact is not valid ({one.label}): {answer.text}"))
            except DurabilityError as error:
                self._around.events.emit("probe.not_noted", name=one.label, error=str(error))

    def _skills(self) -> dict[str, Skill]:
        return read_skills(self._around.home.skills, self._around.clock.time(), self._fresh)

    def _subjects(self) -> dict[str, dict[int, Seen]]:
        """The levels of each subject that has any."""
        found: dict[str, dict[int, list[Condition]]] = {}
        for watch in self._watches:
            if watch.one.way != "progress" or watch.condition.at is not None:
                found.setdefault(watch.one.subject, {}).setdefault(watch.one.rule.level, []).append(watch.condition)
        return {
            subject: {level: level_of(level, conditions) for level, conditions in levels.items()}
            for subject, levels in found.items()
        }


def _shown(condition: Condition) -> dict[str, object]:
    return {
        "ok": condition.ok,
        "text": condition.text,
        "at": _moment(condition.at),
        "since": _moment(condition.since),
        "failures": condition.failures,
    }


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else iso(seconds)


async def _kicked(event: asyncio.Event, seconds: float | None) -> None:
    """Wait for an event, ``seconds`` at most."""
    waiter = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({waiter}, timeout=seconds)
    finally:
        waiter.cancel()
