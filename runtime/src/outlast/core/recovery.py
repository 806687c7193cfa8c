"""Recovery as a value: a pure plan from (records, artifacts, STATE) to what is to be done about them.

Rules kept here (spec.md, section 3): a verdict that reached the disk is carried through, never worked out again; an agent
that was cut off runs again only where its owner said that this is safe, and not for ever; what nobody can know is *in
doubt*, and is said. An artifact that neither STATE nor the journal knows corrects STATE: its unit is closed as its manifest
says, and a RECOVER record of that is owed. What has no manifest (people's own files) is counted, and not talked about.

Left to others: finding the evidence and doing the plan (store.memory, work.tasks, work.handoffs, work.steps).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Container, Iterable
from typing import Annotated, Literal

import msgspec

from outlast.core.findings import Finding
from outlast.core.ids import UNIT_TAIL
from outlast.core.record import Record, Step
from outlast.core.state import (
    ARTIFACTS,
    KEEP,
    Kind,
    Present,
    State,
    Unit,
    Verdict,
    counted_phrase,
    fold_all,
    intent_phrase,
    shown_phrase,
    tells,
    with_names,
)
from outlast.errors import BadInput

__all__ = [
    "Correction",
    "Evidence",
    "Handoff",
    "Owed",
    "Plan",
    "StagedStep",
    "Task",
    "agreeing",
    "correct",
    "plan_handoff",
    "plan_step",
    "plan_task",
    "rebuild",
    "reflected",
    "vanished",
]

Action = Literal["finish", "run", "close"]
Moment = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT[0-9:.]{8,16}Z\Z")]
# What a record's unit may be called; other names in artifacts/ are people's own.
# Of 64-bit hashes; with as many as bits any difference would have an answer.
_ABSENT = 40
_UNIT = re.compile("[a-z0-9-]+")


class Task(msgspec.Struct, frozen=True):
    """The evidence of a task that this node was given. ``attempts``: how often its agent was started."""

    accepted: bool
    result: bool
    attempts: int


class Handoff(msgspec.Struct, frozen=True):
    """The evidence of a hand-off that this node made.

    ``sent``: its message waits in the outbox, or was delivered; ``lost``: the ledger that would tell was lost since;
    ``text``: what was to be handed over is known, whole.
    """

    sent: bool
    lost: bool
    text: bool


class StagedStep(msgspec.Struct, frozen=True):
    """The evidence of a step. ``artifact``: it is published; ``staged``: something is in the folder where it is made."""

    artifact: bool
    staged: bool


class Plan(msgspec.Struct, frozen=True):
    """``finish``: carry the verdict through; ``run``: (again); ``close`` with this verdict. ``told`` is for people."""

    action: Action
    told: str = ""
    verdict: Literal["failed", "in doubt"] = "failed"


def plan_task(task: Task, *, rerun: bool, attempts: int) -> Plan:
    """What to do about an open task. ``rerun``: its agent may run again; ``attempts``: how often it may be started."""
    if task.result:
        return Plan("finish", "its agent had ended, the rest was carried through")
    if not task.accepted:
        return Plan("close", "its text was lost before it was acknowledged", "failed")
    if task.attempts == 0:
        return Plan("run", "it was accepted and not begun, it runs now")
    if not rerun:
        return Plan("close", "its agent was cut off; what it had done by then is not known", "in doubt")
    if task.attempts >= attempts:
        return Plan("close", f"its agent was cut off {task.attempts} times", "in doubt")
    return Plan("run", "its agent was cut off, it runs again")


def plan_handoff(handoff: Handoff) -> Plan | None:
    """What to do about an open hand-off; None where its message is on its way."""
    if handoff.sent:
        return None
    if handoff.lost and handoff.text:
        # The peer takes a unit once, however often it is sent.
        return Plan("run", "the ledger was lost; it is queued again under the same id")
    if handoff.lost:
        return Plan("close", "the ledger was lost, and its text with it; whether it was sent is not known", "in doubt")
    # The node stopped before it was queued, and who asked was not told that it was: whether it still should be is theirs.
    return Plan("close", "the ledger has no trace of it; it was most likely never sent", "in doubt")


def plan_step(unit: str, step: StagedStep) -> Plan:
    """What to do about an open step. Only ``finish`` is done without whoever began it."""
    if step.artifact:
        return Plan("finish", "its artifact is published, the rest was carried through")
    if step.staged:
        return Plan(
            "run", f"files are staged, and not published; outlast step act --unit {unit} goes on, abandon ends it"
        )
    return Plan(
        "run", f"it has no artifact yet; it can be run again, or ended: outlast step abandon --unit {unit} --reason WHY"
    )


class Evidence(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    """What a manifest says of the unit that made an artifact; what else is in it is not our business here."""

    unit: str
    task: str
    sender: str
    verdict: Verdict
    ended: Moment
    kind: Kind = "task"
    makes: tuple[str, ...] = ()

    def intent(self, node: str) -> str:
        """What the unit's INTENT would have said; empty where no unit of ``node``'s made this."""
        if self.kind == "step" and self.sender == node:
            with contextlib.suppress(BadInput):
                return intent_phrase("step", "", self.task, self.makes)
            return intent_phrase("step", "", self.task, (self.unit,))
        if self.kind == "task" and self.sender not in {"", node} and self.unit[:-UNIT_TAIL] == self.sender:
            return intent_phrase("task", self.sender, self.task)
        return ""


class Owed(msgspec.Struct, frozen=True):
    """A record that the journal must be given: ``step``, about ``unit``, saying ``what``."""

    step: Step
    unit: str
    what: str


class Correction(msgspec.Struct, frozen=True):
    """What brings STATE in line with the artifacts: the records, in order, then ``present``; and what is said of it."""

    owed: tuple[Owed, ...]
    present: Present
    findings: tuple[Finding, ...]

    def apply(self, state: State, day: str, time: str) -> State:
        """The state as it will be; ``day`` and ``time`` are those of the records to be."""
        records = (
            Record(day, time, owed.step, owed.unit, owed.what, state.node, number)
            for number, owed in enumerate(self.owed, state.seq + 1)
        )
        return msgspec.structs.replace(fold_all(state, records), artifacts=self.present)


def reflected(state: State, names: Iterable[str]) -> Present:
    """The value of those names that STATE reflects, or would: all but those of units that are still open."""
    still_open = {name for name, unit in state.units.items() if unit.status == "open" and unit.kind != "handoff"}
    return with_names(Present(), (name for name in names if name not in still_open) if still_open else names)


def vanished(state: State, present: Present, names: Container[str]) -> tuple[str, ...]:
    """The units that made artifacts which STATE reflects, and which are not among the ``names`` whose value is ``present``.

    What cleaning took STATE does not reflect any more; which of the absent ones are in its value follows from the XOR of their
    hashes, unless so many are absent that several answers fit: then none is named. Nothing is said of people's own files.
    """
    ended = (name for name, unit in state.units.items() if unit.status == "done" and unit.kind != "handoff")
    absent = [name for name in ended if name not in names][-_ABSENT:]
    # Gauss: for each highest bit a combination of hashes that has it, and whose they are.
    basis: dict[int, tuple[int, int]] = {}

    def reduced(value: int, whose: int) -> tuple[int, int]:
        while value and value.bit_length() in basis:
            other = basis[value.bit_length()]
            value, whose = value ^ other[0], whose ^ other[1]
        return value, whose

    for number, name in enumerate(absent):
        value, whose = reduced(int(with_names(Present(), (name,)).digest, 16), 1 << number)
        basis[value.bit_length()] = value, whose
    left, whose = reduced(int(state.artifacts.digest, 16) ^ int(present.digest, 16), 0)
    return () if left else tuple(name for number, name in enumerate(absent) if whose >> number & 1)


def correct(
    state: State, known: Container[str], names: Iterable[str], read: Callable[[str], Evidence | None]
) -> Correction:
    """What the artifacts called ``names`` say that neither STATE nor the journal (which ``tells`` of ``known``) does.

    ``read`` gives an artifact's evidence, None where there is none. It is called for names that are not known alone. Linear.
    """
    names = list(names)
    unknown: list[tuple[str, str, Verdict, str]] = []
    for name in names:
        if name in known or name in state.units or not _UNIT.fullmatch(name):
            continue
        evidence = read(name)
        if evidence is not None and evidence.unit == name and (intent := evidence.intent(state.node)):
            unknown.append((evidence.ended, name, evidence.verdict, intent))
    # What an earlier rebuilding only counted has no record, and needs none now.
    unknown = sorted(found for found in unknown if found[0] > state.counted_to)
    older, newest = unknown[:-KEEP], unknown[-KEEP:]
    owed = [Owed(Step.RECOVER, name, shown_phrase(verdict, intent)) for _, name, verdict, intent in newest]
    findings = [
        Finding(
            name, "its artifact is there, and STATE.json did not know of it", f"STATE.json was corrected: {verdict}"
        )
        for _, name, verdict, _ in newest
    ]
    if older:
        owed.append(Owed(Step.NOTE, ARTIFACTS, counted_phrase(len(older), older[-1][0])))
        told = f"{len(older)} that STATE.json did not know of are older than what it keeps"
        findings.append(Finding("artifacts/", told, "they are counted"))
    return Correction(tuple(owed), reflected(state, names), tuple(findings))


def rebuild(
    node: str, records: Iterable[Record], names: Iterable[str], read: Callable[[str], Evidence | None]
) -> tuple[State, Correction]:
    """STATE from nothing but the journal and the artifacts: what the records say, and what is to be added. Linear.

    The result of both is ``correction.apply(state, …)``.
    """
    known: set[str] = set()

    def noted() -> Iterable[Record]:
        for record in records:
            if tells(record):
                known.add(record.unit)
            yield record

    state = fold_all(State(node=node), noted())
    return state, correct(state, known, names, read)


def agreeing(rebuilt: State, old: State) -> State:
    """The rebuilt state in the words of the ``old`` one (that of the file) where both say the same.

    A record is shorter than what was said when a unit was closed, and a second later. Numbers that the old one knows were
    given out are not given out again.
    """

    units: dict[str, Unit] = {}
    for name, before in old.units.items():
        unit = rebuilt.units.get(name)
        if unit and (unit.kind, unit.peer, unit.status) == (before.kind, before.peer, before.status):
            units[name] = msgspec.structs.replace(before, confirmed=unit.confirmed)
    units |= {name: unit for name, unit in rebuilt.units.items() if name not in units}
    return msgspec.structs.replace(rebuilt, units=units, seq=max(rebuilt.seq, old.seq))
