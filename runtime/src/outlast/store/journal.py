"""The journal: append-only daily files ``memory/YYYY-MM-DD.md``, the ground truth of a node.

Rules kept here:

* ``append`` returns after the record is on the disk, and after a new day's file is in its directory too.
* A line that was cut short by a crash is closed, never removed: whatever comes after it starts on a line of its own.
* After a failed write nothing that is held in memory is believed: the next append reads the file's end again.
* Sequence numbers go up by one, over days and restarts.
* People and agents write between the records; their lines are never touched.

Left to others: what the records mean (core.state), and compaction.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from outlast.clock import Clock
from outlast.core.record import Damaged, Record, Step, format_record, one_line, parse_line
from outlast.errors import DurabilityError
from outlast.store import durable

__all__ = ["Journal"]

_DAILY = re.compile(r"\d{4}-\d\d-\d\d\.md")
_TAIL = 65_536


class Journal:
    """One agent's journal in ``directory``. One process appends records as ``agent``; anyone may read."""

    def __init__(self, directory: Path, agent: str, clock: Clock) -> None:
        """The last sequence number is read from the files, unless ``known`` tells it."""
        self.seq = 0
        self._sure = False
        self._directory = directory
        self._agent = agent
        self._clock = clock
        self._day = ""
        self._fd = -1

    def known(self, seq: int) -> None:
        """The highest sequence number of the files is ``seq``: the caller has read them all."""
        self.seq, self._sure = seq, True

    def close(self) -> None:
        """Let go of the open file. Appending opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._day = -1, ""

    def append(self, step: Step, unit: str, what: str) -> Record:
        """Append one record; it is on the disk when this returns. Raises DurabilityError: the record may not be there."""
        now = datetime.fromtimestamp(self._clock.time()).astimezone()
        day = now.date().isoformat()
        try:
            if day != self._day:
                self._open(day)
            record = Record(day, now.strftime("%H:%M:%S"), step, unit, one_line(what) or "-", self._agent, self.seq + 1)
            durable.write_all(self._fd, f"{format_record(record)}\n".encode())
            durable.fsync_file(self._fd)
        except OSError as error:
            self.close()
            self._sure = False
            raise DurabilityError(f"the journal could not be written: {error.strerror or error}") from error
        self.seq = record.seq
        return record

    def since(self, seq: int, damaged: Callable[[Damaged], None] = lambda _: None) -> Iterator[Record]:
        """Yield this agent's records with a sequence number above ``seq``, in the order of these numbers.

        The names of the days say nothing of that order: clocks are set back, machines travel west. Days whose last record
        is known are not read. Raises OSError.
        """
        found: list[Record] = []
        for day in self._days():
            last = self._last(day)
            if last is None or last > seq:
                own = (record for record in self._read(day, damaged) if record.agent == self._agent)
                found.extend(record for record in own if record.seq > seq)
        yield from sorted(found, key=lambda record: record.seq)

    def _last(self, day: str) -> int | None:
        """The number of this agent's last record of a day; None where the end of the file does not tell."""
        with open(self._directory / f"{day}.md", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().decode("utf-8", errors="replace").split("\n")
        for line in reversed(lines):
            record = parse_line(day, line)
            if isinstance(record, Record) and record.agent == self._agent:
                return record.seq
        return None

    def _days(self) -> list[str]:
        if not self._directory.is_dir():
            return []
        names = sorted(name for name in os.listdir(self._directory) if _DAILY.fullmatch(name))
        return [name[:-3] for name in names if (self._directory / name).is_file()]

    def _read(self, day: str, damaged: Callable[[Damaged], None] = lambda _: None) -> Iterator[Record]:
        with open(self._directory / f"{day}.md", encoding="utf-8", errors="replace", newline="\n") as lines:
            for line in lines:
                parsed = parse_line(day, line.rstrip("\n"))
                if isinstance(parsed, Damaged):
                    damaged(parsed)
                elif parsed is not None:
                    yield parsed

    def _open(self, day: str) -> None:
        self.close()
        if not self._sure:
            self.known(max([self.seq, *(record.seq for record in self.since(self.seq))]))
        path = self._directory / f"{day}.md"
        new = not path.exists()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, durable.SHARED_FILE)
        try:
            if new:
                durable.write_all(fd, f"# {day}\n\n".encode())
                durable.fsync_dir(self._directory)
            else:
                size = os.fstat(fd).st_size
                if size and os.pread(fd, 1, size - 1) != b"\n":
                    durable.write_all(fd, b"\n")
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._day = fd, day
