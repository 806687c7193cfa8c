"""What a node knows of its work: a pure projection of the journal.

Rules kept here: folding a record twice changes nothing the second time; folding many at once (``fold_all``, linear) is the
same as one by one; every open unit is kept, and of the closed ones the newest ``KEEP`` (the daily files hold them all).
Counts are over everything that was ever folded. Of two states of one node, ``join`` takes the one that knows more.

The ``what`` of a record is a fixed phrase, so that the journal alone can rebuild STATE.json:

* INTENT ``from PEER: TEXT`` opens a task that this node was given, ``to PEER: TEXT`` a hand-off that it made, and
  ``makes NAME, NAME: TEXT`` a step of its own that leaves these files; a step that ended undone may be opened again;
* CONFIRM ``VERDICT`` or ``VERDICT: DETAIL`` closes any of them; RECOVER ``TEXT`` tells what a start put right, and
  ``its artifact shows VERDICT; INTENT'S PHRASE`` is both at once for an artifact that no record knew;
* NOTE about ``mode``: an emergency lasts, over restarts too, until a person is said to have ended it; about ``gap``:
  see core.gaps; about ``artifacts``: ``… only counted, up to MOMENT`` (ISO 8601, UTC).

Left to others: where STATE.json is kept (store.statefile), what is done about open units (core.recovery).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from hashlib import blake2s
from typing import Literal

import msgspec

from outlast.core.gaps import Gap, gaps_after
from outlast.core.record import Record, Step, one_line
from outlast.errors import BadInput

__all__ = [
    "ARTIFACTS",
    "EMERGENCY",
    "GAP",
    "KEEP",
    "MODE",
    "RESUMED",
    "Kind",
    "Present",
    "Recovered",
    "State",
    "Status",
    "Unit",
    "Verdict",
    "close_unit",
    "counted_phrase",
    "fold",
    "fold_all",
    "intent_phrase",
    "is_whole",
    "join",
    "phrase",
    "shown_phrase",
    "tells",
    "with_names",
    "without",
]

KEEP = 200
MODE, EMERGENCY, RESUMED = "mode", "emergency: ", "a person ends the emergency: "
GAP, ARTIFACTS = "gap", "artifacts"
_KEEP_RECOVERED, _KEEP_GAPS = 20, 100
# How a text ends that does not fit into its record.
_MORE = "…"
# So that a step's names fit into its record, with a little of its text.
_NAMES_LIMIT = 120
_INTENT = re.compile(r"(?:(?P<way>from|to) (?P<peer>[a-z][a-z0-9-]*)|makes (?P<names>.+?)): (?P<text>.*)")
_SHOWN = re.compile(r"its artifact shows (?P<verdict>[a-z ]+); (?P<intent>.*)")
_COUNTED = re.compile(r".* only counted, up to (\S+)")

Kind = Literal["task", "handoff", "step"]
Verdict = Literal["done", "failed", "in doubt", "returned"]
Status = Literal["open", "done", "failed", "in doubt", "returned"]
_VERDICTS: dict[str, Verdict] = {"done": "done", "failed": "failed", "in doubt": "in doubt", "returned": "returned"}


class Unit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One unit of work. ``since`` and ``ended`` are ``YYYY-MM-DD HH:MM:SS`` in the node's zone.

    ``confirmed``: the journal knows that it is closed; until then the last step is still to be taken. A step has no
    ``peer``, and names the files that it is to leave: its ``artifacts``.
    """

    kind: Kind
    peer: str
    what: str
    since: str
    status: Status = "open"
    detail: str = ""
    ended: str = ""
    confirmed: bool = False
    artifacts: tuple[str, ...] = ()

    def closed_as(self) -> Verdict:
        """The verdict of a closed unit. Raises KeyError for an open one."""
        return _VERDICTS[self.status]

    def may_begin_again(self) -> bool:
        """Is this a step that ended, and not done?"""
        return self.kind == "step" and self.status not in {"open", "done"}


class Recovered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a start put right. ``at`` is ``YYYY-MM-DD HH:MM:SS`` in the node's zone."""

    unit: str
    what: str
    at: str


