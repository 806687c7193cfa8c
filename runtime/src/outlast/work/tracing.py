"""Following a message: what this node knows of an id, from its event logs, its ledger and its journal.

Rules kept here:

* Files are only read, so that it works while the runtime is dead; compressed ones too; what in them is damaged is passed over.
* An id leads to the rest of its story: a message to its unit and trace, a trace to its unit, a unit to its messages.
* However much is found, so many lines are told, the first and the last. Each is one line, and no text of others is longer than
  ``_TEXT``.
* A peer is told (``for_peer``) of what is between it and us alone: messages that it sent us or that wait for it, and units of
  which our journal says that they came from it or went to it; what it claims a message to be about proves nothing. Of events
  it learns figures and verdicts; addresses, errors and other nodes' names are none of its business. What it makes us read is
  bounded.

Left to others: asking the peers (node), printing (cli.trace).
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from math import inf
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from outlast.core.ids import UNIT_TAIL, made_at, message_id, valid_unit
from outlast.core.plainjson import from_json
from outlast.core.record import Record, Step, one_line, parse_line
from outlast.home import Home
from outlast.messages import Traced
from outlast.store import regular
from outlast.store.days import Days
from outlast.store.ledger import Accepted
from outlast.store.ledgerview import LedgerView, Waiting

__all__ = ["JOURNAL", "Told", "for_peer", "local"]

# How a line begins that is a record of the journal.
JOURNAL = "journal: "

_TEXT = 240
_ROWS = 100
# What a peer may make us read, and what fits into an answer.
_PEER_BYTES, _PEER_LINES, _PEER_ROOM = 8 << 20, 60, 10_000
_FOR_PEERS = {"id", "seq", "status", "verdict", "attempt", "exit_code", "seconds", "finding"}
_FIXED = {"at", "node", "event", "trace_id", "span_id", "parent_id", "correlation_id"}
_NAMES = ("id", "correlation_id", "trace_id")
_DAY_S = 86_400.0
# For how long after it was made news of something are looked for, when a peer asks.
_NEWS_S = 4 * _DAY_S
# A line that somebody made longer is read in pieces.
_LINE = 1 << 20


class Told(msgspec.Struct, frozen=True):
    """What was found: lines by time, how many more there are between the first and the last, and the unit, if known."""

    lines: tuple[Traced, ...]
    more: int = 0
    unit: str = ""


class _Ends:
    """The first and the last of many lines."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._first: list[Traced] = []
        self._last: deque[Traced] = deque(maxlen=most)
        self.count = 0

    def add(self, line: Traced) -> None:
        self.count += 1
        (self._first if len(self._first) < self._most else self._last).append(line)

    def join(self, other: _Ends) -> None:
        """Add what another holds, and what it does not hold any more."""
        for line in other.held():
            self.add(line)
        self.count += other.count - len(other.held())

    def held(self) -> list[Traced]:
        return [*self._first, *self._last]


class _Names:
    """What an id leads to."""

    def __init__(self, name: str) -> None:
        self.known = {name}
        self.units: set[str] = set()
        self.add_unit(name)
        self.add_unit(name.partition("_")[2])

    def add_unit(self, unit: str) -> None:
        if valid_unit(unit):
            self.units.add(unit)
            self.known |= {unit, *_messages(unit)}

    def lead(self, row: Accepted) -> None:
        """A message leads to its unit, or, where it has none, to its trace."""
        self.known.add(row.id)
        self.add_unit(row.about)
        if not self.units and row.trace_id:
            self.known.add(row.trace_id)

    def began(self) -> float:
        """Before this moment there was nothing of the units (Unix seconds); 0 where that cannot be told."""
        return max(0.0, min(_moments(self.units), default=0.0) - _DAY_S)


def local(home: Home, node: str, name: str, most: int) -> Told:
    """All that this node knows of ``name`` (a message, unit or trace), in at most ``most`` lines. Raises DurabilityError."""
    names = _Names(name)
    found = _search(home, node, names, names.began(), most)
    if not found.lines and names.began():
        # A name may be chosen, and a clock may have been wrong: then it says nothing of when.
        found = _search(home, node, names, 0.0, most)
    return found


