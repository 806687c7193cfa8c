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


class Journal:
    """One agent's journal in ``directory``. One process appends records as ``agent``; anyone may read."""

    def __init__(self, directory: Path, agent: str, clock: Clock, *, seq: int = 0) -> None:
        """``seq`` is the highest sequence number known from elsewhere (STATE.json); the files' own may be higher."""
        self.seq = seq
        self._directory = directory
        self._agent = agent
        self._clock = clock
        self._day = ""
        self._fd = -1

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
            raise DurabilityError(f"the journal could not be written: {error.strerror or error}") from error
        self.seq = record.seq
        return record

    def since(self, seq: int, damaged: Callable[[Damaged], None] = lambda _: None) -> Iterator[Record]:
        """Yield this agent's records with a sequence number above ``seq``, oldest first.

        Whole days that lie before are not read. Raises OSError.
        """
        days: list[list[Record]] = []
        for day in sorted(self._days(), reverse=True):
            own = [record for record in self._read(day, damaged) if record.agent == self._agent]
            days.append([record for record in own if record.seq > seq])
            if own and own[0].seq <= seq:
                break
        for records in reversed(days):
            yield from records

    def _days(self) -> list[str]:
        if not self._directory.is_dir():
            return []
        return [name[:-3] for name in os.listdir(self._directory) if _DAILY.fullmatch(name)]

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
        path = self._directory / f"{day}.md"
        new = not path.exists()
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            if new:
                durable.write_all(fd, f"# {day}\n\n".encode())
                durable.fsync_dir(self._directory)
            else:
                size = os.fstat(fd).st_size
                if size and os.pread(fd, 1, size - 1) != b"\n":
                    durable.write_all(fd, b"\n")
                for record in self._read(day):
                    if record.agent == self._agent:
                        self.seq = max(self.seq, record.seq)
        except BaseException:
            os.close(fd)
            raise
        self._fd, self._day = fd, day
