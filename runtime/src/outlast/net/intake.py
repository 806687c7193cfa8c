"""Behind the door's checks: all that arrives in one turn of the event loop is taken together.

Rules kept here: acknowledged means durable: one fsync of the journal for all notes, and one transaction of the ledger for all
ids, sequence numbers and records, before anybody is answered; what comes twice in one turn causes one thing and gets one
answer; what could not be made durable is in no ledger, and may come again.

Left to others: who may send what, and how the answers look (net.ingress); what messages cause (the door's other side).
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from outlast.clock import Clock
from outlast.core.crdt import Entry, Holding
from outlast.core.overview import Overview
from outlast.core.ratelimit import lane
from outlast.core.webhook import Signed
from outlast.errors import BadInput, DurabilityError, OutlastError
from outlast.messages import Envelope, Note, Status, Traced
from outlast.net.connection import Later
from outlast.net.http import Request, Response
from outlast.store.events import EventLog
from outlast.store.ledger import Accepted, Keep, Ledger, Taken
from outlast.work.notes import Noted

__all__ = ["Arrival", "Busy", "Door", "Effect", "Intake", "spans", "success"]

_ABOUT_LIMIT = 512
# They cause nothing, and a page that is open for weeks must not push what an audit needs out of the record.
_NOT_RECORDED = frozenset({"ping", "status"})


class Busy(OutlastError):
    """The node cannot take this now; the peer may try again."""


class Effect(NamedTuple):
    """What a message caused: what its answer tells, and what it is about (store.ledger.Accepted)."""

    about: str = ""
    holding: Holding | None = None
    trace: tuple[Traced, ...] = ()
    overview: Overview | None = None


class Door(Protocol):
    """What stands behind the door."""

    def accept(self, envelope: Envelope) -> Effect:
        """Take a message that is no note, durably and idempotently.

        Raises Busy, DurabilityError; BadInput for what will never be taken.
        """

    def note(self, notes: Sequence[Noted]) -> list[str]:
        """Take notes, durably and idempotently; returns what each is called. Raises DurabilityError: none is taken."""

    def heard(self, peer: str) -> None:
        """A peer gave a proven sign of life."""

    def reasons(self) -> list[str]:
        """Why no work can be taken now; empty when it can."""


@dataclass(slots=True)
class Arrival:
    """A message that may come in, and who waits for its answer. ``kind`` is its type."""

    sender: str
    signed: Signed
    request: Request
    content: Envelope | Noted
    trace_id: str
    span_id: str
    kind: str
    answers: list[Later] = field(default_factory=list)

    @property
    def noted(self) -> Noted | None:
        """The note that it is, if it is one."""
        if isinstance(self.content, Noted):
            return self.content
        message = self.content.message
        return Noted(self.signed.id, self.sender, message.text) if isinstance(message, Note) else None

    @property
    def looks(self) -> bool:
        """Is it a peer that asks how we are, again and again while somebody looks at its page?"""
        return isinstance(self.content, Envelope) and isinstance(self.content.message, Status)

    def taken(self, about: str, now: float) -> Taken:
        """What the ledger is told of it."""
        envelope = self.content if isinstance(self.content, Envelope) else None
        message = Accepted(
            peer=self.sender,
            id=self.signed.id,
            at=now,
            signed=self.signed.timestamp,
            key=self.signed.key,
            remote=self.request.remote,
            type=self.kind,
            size=len(self.request.body),
            seq=envelope.seq if envelope else 0,
            trace_id=self.trace_id,
            correlation_id=envelope.correlation_id if envelope else "",
            about=about,
        )
        return Taken(message, success(self.kind), recorded=envelope is None or self.kind not in _NOT_RECORDED)


class Intake:
    """Gathers messages that have passed the door's checks, and takes those of one turn together."""

    def __init__(
        self,
        door: Door,
        ledger: Ledger,
        keep: Keep,
        events: EventLog,
        clock: Clock,
        answer: Callable[[Arrival, Effect | OutlastError], Response],
    ) -> None:
        """``answer`` says how one is answered that caused this, or could not be taken."""
        self._door = door
        self._ledger = ledger
        self._keep = keep
        self._events = events
        self._clock = clock
        self._answer = answer
        self._arrived: dict[tuple[str, str], Arrival] = {}

    def waiting(self, sender: str, msg_id: str) -> Arrival | None:
        """The message with this id that has arrived in this turn already."""
        return self._arrived.get((sender, msg_id))

    def add(self, arrival: Arrival) -> None:
        """Take this one too when the turn is over."""
        if not self._arrived:
            get_running_loop().call_soon(self._turn)
        self._arrived[arrival.sender, arrival.signed.id] = arrival

    def _turn(self) -> None:
        """Take all that has arrived since the last turn, and answer it."""
        arrived, self._arrived = list(self._arrived.values()), {}
        try:
            answers = self._take(arrived)
        except Exception as error:  # noqa: BLE001 - a defect: who waits must not wait for ever
            for one in arrived:
                for later in one.answers:
                    later.give(error)
            return
        for one, response in zip(arrived, answers, strict=True):
            for later in one.answers:
                later.give(response)

    def _take(self, arrived: list[Arrival]) -> list[Response]:
        effects = self._effects(arrived)
        now = self._clock.time()
        taken = [(one, effect) for one, effect in zip(arrived, effects, strict=True) if isinstance(effect, Effect)]
        failed: DurabilityError | None = None
        try:
            rows = [one.taken(effect.about, now) for one, effect in taken]
            findings = self._ledger.accept(rows, self._keep) if rows else []
        except DurabilityError as error:
            failed, findings = error, []
        if findings:
            told = zip((one for one, _ in taken), rows, findings, strict=True)
            events = [_event(one, row.message, finding) for one, row, finding in told if not one.looks]
            if events:
                self._events.emit_all(events)
            for one in (one for one, _ in taken if one.looks):
                self._events.burst("status.accepted", f"status for {one.sender}", peer=one.sender)
        return [self._answer(one, failed or effect) for one, effect in zip(arrived, effects, strict=True)]

    def _effects(self, arrived: list[Arrival]) -> list[Effect | OutlastError]:
        """What each caused, or why it did not; notes share one fsync."""
        notes = [noted for one in arrived if (noted := one.noted)]
        names: dict[tuple[str, str], str] = {}
        failed: DurabilityError | None = None
        if notes:
            try:
                names = {(note.sender, note.id): name for note, name in zip(notes, self._door.note(notes), strict=True)}
            except DurabilityError as error:
                failed = error
        effects: list[Effect | OutlastError] = []
        for one in arrived:
            if isinstance(one.content, Noted) or isinstance(one.content.message, Note):
                effects.append(failed or Effect(names[one.sender, one.signed.id]))
                continue
            try:
                effects.append(self._door.accept(one.content))
            except (Busy, BadInput, DurabilityError) as error:
                effects.append(error)
        return effects


def _event(one: Arrival, message: Accepted, finding: str) -> dict[str, object]:
    return {
        "event": f"{one.kind}.accepted",
        "trace_id": one.trace_id,
        "span_id": one.span_id,
        "correlation_id": message.correlation_id,
        "id": message.id,
        "peer": message.peer,
        "seq": message.seq,
        "key": message.key,
        **({"finding": finding} if finding else {}),
    }


def success(kind: str) -> int:
    """The status of a message of this kind that was taken: what only wants to know is done, what wants work is accepted."""
    return 200 if lane(kind) == "control" else 202


def spans(entries: Sequence[Entry]) -> str:
    """Which entries these are: ``agent:first-last``, of several agents with a space in between."""
    found: dict[str, list[int]] = {}
    for entry in entries:
        found.setdefault(entry.agent, []).append(entry.seq)
    return " ".join(f"{agent}:{min(seqs)}-{max(seqs)}" for agent, seqs in sorted(found.items()))[:_ABOUT_LIMIT]