def _search(home: Home, node: str, names: _Names, began: float, most: int) -> Told:
    events = _Ends(most)
    with LedgerView(home.ledger) as ledger:
        taken: dict[str, Accepted] = {}
        for _ in range(3):
            before = set(names.known)
            for known in sorted(before):
                taken |= {row.id: row for row in ledger.naming(known, _ROWS)}
            for row in taken.values():
                names.lead(row)
            events = _Ends(most)
            for entry in _events(home.logs, names.known, began, inf, inf):
                names.add_unit(_string(entry, "correlation_id"))
                # The ledger knows more of what it has.
                if not (_string(entry, "event").endswith(".accepted") and _string(entry, "id") in taken):
                    rest = (
                        f"{key}={value}" for key, value in entry.items() if key not in _FIXED and value not in ("", [])
                    )
                    events.add(_line(_moment(entry), node, " ".join([_string(entry, "event"), *rest])))
            if names.known == before:
                break
        ends = _Ends(most)
        for row in taken.values():
            key = f", key {row.key}" if row.key else ""
            ends.add(_line(row.at, node, f"{_accepted(row)} from {row.peer} at {row.remote}{key}"))
        for msg_id in sorted(names.known):
            if waiting := ledger.waiting(msg_id):
                ends.add(_line(waiting.queued, node, _waits(waiting)))
            elif settled := ledger.settled(msg_id):
                ends.add(_line(settled[0], node, _settled(msg_id, settled[1])))
    for record in _journal(home.memory, node, names.units, began, inf, inf):
        ends.add(_journal_line(record, node))
    ends.join(events)
    return _told(ends, most, max(names.units, default=""))


def for_peer(home: Home, node: str, peer: str, name: str) -> tuple[Traced, ...]:
    """What ``peer`` is told of ``name``. Reads a bounded part of the disk. Raises DurabilityError."""
    names = _Names(name)
    ends = _Ends(_PEER_LINES)
    with LedgerView(home.ledger) as ledger:
        rows = ledger.naming(name, _ROWS, peer)
        for row in rows:
            names.lead(row)
            ends.add(_line(row.at, node, _accepted(row)))
        moments = [moment for moment in (*_moments(names.units), *(row.at for row in rows)) if moment]
        since = min(moments, default=0.0) - _DAY_S
        records = list(_journal(home.memory, node, names.units, since, since + _NEWS_S, _PEER_BYTES))
        between = re.compile(rf"(?:from|to) {peer}(?:: | \()")
        units = {one.unit for one in records if one.step in (Step.INTENT, Step.NOTE) and between.match(one.what)}
        ids = {name, *(row.id for row in rows), *(msg_id for unit in units for msg_id in _messages(unit))}
        for msg_id in sorted(ids):
            waiting, settled = ledger.waiting(msg_id), ledger.settled(msg_id)
            if waiting and waiting.peer == peer:
                ends.add(_line(waiting.queued, node, _waits(waiting)))
            if settled and not moments:
                # It may have been for somebody else: then no event of it names this peer.
                moments, since = [settled[0]], settled[0] - _DAY_S
    for record in records:
        if record.unit in units:
            ends.add(_journal_line(record, node))
    if moments:
        for entry in _events(home.logs, units | ids, since, since + _NEWS_S, _PEER_BYTES):
            event, named = _string(entry, "event"), _string(entry, "peer")
            about_us = named in ("", peer) if _string(entry, "correlation_id") in units else named == peer
            if about_us and not (event.endswith(".accepted") and any(row.id == entry.get("id") for row in rows)):
                rest = (f"{key}={value}" for key, value in entry.items() if key in _FOR_PEERS)
                ends.add(_line(_moment(entry), node, " ".join([event, *rest])))
    lines, room = [], _PEER_ROOM
    for line in _told(ends, _PEER_LINES, "").lines:
        room -= len(msgspec.json.encode(line)) + 1
        if room >= 0:
            lines.append(line)
    return tuple(lines)


