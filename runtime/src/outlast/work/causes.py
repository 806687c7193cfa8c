"""What messages caused, looked up for many of them at once: records of the journal, artifacts, shared entries.

Rules kept here: the journal is read once, and of it only what is about those messages is kept, in a temporary database that may
grow on the disk and not in memory. Records are this node's own.

Left to others: which messages, and what is made of it (work.audit).
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from typing import Self

from outlast.core.crdt import Entry
from outlast.core.ids import valid_unit
from outlast.core.markdown import quoted
from outlast.core.record import Record, parse_day
from outlast.home import Home
from outlast.store import regular
from outlast.store.days import Days, unzip
from outlast.store.ledger import Accepted
from outlast.store.shared import read_line

__all__ = ["Causes"]

# Of one message; all of it is in the journal.
_MOST = 12
_SCHEMA = """
CREATE TABLE subject (unit TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE writer (agent TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE caused (seq INTEGER PRIMARY KEY, unit TEXT, moment TEXT, step TEXT, what TEXT);
CREATE TABLE shared (agent TEXT, seq INTEGER, what TEXT);
"""
_KEEP = "INSERT OR IGNORE INTO caused SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM subject WHERE unit = ?2)"
_SHARED = (
    "SELECT count(*), group_concat(what, ', ') FROM"
    " (SELECT what FROM shared WHERE agent = ? AND seq BETWEEN ? AND ? ORDER BY seq)"
)
_OPEN = (
    "SELECT unit FROM caused GROUP BY unit HAVING sum(step = 'INTENT' AND substr(what, 1, ?1) = ?2) > 0"
    " AND sum(step = 'CONFIRM') = 0 ORDER BY min(seq)"
)
_RANGE = re.compile(r"([a-z][a-z0-9-]{0,31}):(\d{1,16})(?:-(\d{1,16}))?", re.ASCII)


class Causes:
    """First every message is added, then ``gather`` is called, then it is asked. Methods raise sqlite3.Error."""

    def __init__(self, home: Home, node: str) -> None:
        self.troubles: list[str] = []
        self._home = home
        self._node = node
        self._artifacts = str(home.artifacts)
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(f"PRAGMA journal_mode = OFF; {_SCHEMA}")
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, row: Accepted) -> None:
        """This message will be asked about."""
        if row.type == "trace":
            return
        if valid_unit(row.about):
            self._db.execute("INSERT OR IGNORE INTO subject VALUES (?)", (row.about,))
        elif row.about:
            agents = {(agent,) for agent, _, _ in _ranges(row.about)}
            self._db.executemany("INSERT OR IGNORE INTO writer VALUES (?)", agents)

    def gather(self, first_day: str) -> None:
        """Read the journal from ``first_day`` (YYYY-MM-DD) on, and the shared files."""
        self._db.executemany(
            _KEEP,
            (
                (one.seq, one.unit, f"{one.day} {one.time}", one.step.value, one.what)
                for one in self._journal(first_day)
            ),
        )
        for (agent,) in self._db.execute("SELECT agent FROM writer").fetchall():
            self._db.executemany("INSERT INTO shared VALUES (?, ?, ?)", self._entries(agent))
        self._db.execute("CREATE INDEX by_unit ON caused (unit, seq)")
        self._db.execute("CREATE INDEX by_number ON shared (agent, seq)")
        self._db.execute("COMMIT")

    def of(self, row: Accepted) -> Iterator[str]:
        """What one message caused, as lines of Markdown."""
        if row.type == "trace":
            yield "a question: it was told what is between it and us of that"
            return
        if not valid_unit(row.about):
            for agent, first, last in _ranges(row.about):
                count, what = self._db.execute(_SHARED, (agent, first, last)).fetchone()
                told = f": {quoted(what)}" if count else ""
                yield f"shared entries {first} to {last} in the name of {agent}, {count} of them in force{told}"
            return
        query = "SELECT moment, step, what FROM caused WHERE unit = ? ORDER BY seq"
        found = self._db.execute(query, (row.about,)).fetchmany(_MOST + 1)
        yield from (f"{moment} {step} {quoted(what)}" for moment, step, what in found[:_MOST])
        if len(found) != len(found[:_MOST]):
            yield "and more in the journal"
        if not found:
            yield "nothing in the journal"
        if os.path.isdir(f"{self._artifacts}/{row.about}"):
            yield f"artifact {quoted(f'artifacts/{row.about}/')}"

    def open(self, agent: str) -> list[str]:
        """The units that these messages of ``agent``'s began, and that nobody closed."""
        came = f"from {agent}: "
        return [str(unit) for (unit,) in self._db.execute(_OPEN, (len(came), came))]

    def _journal(self, first_day: str) -> Iterator[Record]:
        for file in Days(self._home.memory, self._node).files():
            if file.day < first_day:
                continue
            try:
                data = regular.read(file.path) if file.later else unzip(file.path)
            except OSError as error:
                self.troubles.append(f"{file.path.name} of the journal could not be read ({error.strerror or error})")
                continue
            for parsed in parse_day(file.day, data.decode("utf-8", errors="replace")):
                if isinstance(parsed, Record) and parsed.agent == self._node:
                    yield parsed

    def _entries(self, agent: str) -> Iterator[tuple[str, int, str]]:
        try:
            with regular.opened(self._home.shared / f"{agent}.jsonl") as lines:
                for line in lines:
                    if isinstance(entry := read_line(line.rstrip(b"\n")), Entry):
                        yield agent, entry.seq, f"{entry.kind} {entry.key}"
        except FileNotFoundError:
            return
        except OSError as error:
            self.troubles.append(f"shared/{agent}.jsonl could not be read ({error.strerror or error})")


def _ranges(about: str) -> Iterator[tuple[str, int, int]]:
    """``AGENT:FIRST-LAST``, with a space between several."""
    for part in about.split(" "):
        if match := _RANGE.fullmatch(part):
            yield match[1], int(match[2]), int(match[3] or match[2])
