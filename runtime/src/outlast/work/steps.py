"""The five steps for any agent or script: INTENT, ACTION, VERIFY, UPDATE, CONFIRM of a unit that leaves files.

Rules kept here (spec.md, section 3):

* ``begin`` is INTENT: what will be made is in the journal before anything is made;
* ``act`` is ACTION: what was promised is staged, and once all of it is there it becomes ``artifacts/UNIT/`` in one rename,
  with a manifest, under the rules of an agent's artifact (work.harvest);
* ``commit`` is VERIFY, UPDATE and CONFIRM: every file is read back before STATE.json and the journal say that it is done;
* ``abandon`` closes a unit that has published nothing; what was staged goes to the trash, and it may be begun again;
* each of them may be asked for again, by anybody, at the same time: it is done once. Whatever moment the power goes,
  ``recover`` carries on from what is on the disk.

Left to others: running a command (cli.steps), the place where files are made (work.staging).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import msgspec

from outlast.clock import Clock, iso, stamp
from outlast.core.findings import Finding
from outlast.core.ids import age, span_of, trace_of
from outlast.core.promises import check_names, check_unit
from outlast.core.record import one_line
from outlast.core.recovery import StagedStep, plan_step
from outlast.core.state import Unit, Verdict
from outlast.errors import AgentError, BadInput
from outlast.home import Home
from outlast.quantity import size
from outlast.settings import Config
from outlast.store import durable
from outlast.store.events import EventLog
from outlast.store.memory import Memory
from outlast.work.artifacts import MANIFEST, Manifest, publish, verify
from outlast.work.handoffs import summary
from outlast.work.harvest import harvest
from outlast.work.staging import STAGED, busy, is_made, take
from outlast.work.tickets import read_manifest

if TYPE_CHECKING:
    from outlast.control import Order

__all__ = ["Steps"]

_FILES = 256
_THREAD_BYTES = 1 << 20
_DETAIL = 140


class _Begin(msgspec.Struct, forbid_unknown_fields=True):
    unit: str
    artifacts: list[str]
    what: str = ""


class _Act(msgspec.Struct, forbid_unknown_fields=True):
    unit: str
    artifact: str = ""
    staged: str = ""


class _Commit(msgspec.Struct, forbid_unknown_fields=True):
    unit: str


class _Abandon(_Commit, forbid_unknown_fields=True):
    reason: str


class Steps:
    """The steps of one node."""

    def __init__(self, home: Home, config: Config, memory: Memory, events: EventLog, clock: Clock) -> None:
        self._home = home
        self._node = config.node
        self._most_bytes = size(config.agent.artifact_limit)
        self._memory = memory
        self._events = events
        self._clock = clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def orders(self) -> dict[str, Order]:
        """What the command asks for."""
        return {
            "step/begin": self._begin,
            "step/act": self._act,
            "step/commit": self._commit,
            "step/abandon": self._abandon,
        }

    def recover(self) -> list[Finding]:
        """Put right what the last stop left; says what was. What waits for whoever began it stays open, the doctor lists it.

        Raises DurabilityError.
        """
        findings = []
        for unit, state in self._memory.state.unconfirmed("step").items():
            self._memory.confirm(unit, state.closed_as(), state.detail)
        for unit in self._memory.state.open("step"):
            work = self._work(unit)
            if work.parent.is_dir() and busy(work.parent):
                # Whoever is at work on it goes on: nothing was cut off.
                continue
            plan = plan_step(unit, StagedStep(self._published(unit), work.is_dir() and any(work.iterdir())))
            if plan.action != "finish":
                self._events.emit("step.open", correlation_id=unit, told=plan.told)
                continue
            self._memory.recovered(unit, plan.told)
            verdict, detail = self._judge(unit, self._memory.state.units[unit])
            self._close(unit, verdict, detail)
            told = "its artifact was published, and STATE.json did not know"
            findings.append(Finding(unit, told, f"STATE.json was corrected: {verdict}, {detail}"))
        self._sweep()
        return findings

    async def _begin(self, body: bytes) -> object:
        order = msgspec.json.decode(body, type=_Begin)
        unit, names = check_unit(order.unit), check_names(order.artifacts)
        async with self._alone(unit):
            known = self._memory.state.units.get(unit)
            if known is None or known.may_begin_again():
                if (done := self._done_before(unit)) is not None:
                    return done
                durable.make_dir(self._home.steps / unit)
                durable.make_dir(self._work(unit), mode=durable.SHARED_FOLDER)
                await self._memory.intent_soon(unit, "step", "", order.what or f"unit {unit}", names)
                self._events.emit("step.begun", correlation_id=unit, makes=names)
                return self._answer(unit, changed=True)
            if known.kind != "step":
                raise BadInput("--unit", f"{unit} is a {known.kind}", "choose another name")
            if known.artifacts != names:
                made = "was to make" if known.status == "open" else "made"
                mend = "keep to that, or abandon it first" if known.status == "open" else "choose another name"
                raise BadInput("--artifact", f"{unit} {made} {', '.join(known.artifacts)}", mend)
            return self._answer(unit, changed=False)

    async def _act(self, body: bytes) -> object:
        order = msgspec.json.decode(body, type=_Act)
        unit = check_unit(order.unit)
        async with self._alone(unit):
            known = self._known(unit)
            if known.may_begin_again():
                raise BadInput("--unit", f"{unit} is {known.status}: {known.detail}", "begin it again")
            staged = self._home.steps / unit / order.staged
            if order.artifact and (order.artifact not in known.artifacts or not re.fullmatch(STAGED, order.staged)):
                wrong = f"{unit} makes {', '.join(known.artifacts)}, not {one_line(order.artifact, 60)}"
                raise BadInput("--artifact", wrong, "name what was promised")
            if known.status != "open" or self._published(unit):
                same = not order.artifact or self._same(unit, order.artifact, staged)
                return {**self._answer(unit, changed=False), "same": same}
            if order.artifact:
                take(self._work(unit), order.artifact, staged)
            if not self._missing(unit, known):
                await self._publish(unit, known)
            elif not order.artifact:
                self._refuse_missing(unit, known)
            return self._answer(unit, changed=True)

    async def _commit(self, body: bytes) -> object:
        unit = check_unit(msgspec.json.decode(body, type=_Commit).unit)
        async with self._alone(unit):
            if self._memory.state.units.get(unit) is None and (done := self._done_before(unit)) is not None:
                return done
            known = self._known(unit)
            if known.status != "open":
                if not known.confirmed:
                    await self._memory.confirm_soon(unit, known.closed_as(), known.detail)
                    self._clear(unit)
                return self._answer(unit, changed=not known.confirmed)
            if not self._published(unit):
                self._refuse_missing(unit, known)
                mend = f"outlast step act --unit {unit}, then commit"
                raise BadInput("--unit", f"all that {unit} makes is staged, and not published", mend)
            manifest = read_manifest(self._home.artifacts / unit / MANIFEST)
            if manifest is not None and sum(file.size for file in manifest.files) >= _THREAD_BYTES:
                verdict, detail = await asyncio.to_thread(self._judge, unit, known)
            else:
                verdict, detail = self._judge(unit, known)
            self._memory.update(unit, verdict, detail, artifact=verdict == "done")
            await self._memory.confirm_soon(unit, verdict, detail)
            self._told(unit, verdict, detail)
            return self._answer(unit, changed=True)

    async def _abandon(self, body: bytes) -> object:
        order = msgspec.json.decode(body, type=_Abandon)
        unit, reason = check_unit(order.unit), one_line(order.reason, _DETAIL)
        if not reason:
            raise BadInput("--reason", "it is empty", "say why, in a line")
        async with self._alone(unit):
            known = self._known(unit)
            if known.status == "done":
                raise BadInput("--unit", f"{unit} is done", "what is done stays; use another unit")
            if known.status == "open" and self._published(unit):
                raise BadInput(
                    "--unit", f"what {unit} makes is published already", f"outlast step commit --unit {unit}"
                )
            if known.status == "open":
                self._close(unit, "failed", reason)
            elif not known.confirmed:
                self._memory.confirm(unit, known.closed_as(), known.detail)
            return self._answer(unit, changed=known.status == "open")

    @contextlib.asynccontextmanager
    async def _alone(self, unit: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(unit, asyncio.Lock())
        async with lock:
            yield

    def _work(self, unit: str) -> Path:
        return self._home.steps / unit / "work"

    def _published(self, unit: str) -> bool:
        return os.path.lexists(self._home.artifacts / unit)

    def _known(self, unit: str) -> Unit:
        known = self._memory.state.units.get(unit)
        if known is None:
            raise BadInput("--unit", f"{unit} is not begun", f"outlast step begin --unit {unit} --artifact NAME")
        if known.kind != "step":
            raise BadInput("--unit", f"{unit} is a {known.kind}", "name a step")
        return known

    def _done_before(self, unit: str) -> dict[str, object] | None:
        """The answer about a unit that STATE has forgotten, or does not know, and whose artifact is there."""
        if not self._published(unit):
            return None
        manifest = read_manifest(self._home.artifacts / unit / MANIFEST)
        if manifest is None or (manifest.unit, manifest.kind, manifest.sender) != (unit, "step", self._node):
            raise BadInput("--unit", f"workspace/artifacts/{unit} is there, and no step's", "choose another name")
        made = Unit("step", "", manifest.task, "", "done", manifest.detail, confirmed=True, artifacts=manifest.makes)
        return self._answer(unit, made, changed=False)

    def _answer(self, unit: str, known: Unit | None = None, *, changed: bool) -> dict[str, object]:
        known = known or self._memory.state.units[unit]
        published = self._published(unit)
        return {
            "unit": unit,
            "status": known.status,
            "changed": changed,
            "published": published,
            "artifacts": list(known.artifacts),
            "missing": [] if published or known.status != "open" else self._missing(unit, known),
            "detail": known.detail,
        }

    def _missing(self, unit: str, known: Unit) -> list[str]:
        return [name for name in known.artifacts if not is_made(self._work(unit) / name)]

    def _refuse_missing(self, unit: str, known: Unit) -> None:
        if missing := self._missing(unit, known):
            mend = f"outlast step act --unit {unit} --artifact {missing[0]} --from FILE"
            raise BadInput("--unit", f"{unit} is not acted yet: {', '.join(missing)} missing", mend)

    def _same(self, unit: str, name: str, staged: Path) -> bool:
        """Whether this is what was published. That stays in either case: work that is done again is not done twice."""
        manifest = read_manifest(self._home.artifacts / unit / MANIFEST)
        published = {file.path: file.sha256 for file in manifest.files} if manifest else {}
        try:
            with open(staged, "rb") as stream:
                return published.get(name) == file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise BadInput("--from", "what was to be staged is gone", "stage it again") from error

    async def _publish(self, unit: str, known: Unit) -> None:
        work = self._work(unit)
        if (left := read_manifest(work / MANIFEST)) is not None and left.unit == unit:
            # Ours, from before a crash; harvest takes it for somebody else's.
            (work / MANIFEST).unlink()
        try:
            files = await harvest(work, self._most_bytes, _FILES)
        except AgentError as error:
            raise BadInput("--artifact", *str(error).partition("; ")[::2]) from error
        manifest = Manifest(
            unit=unit,
            task=known.what,
            sender=self._node,
            trace_id=trace_of(unit),
            verdict="done",
            detail=summary("", files),
            exit_code=None,
            ended=iso(self._clock.time()),
            files=files,
            kind="step",
            makes=known.artifacts,
        )
        data = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
        durable.replace(work / MANIFEST, data, mode=durable.SHARED_FILE)
        publish(work, self._home.artifacts / unit)
        span_id = span_of(unit, "step")
        self._events.emit("step.published", span_id=span_id, correlation_id=unit, files=len(files))

    def _judge(self, unit: str, known: Unit) -> tuple[Verdict, str]:
        """VERIFY: what a published artifact is worth. One that is not what was made is set aside."""
        artifact = self._home.artifacts / unit
        # Whoever published it may have failed, or been killed, before its name was on the disk.
        durable.moved(self._work(unit), artifact)
        manifest = read_manifest(artifact / MANIFEST)
        if manifest is None:
            wrong = "its manifest cannot be read"
        elif absent := set(known.artifacts) - {file.path for file in manifest.files}:
            wrong = f"{min(absent)} is missing"
        else:
            wrong = verify(artifact, manifest)
        if manifest is not None and not wrong:
            return "done", one_line(summary("", manifest.files), _DETAIL)
        aside = durable.set_aside(artifact, self._home.trash, stamp(self._clock.time()))
        return "failed", one_line(
            f"the artifact is not what was made, it is in trash as {aside.name}: {wrong}", _DETAIL
        )

    def _close(self, unit: str, verdict: Verdict, detail: str) -> None:
        self._memory.update(unit, verdict, detail, artifact=verdict == "done")
        self._memory.confirm(unit, verdict, detail)
        self._told(unit, verdict, detail)

    def _told(self, unit: str, verdict: Verdict, detail: str) -> None:
        ids, seconds = {"correlation_id": unit, "span_id": span_of(unit, "step")}, age(unit, self._clock.time())
        self._events.emit("step.closed", **ids, verdict=verdict, detail=detail, seconds=seconds)
        self._clear(unit)

    def _clear(self, unit: str) -> None:
        """The folder of a closed unit goes; what is still in it, to the trash."""
        folder = self._home.steps / unit
        for empty in (folder / "work", folder):
            with contextlib.suppress(OSError):
                empty.rmdir()
        if folder.exists():
            durable.set_aside(folder, self._home.trash, stamp(self._clock.time()))

    def _sweep(self) -> None:
        """Clear what a kill left of units that are closed, or were never begun."""
        if not self._home.steps.is_dir():
            return
        still = self._memory.state.open("step")
        for unit in sorted(os.listdir(self._home.steps)):
            if unit not in still and (self._home.steps / unit).is_dir() and not busy(self._home.steps / unit):
                self._clear(unit)