def _told(ends: _Ends, most: int, unit: str) -> Told:
    lines = sorted(ends.held(), key=lambda line: line.at)
    if len(lines) > most:
        lines = [*lines[: most - most // 2], *lines[len(lines) - most // 2 :]]
    return Told(tuple(lines), ends.count - len(lines), unit)


def _messages(unit: str) -> list[str]:
    return [message_id(unit, kind) for kind in ("task", "result", "note")]


def _moments(units: set[str]) -> list[float]:
    """When units say that they were made, in Unix seconds; the name of a note that came from elsewhere says nothing."""
    return [made_at(unit) if unit[:-UNIT_TAIL] != "note" else 0.0 for unit in units]


def _accepted(row: Accepted) -> str:
    number = f", number {row.seq}" if row.seq else ""
    return f"accepted {row.type} {row.id}, {row.size} bytes{number}"


def _waits(waiting: Waiting) -> str:
    return f"{waiting.id} waits for {waiting.peer} since then, number {waiting.seq}"


def _settled(msg_id: str, status: int) -> str:
    return f"{msg_id} was answered {status}" if status else f"{msg_id} was given up"


def _journal_line(record: Record, node: str) -> Traced:
    # Within its second it is told where its step stands in the story.
    at = datetime.fromisoformat(f"{record.day} {record.time}").timestamp() + (record.step is Step.CONFIRM) * 0.999
    return _line(at, node, f"{JOURNAL}{record.step.value} {record.what}")


def _line(at: float, node: str, what: str) -> Traced:
    return Traced(at, node, one_line(what, _TEXT))


def _journal(
    memory: Path, node: str, units: set[str], since: float, until: float, most_bytes: float
) -> Iterator[Record]:
    """The records of these units, from the days between two moments (Unix seconds); of at most so many bytes."""
    if not units:
        return
    seen: set[int] = set()
    for file in Days(memory, node).files():
        if not _within(file.day, since, until):
            continue
        for line in _lines(file.path, units, most_bytes):
            record = parse_line(file.day, line)
            if isinstance(record, Record) and record.unit in units and record.agent == node and record.seq not in seen:
                seen.add(record.seq)
                yield record
        most_bytes -= file.found.st_size


def _events(logs: Path, names: set[str], since: float, until: float, most_bytes: float) -> Iterator[dict[str, object]]:
    """The entries of the event logs in which one of these names stands as a name; days and bytes as of the journal."""
    paths = {path.name[:10]: path for pattern in ("*.jsonl.gz", "*.jsonl") for path in logs.glob(f"[0-9]{pattern}")}
    for day, path in sorted(paths.items()):
        if not _within(day, since, until):
            continue
        for line in _lines(path, names, most_bytes):
            try:
                entry = from_json(line, dict)
            except ValueError:
                continue
            if any(_string(entry, name) in names for name in _NAMES) and _moment(entry) >= 0:
                yield entry
        with contextlib.suppress(OSError):
            most_bytes -= path.stat().st_size


def _within(day: str, since: float, until: float) -> bool:
    """Is this a day between two moments, as this machine's zone has it?"""
    return _day(since) <= day and (until == inf or day <= _day(until))


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(max(seconds, _DAY_S)).date().isoformat()


def _lines(path: Path, names: set[str], most_bytes: float) -> Iterator[str]:
    """The lines of a file, compressed or not, in which one of these names stands; of at most so many bytes."""
    wanted = [name.encode() for name in sorted(names)]
    try:
        with regular.opened(path) as file, _unpacked(path, file) as lines:
            while most_bytes > 0 and (line := lines.readline(_LINE)):
                most_bytes -= len(line)
                if any(name in line for name in wanted):
                    yield line.decode("utf-8", errors="replace").rstrip("\n")
    except (OSError, EOFError, zlib.error):
        # Gone, or not whole: what was read of it is told.
        return


def _unpacked(path: Path, file: BinaryIO) -> BinaryIO:
    if not path.name.endswith(".gz"):
        return file
    import gzip

    return cast("BinaryIO", gzip.GzipFile(fileobj=file))


def _string(entry: dict[str, object], name: str) -> str:
    found = entry.get(name)
    return found if isinstance(found, str) else ""


def _moment(entry: dict[str, object]) -> float:
    """When an event was, in Unix seconds; -1 where it does not say so."""
    try:
        return datetime.fromisoformat(_string(entry, "at")).timestamp()
    except (ValueError, OverflowError):
        return -1.0