class Present(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which names in ``artifacts/`` are reflected: how many, and the XOR of their 64-bit hashes in hexadecimal.

    A start compares this with one listing of the folder, without reading anything in it.
    """

    count: int = 0
    digest: str = "0" * 16


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it. ``seq`` is the number of the last record that is reflected here; ``emergency`` why there is one, if so.

    ``counted_to``: artifacts that ended at or before this moment (ISO 8601, UTC) may be without a record of their own.
    """

    node: str
    seq: int = 0
    units: dict[str, Unit] = {}
    recovered: tuple[Recovered, ...] = ()
    closed: dict[str, int] = {}
    emergency: str = ""
    artifacts: Present = Present()
    gaps: tuple[Gap, ...] = ()
    counted_to: str = ""

    def open(self, kind: Kind) -> dict[str, Unit]:
        """The units of one kind that are not closed, oldest first."""
        return {name: unit for name, unit in self.units.items() if unit.kind == kind and unit.status == "open"}

    def unconfirmed(self, kind: Kind) -> dict[str, Unit]:
        """The units of one kind that are closed, and whose CONFIRM is not written."""
        closed = {name: unit for name, unit in self.units.items() if unit.kind == kind and unit.status != "open"}
        return {name: unit for name, unit in closed.items() if not unit.confirmed}


def intent_phrase(kind: Kind, peer: str, what: str, artifacts: tuple[str, ...] = ()) -> str:
    """What an INTENT record says. Raises BadInput where the names of a step's artifacts do not fit into a record."""
    text = one_line(what) or "-"
    if text != what and not text.endswith(_MORE):
        # Line breaks were lost, say: nobody must take this for all of it.
        text = f"{text} {_MORE}"
    if kind != "step":
        return f"{'from' if kind == 'task' else 'to'} {peer}: {text}"
    names = ", ".join(artifacts)
    odd = [name for name in artifacts if not name or one_line(name) != name or ", " in name or ": " in name]
    if odd or not artifacts:
        raise BadInput(
            "--artifact", f"{odd[0] if odd else ''!r} is not a name that a record can hold", "use a plain name"
        )
    if len(names) > _NAMES_LIMIT:
        raise BadInput("--artifact", "the names are too long together", "put the files in a folder, and name that")
    return f"makes {names}: {text}"


def is_whole(what: str) -> bool:
    """Is this, of a unit's INTENT, all that was to be done, to the letter?"""
    return not what.endswith(_MORE)


def phrase(verdict: Verdict, detail: str) -> str:
    """What a CONFIRM record says."""
    return f"{verdict}: {detail}" if detail else verdict


def shown_phrase(verdict: Verdict, intent: str) -> str:
    """What a RECOVER record says of a unit that only its artifact knew; ``intent`` is what its INTENT would have said."""
    return f"its artifact shows {verdict}; {intent}"


def tells(record: Record) -> bool:
    """Does the record say what its unit is? A CONFIRM, whose INTENT may be lost, says only how it ended."""
    return record.step in {Step.INTENT, Step.NOTE} or (record.step is Step.RECOVER and bool(_SHOWN.match(record.what)))


def counted_phrase(count: int, up_to: str) -> str:
    """What a NOTE about ``artifacts`` says of those that are too old for a record each."""
    return f"{count} older than what STATE keeps are only counted, up to {up_to}"


def _hash(name: str) -> int:
    return int.from_bytes(blake2s(name.encode("utf-8", "surrogateescape"), digest_size=8).digest())


def with_names(present: Present, names: Iterable[str]) -> Present:
    """The value with these names as well. They must not be in it."""
    count, digest = present.count, int(present.digest, 16)
    for name in names:
        count += 1
        digest ^= _hash(name)
    return Present(count, f"{digest:016x}")


def without(present: Present, names: Iterable[str]) -> Present:
    """The value without these names. They must be in it."""
    gone = with_names(Present(), names)
    return Present(max(0, present.count - gone.count), f"{int(present.digest, 16) ^ int(gone.digest, 16):016x}")


class _Draft:
    """A state that is being changed; nobody else sees it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.seq = state.seq
        self._units = dict(state.units)
        self._closed = dict(state.closed)
        self._recovered = deque(state.recovered, _KEEP_RECOVERED)
        self._gaps = state.gaps
        self._emergency, self._counted_to = state.emergency, state.counted_to
        # The names of the closed units, oldest first; looked up only where one is closed.
        self._shut: deque[str] | None = None

    def done(self) -> State:
        return msgspec.structs.replace(
            self._state,
            seq=self.seq,
            units=self._units,
            closed=self._closed,
            recovered=tuple(self._recovered),
            gaps=self._gaps,
            emergency=self._emergency,
            counted_to=self._counted_to,
        )

    def take(self, record: Record) -> None:
        if record.seq <= self.seq:
            return
        self.seq = record.seq
        at = f"{record.day} {record.time}"
        if record.step is Step.INTENT:
            self._open(record.unit, record.what, at)
        elif record.step is Step.CONFIRM:
            self._confirm(record, at)
        elif record.step is Step.RECOVER:
            self._recover(record, at)
        elif record.unit == MODE:
            if record.what.startswith(EMERGENCY):
                self._emergency = record.what.removeprefix(EMERGENCY)
            elif record.what.startswith(RESUMED):
                self._emergency = ""
        elif record.unit == GAP:
            self._gaps = gaps_after(self._gaps, record.what)[-_KEEP_GAPS:]
        elif record.unit == ARTIFACTS and (found := _COUNTED.fullmatch(record.what)):
            self._counted_to = max(self._counted_to, found[1])

    def _open(self, name: str, intent: str, at: str) -> None:
        match = _INTENT.fullmatch(intent)
        known = self._units.get(name)
        if match is None or (known is not None and not (known.may_begin_again() and match["names"])):
            return
        if known is not None:
            del self._units[name]
            if self._shut is not None:
                self._shut.remove(name)
        if match["names"]:
            names = tuple(match["names"].split(", "))
            self._units[name] = Unit(kind="step", peer="", what=match["text"], since=at, artifacts=names)
        else:
            kind: Kind = "task" if match["way"] == "from" else "handoff"
            self._units[name] = Unit(kind=kind, peer=match["peer"], what=match["text"], since=at)

    def close(self, name: str, verdict: Verdict, detail: str, at: str) -> None:
        unit = self._units.get(name)
        if unit is None or unit.status != "open":
            return
        if self._shut is None:
            self._shut = deque(key for key, value in self._units.items() if value.status != "open")
        # Closed units move to the end, so that the order of closing decides which ones are dropped.
        del self._units[name]
        self._units[name] = msgspec.structs.replace(unit, status=verdict, detail=detail, ended=at)
        self._shut.append(name)
        while len(self._shut) > KEEP:
            del self._units[self._shut.popleft()]
        count = f"{unit.kind} {verdict}"
        self._closed[count] = self._closed.get(count, 0) + 1

    def _confirm(self, record: Record, at: str) -> None:
        verdict, _, detail = record.what.partition(": ")
        if verdict not in _VERDICTS:
            return
        self.close(record.unit, _VERDICTS[verdict], detail, at)
        if closed := self._units.get(record.unit):
            self._units[record.unit] = msgspec.structs.replace(closed, confirmed=True)

    def _recover(self, record: Record, at: str) -> None:
        self._recovered.append(Recovered(unit=record.unit, what=record.what, at=at))
        match = _SHOWN.fullmatch(record.what)
        if match and match["verdict"] in _VERDICTS:
            self._open(record.unit, match["intent"], at)
            self.close(record.unit, _VERDICTS[match["verdict"]], "as its artifact shows", at)


def close_unit(state: State, name: str, verdict: Verdict, detail: str, at: str) -> State:
    """Close a unit. One that is unknown or closed already stays as it is."""
    draft = _Draft(state)
    draft.close(name, verdict, detail, at)
    return draft.done()


def fold(state: State, record: Record) -> State:
    """Take one record of this node's own into account. A record that was folded before changes nothing."""
    return fold_all(state, (record,))


def fold_all(state: State, records: Iterable[Record]) -> State:
    """Take many records of this node's own into account, in the order of their numbers; linear in their count."""
    draft = _Draft(state)
    for record in records:
        draft.take(record)
    return draft.done()


def _rank(state: State) -> tuple[int, int, bytes]:
    return state.seq, sum(state.closed.values()), msgspec.json.encode(state)


def join(a: Mapping[str, State], b: Mapping[str, State]) -> dict[str, State]:
    """The states of several nodes as two files have them: of each node the one that knows more, whichever file has it."""
    both = sorted({*a, *b})
    return {node: max((side[node] for side in (a, b) if node in side), key=_rank) for node in both}
