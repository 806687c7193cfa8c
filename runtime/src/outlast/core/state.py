"""What a node knows of its work: a pure projection of the journal.

Rules kept here: folding a record twice changes nothing the second time; every open unit is kept, and of the closed ones
the newest ``KEEP`` (the daily files hold them all). Counts are over everything that was ever folded.

The ``what`` of a record is a fixed phrase, so that the journal alone can rebuild STATE.json:

* INTENT ``from PEER: TEXT`` opens a task that this node was given, ``to PEER: TEXT`` a hand-off that it made;
* NOTE about ``mode``: an emergency lasts, over restarts too, until a person is said to have ended it;
* CONFIRM ``VERDICT`` or ``VERDICT: DETAIL`` closes either; RECOVER ``TEXT`` tells what a start put right.

Left to others: where STATE.json is kept (store.statefile), what is done about open units (core.recovery).
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from outlast.core.record import Record, Step

__all__ = [
    "EMERGENCY",
    "KEEP",
    "MODE",
    "RESUMED",
    "Kind",
    "Recovered",
    "State",
    "Status",
    "Unit",
    "Verdict",
    "close_unit",
    "fold",
    "phrase",
]

KEEP = 200
MODE, EMERGENCY, RESUMED = "mode", "emergency: ", "a person ends the emergency: "
_KEEP_RECOVERED = 20
_INTENT = re.compile(r"(from|to) ([a-z][a-z0-9-]*): (.*)")

Kind = Literal["task", "handoff"]
Verdict = Literal["done", "failed", "in doubt", "returned"]
Status = Literal["open", "done", "failed", "in doubt", "returned"]
_VERDICTS: dict[str, Verdict] = {"done": "done", "failed": "failed", "in doubt": "in doubt", "returned": "returned"}


class Unit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One unit of work. ``since`` and ``ended`` are ``YYYY-MM-DD HH:MM:SS`` in the node's zone.

    ``confirmed``: the journal knows that it is closed; until then the last step is still to be taken.
    """

    kind: Kind
    peer: str
    what: str
    since: str
    status: Status = "open"
    detail: str = ""
    ended: str = ""
    confirmed: bool = False

    def closed_as(self) -> Verdict:
        """The verdict of a closed unit. Raises KeyError for an open one."""
        return _VERDICTS[self.status]


class Recovered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a start put right. ``at`` is ``YYYY-MM-DD HH:MM:SS`` in the node's zone."""

    unit: str
    what: str
    at: str


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it. ``seq`` is the number of the last record that is reflected here; ``emergency`` why there is one, if so."""

    node: str
    seq: int = 0
    units: dict[str, Unit] = {}
    recovered: tuple[Recovered, ...] = ()
    closed: dict[str, int] = {}
    emergency: str = ""

    def open(self, kind: Kind) -> dict[str, Unit]:
        """The units of one kind that are not closed, oldest first."""
        return {name: unit for name, unit in self.units.items() if unit.kind == kind and unit.status == "open"}

    def unconfirmed(self, kind: Kind) -> dict[str, Unit]:
        """The units of one kind that are closed, and whose CONFIRM is not written."""
        closed = {name: unit for name, unit in self.units.items() if unit.kind == kind and unit.status != "open"}
        return {name: unit for name, unit in closed.items() if not unit.confirmed}


def phrase(verdict: Verdict, detail: str) -> str:
    """What a CONFIRM record says."""
    return f"{verdict}: {detail}" if detail else verdict


def close_unit(state: State, name: str, verdict: Verdict, detail: str, at: str) -> State:
    """Close a unit. One that is unknown or closed already stays as it is."""
    unit = state.units.get(name)
    if unit is None or unit.status != "open":
        return state
    units = dict(state.units)
    units.pop(name)
    # Closed units move to the end, so that the order of closing decides which ones are dropped.
    units[name] = msgspec.structs.replace(unit, status=verdict, detail=detail, ended=at)
    shut = [key for key, value in units.items() if value.status != "open"]
    for key in shut[: max(0, len(shut) - KEEP)]:
        del units[key]
    count = f"{unit.kind} {verdict}"
    return msgspec.structs.replace(state, units=units, closed={**state.closed, count: state.closed.get(count, 0) + 1})


def fold(state: State, record: Record) -> State:
    """Take one record of this node's own into account. A record that was folded before changes nothing."""
    if record.seq <= state.seq:
        return state
    state = msgspec.structs.replace(state, seq=record.seq)
    at = f"{record.day} {record.time}"
    if record.step is Step.INTENT and (match := _INTENT.fullmatch(record.what)):
        if record.unit in state.units:
            return state
        kind: Kind = "task" if match[1] == "from" else "handoff"
        unit = Unit(kind=kind, peer=match[2], what=match[3], since=at)
        return msgspec.structs.replace(state, units={**state.units, record.unit: unit})
    if record.step is Step.CONFIRM:
        verdict, _, detail = record.what.partition(": ")
        if verdict in _VERDICTS:
            state = close_unit(state, record.unit, _VERDICTS[verdict], detail, at)
            if closed := state.units.get(record.unit):
                confirmed = msgspec.structs.replace(closed, confirmed=True)
                return msgspec.structs.replace(state, units={**state.units, record.unit: confirmed})
    if record.step is Step.NOTE and record.unit == MODE:
        if record.what.startswith(EMERGENCY):
            return msgspec.structs.replace(state, emergency=record.what.removeprefix(EMERGENCY))
        if record.what.startswith(RESUMED):
            return msgspec.structs.replace(state, emergency="")
    if record.step is Step.RECOVER:
        found = (*state.recovered, Recovered(unit=record.unit, what=record.what, at=at))
        return msgspec.structs.replace(state, recovered=found[-_KEEP_RECOVERED:])
    return state
