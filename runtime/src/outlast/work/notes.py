"""Notes: short texts that a peer, a person here or an outside service puts into the journal.

Rules kept here: a note is in the journal whole, in as many records as it takes, all of them durable together, under one name
(core.ids.note_unit), once, also when the ledger lost or never had its id; who it is from is said in every record, and an
outside service is called that, so that no agent takes it for a sibling; a note to a peer is in our journal before it waits in
the outbox, and is refused before that where too much waits already.

Left to others: who may send (net.ingress), delivery (net.outbox), what readers make of a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from outlast.clock import Clock
from outlast.core.ids import message_id, note_unit, span_of, trace_of
from outlast.core.record import WHAT_LIMIT, Step, one_line
from outlast.errors import BadInput, DurabilityError
from outlast.messages import Note, sealed
from outlast.quantity import size
from outlast.settings import Config
from outlast.store.events import EventLog
from outlast.store.ledger import Ledger
from outlast.store.memory import Memory

__all__ = ["Noted", "Notes", "room_for"]

# What was journalled, and perhaps not in the ledger when the power went, is among the last of them.
_LOOK_BACK = 1000
_REMEMBERED = 4096
# A piece of a note, and not the last one.
_PIECE = re.compile(r"(?:from|to|outside) [^:(]* \((\d+)/(?!\1\))\d+\): ")


class Noted(NamedTuple):
    """A note that came in: the id of its message, who sent it, the text, and of an outside service the type, else empty."""

    id: str
    sender: str
    text: str
    outside: str = ""


class Notes:
    """The notes of one node."""

    def __init__(
        self,
        config: Config,
        memory: Memory,
        ledger: Ledger,
        events: EventLog,
        clock: Clock,
        wake: Callable[[str], None],
    ) -> None:
        """``wake(peer)`` tells the peer's outbox that there is something to send."""
        self._node = config.node
        self._limit = size(config.messages.outbox_limit)
        self._memory = memory
        self._ledger = ledger
        self._events = events
        self._clock = clock
        self._wake = wake
        # The newest names in the journal, oldest first; None until the first note comes.
        self._known: dict[str, None] | None = None

    def take(self, notes: Sequence[Noted]) -> list[str]:
        """Put notes into the journal with one fsync; those that are in there change nothing. Returns their names.

        Raises DurabilityError: any of them may be there, or not.
        """
        known = self._journalled()
        names = [note_unit(note.sender, note.id) for note in notes]
        new = {name: note for name, note in zip(names, notes, strict=True) if name not in known}
        if new:
            self._write(known, [(name, _whose(note), note.text) for name, note in new.items()])
        return names

    def make(self, unit: str, peer: str, text: str) -> None:
        """Send a note to ``peer`` as ``unit``; asked twice it is sent once. Raises DurabilityError, BadInput."""
        known = self._journalled()
        if unit not in known:
            room_for(self._ledger, peer, len(text.encode()), self._limit)
            self._write(known, [(unit, f"to {peer}", text)])
        trace_id, msg_id = trace_of(unit), message_id(unit, "note")
        body = sealed(self._node, peer, trace_id, unit, Note(text))
        self._ledger.enqueue(peer, msg_id, body, self._clock.time())
        self._wake(peer)
        span_id = span_of(msg_id, "sent")
        self._events.emit("note.made", trace_id=trace_id, span_id=span_id, correlation_id=unit, peer=peer)

    def undeliverable(self, unit: str, peer: str, why: str) -> None:
        """The note is given up. Raises DurabilityError."""
        self._memory.recovered(unit, f"the note could not be told to {peer}: {why}")

    def _journalled(self) -> dict[str, None]:
        if self._known is None:
            journal = self._memory.journal
            journal.mend()
            try:
                records = list(journal.since(max(0, journal.seq - _LOOK_BACK)))
            except OSError as error:
                raise DurabilityError(f"the journal could not be read: {error.strerror or error}") from error
            # Of a note that was cut off by a crash the last piece is not there: it comes again, and is written again.
            whole = (record for record in records if record.step is Step.NOTE and not _PIECE.match(record.what))
            self._known = {record.unit: None for record in whole}
        return self._known

    def _write(self, known: dict[str, None], notes: list[tuple[str, str, str]]) -> None:
        try:
            self._memory.note_all([(name, what) for name, whose, text in notes for what in _records(whose, text)])
        except DurabilityError:
            # Some may be there after all: the journal is asked again.
            self._known = None
            raise
        known |= dict.fromkeys(name for name, _, _ in notes)
        while len(known) > _REMEMBERED:
            del known[next(iter(known))]


def room_for(ledger: Ledger, peer: str, size_bytes: int, limit: int) -> None:
    """Refuse what would make more than ``limit`` bytes wait for ``peer``. Raises BadInput, DurabilityError."""
    waiting = ledger.waiting_bytes(peer)
    if waiting + size_bytes > limit:
        raise BadInput(
            "messages.outbox_limit",
            f"{waiting} bytes wait for {peer} already, the limit is {limit}",
            f"see `outlast channel {peer}`; try again when it is back, or raise the limit",
        )


def _whose(note: Noted) -> str:
    if not note.outside:
        return f"from {note.sender}"
    return f"outside {note.sender}" if note.outside == "note" else f"outside {note.sender}, {note.outside}"


def _records(whose: str, text: str) -> Iterator[str]:
    """What a note's records say: its text, whole, in pieces that fit."""
    text = one_line(text, len(text)) or "-"
    if len(f"{whose}: {text}") <= WHAT_LIMIT:
        yield f"{whose}: {text}"
        return
    # Two figures of two digits each: a note of 1024 characters is in 20 pieces at most.
    pieces = list(_pieces(text, WHAT_LIMIT - len(f"{whose} (00/00): ")))
    for number, piece in enumerate(pieces, 1):
        yield f"{whose} ({number}/{len(pieces)}): {piece}"


def _pieces(text: str, room: int) -> Iterator[str]:
    """Cut between words where there are words."""
    while len(text) > room:
        cut = text.rfind(" ", 1, room + 1)
        if cut < 0:
            cut = room
        yield text[:cut]
        text = text[cut:].lstrip(" ")
    yield text
