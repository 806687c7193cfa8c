"""How many records a second the journal makes durable, beside a bare write with fdatasync and SQLite, of the same bytes.

Rules kept here: all of them work in one folder, in turns of a fraction of a second, so that drift of the disk falls on each;
a record counts once it is durable; opening the files is not counted.

Left to others: the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.processes import say
from bench.table import AtLeast, Figure, Row, median
from outlast.clock import SystemClock
from outlast.core.record import Record, Step, format_record
from outlast.store.journal import Journal

__all__ = ["appends"]

_UNIT, _WHAT = "coz-1m5q8r2v7k3d", "from coz: host report"
_WRITERS = 32
_RAW, _SQLITE = "write+fdatasync", "SQLite WAL FULL"
_Times = Callable[[int], None]


def appends(folder: Path, turns: int, records: int) -> list[Row]:
    """Append ``records`` records a turn in each way, in so many turns. Raises OSError and OutlastError."""
    say(f"journal: {turns} turns of {records} records, by 1 and by {_WRITERS} writers, beside bare writes and SQLite")
    journal = Journal(folder / "memory", "axiom", SystemClock())
    journal.known(0)
    with _raw(folder / "raw") as raw, _sqlite(folder / "peer.db") as sqlite, asyncio.Runner() as runner:

        def alone(times: int) -> None:
            for _ in range(times):
                journal.append(Step.INTENT, _UNIT, _WHAT)

        def together(writers: int) -> _Times:
            return lambda times: runner.run(_commit(journal, writers, times // writers))

        ways: dict[str, _Times] = {
            _RAW: raw,
            _SQLITE: sqlite,
            "append": alone,
            "1": together(1),
            str(_WRITERS): together(_WRITERS),
        }
        rates = _in_turns(ways, turns, records)
    journal.close()
    peers = [Figure(rates[name], name) for name in (_RAW, _SQLITE)]
    return [
        Row("journal, records by 1 writer", "/s", Figure(rates["append"]), peers, AtLeast(0.6, _RAW)),
        Row("journal, records by 1 writer that is a task", "/s", Figure(rates["1"])),
        Row(f"journal, records by {_WRITERS} writers", "/s", Figure(rates[str(_WRITERS)]), peers, AtLeast(3, _RAW)),
    ]


def _in_turns(ways: dict[str, _Times], turns: int, records: int) -> dict[str, float]:
    """The median rate of each way, records a second; whole rounds of all writers."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(_WRITERS)  # the first one opens files
    for _ in range(turns):
        for name, way in ways.items():
            began = time.perf_counter()
            way(records)
            rates[name].append(records / (time.perf_counter() - began))
    return {name: median(found) for name, found in rates.items()}


async def _commit(journal: Journal, writers: int, each: int) -> None:
    async def writer() -> None:
        for _ in range(each):
            await journal.commit(Step.INTENT, _UNIT, _WHAT)

    async with asyncio.TaskGroup() as group:
        for _ in range(writers):
            group.create_task(writer())


def _lines() -> Iterator[bytes]:
    """The lines that the journal would write, without end, and made beforehand."""
    made = [
        format_record(Record("2026-11-21", "14:03:07", Step.INTENT, _UNIT, _WHAT, "axiom", seq)) for seq in range(999)
    ]
    return itertools.cycle([f"{line}\n".encode() for line in made])


@contextlib.contextmanager
def _raw(path: Path) -> Iterator[_Times]:
    lines = _lines()
    # macOS has no fdatasync.
    sync = getattr(os, "fdatasync", os.fsync)
    with path.open("ab", buffering=0) as file:

        def write(times: int) -> None:
            for _ in range(times):
                os.write(file.fileno(), next(lines))
                sync(file.fileno())

        yield write


@contextlib.contextmanager
def _sqlite(path: Path) -> Iterator[_Times]:
    lines = _lines()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE log (line BLOB NOT NULL)")

        def commit(times: int) -> None:
            for _ in range(times):
                database.execute("INSERT INTO log VALUES (?)", (next(lines),))

        yield commit
