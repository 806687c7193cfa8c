"""The journal: append-only daily files ``memory/YYYY-MM-DD.md``, the ground truth of a node.

Rules kept here:

* ``append`` and ``commit`` return after the record is on the disk. What is waiting at that moment goes along: many writers
  share one write and one fsync.
* ``applied`` is told of every record that is durable, once, in the order of the numbers, and of no other.
* Sequence numbers go up by one, over days, restarts and clocks that are set back. The last record of ours in a file has the
  highest number of those in it.
* After a failed write nothing that is held in memory is believed: what of it is in the file after all is written again, and
  counts from then on; what is not was never there.
* People and agents write between the records; their lines are never touched. Records that somebody's rewrite took away
  are put back as they were.

Left to others: growing a file that others write to (store.appendfile), reading (store.days), compaction (store.compact),
what the records mean (core.state).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from outlast.clock import Clock
from outlast.core.days import Look
from outlast.core.findings import Finding
from outlast.core.record import Damaged, Record, Step, format_record, one_line
from outlast.errors import DurabilityError
from outlast.store.appendfile import AppendFile
from outlast.store.days import Days

__all__ = ["Journal"]

_KEEP_BYTES = 256 * 1024
_GRACE_S = 120.0


@dataclass(slots=True)
class _Asked:
    """A record that somebody waits for."""

    step: Step
    unit: str
    what: str
    future: asyncio.Future[Record] | None = None


def _ignore(_: object) -> None:
    pass


class Journal:
    """One agent's journal in ``directory``. One process at a time appends records as ``agent``; anyone may read."""

    def __init__(self, directory: Path, agent: str, clock: Clock, applied: Callable[[Record], None] = _ignore) -> None:
        """The last sequence number is read from the files, unless ``known`` tells it. ``applied`` must not raise or append."""
        self.seq = 0
        self._sure = False
        self._directory = directory
        self._agent = agent
        self._clock = clock
        self._applied = applied
        self._days = Days(directory, agent)
        self._waiting: list[_Asked] = []
        self._called: asyncio.AbstractEventLoop | None = None
        self._day = ""
        self._file: AppendFile | None = None
        # The records of the open day that this process wrote, newest last, and where the last one lies.
        self._own: deque[bytes] = deque()
        self._own_bytes = 0
        self._last_at = 0
        # Which opening of the file is known to hold them all.
        self._checked = 0
        # What a failed write may have left in the open day's file.
        self._failed: list[tuple[bytes, Record]] = []
        # What compaction replaced: agents may still write into it for a while.
        self._left: dict[Path, float] = {}
        # Size and time of long files that compaction does not help: they are not read again until they change.
        self._alone: dict[str, tuple[int, int]] = {}
        self._second, self._today, self._now = -1, "", ""

    def known(self, seq: int) -> None:
        """The highest sequence number that was ever given out is ``seq``: the caller has read STATE.json and the files."""
        self.seq, self._sure = max(self.seq, seq), True

    def close(self) -> None:
        """Write what waits, and let go of the open file. Appending opens it again. Raises DurabilityError."""
        try:
            self._flush([])
        finally:
            if self._file:
                self._file.close()

    def append(self, step: Step, unit: str, what: str) -> Record:
        """Append one record; it is on the disk when this returns. Raises DurabilityError: the record may not be there."""
        return self._flush([_Asked(step, unit, what)])[-1]

    def append_all(self, steps: Sequence[tuple[Step, str, str]]) -> list[Record]:
        """Append several records, ``(step, unit, what)`` each, with one write and one fsync. Raises DurabilityError."""
        return self._flush([_Asked(*one) for one in steps])[-len(steps) :]

    async def commit(self, step: Step, unit: str, what: str) -> Record:
        """The same; all that is asked for in one turn of the event loop shares one write and one fsync."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Record] = loop.create_future()
        self._waiting.append(_Asked(step, unit, what, future))
        # A loop that ended before its turn never calls.
        if self._called is not loop:
            self._called = loop
            loop.call_soon(self._turn)
        return await future

    def since(self, seq: int, damaged: Callable[[Damaged], None] = _ignore) -> Iterator[Record]:
        """Yield this agent's records with a number above ``seq``, archived ones too, each once, in the order of the numbers.

        Days whose last record is known are not read. Raises OSError.
        """
        return self._days.since(seq, damaged)

    def look(self, cache: Path, full: bool = False) -> Look:
        """What is missing, torn, damaged or edited. Looks at the files that changed since ``cache`` was written, and reports
        of them what is new; ``full``: looks at all and reports all. Numbers up to that told by ``known`` must be there.
        Raises OSError.
        """
        return self._days.look(cache, self.seq, full=full)

    def mend(self, *, full: bool = False) -> int:
        """Put back those of our records of the open day that somebody's rewrite of the file took away; returns how many.

        Costs two system calls where the newest is in its place; ``full``: reads the file in any case. Raises DurabilityError.
        """
        self._settle_left()
        if self._file is None or not (self._own or self._failed):
            return 0
        opened = self._file.opened
        if not full and not self._failed and opened == self._checked and self._file.holds(self._own[-1], self._last_at):
            return 0
        content = self._file.read()
        lines = content.split(b"\n")[:-1]
        present = set(lines)
        lost = [line for line in self._own if line[:-1] not in present]
        doubtful = [(line, record) for line, record in self._failed if line[:-1] in present]
        mine = {line[:-1] for line in self._own}
        newest = next((line + b"\n" for line in reversed(lines) if line in mine), b"")
        if lost or doubtful or (self._own and newest != self._own[-1]):
            again = [*lost, *(line for line, _ in doubtful)]
            # The last record in a file tells its highest number.
            if not doubtful and again[-1:] != [self._own[-1]]:
                again.append(self._own[-1])
            # Where this fails, all is to be looked at again.
            self._checked = -1
            self._write(self._file, again)
            self._keep(line for line, _ in doubtful)
        elif self._own:
            self._last_at = content.rfind(self._own[-1])
        self._failed = []
        self._checked = opened
        self._apply([record for _, record in doubtful])
        return len(lost)

    def compact(self, limit_bytes: int, memory_file: Path) -> list[Finding]:
        """Compact the daily files that are larger than ``limit_bytes`` into ``memory_file``. Raises DurabilityError."""
        from outlast.store import rewrite
        from outlast.store.compact import Compactor

        self._flush([])
        self.mend()
        compactor = Compactor(self._directory, self._agent, self._days, memory_file)
        findings: list[Finding] = []
        try:
            for left in compactor.leftovers():
                if left not in self._left:
                    rewrite.finish(left, again=True)
            for file in compactor.over(limit_bytes):
                seen = (file.found.st_size, file.found.st_mtime_ns)
                if self._alone.get(file.day) == seen:
                    continue
                found = compactor.compact(file.day, limit_bytes)
                findings += found
                if not all(one.ok for one in found):
                    self._alone[file.day] = seen
                if file.day == self._day:
                    # The open day's records may be in the archive now; what is put back is what was written since.
                    self._forget()
        finally:
            deadline = self._clock.monotonic() + _GRACE_S
            self._left |= dict.fromkeys(compactor.left, deadline)
        return findings

    def _turn(self) -> None:
        self._called = None
        # All who wait are told.
        with contextlib.suppress(DurabilityError):
            self._flush([])

    def _flush(self, more: list[_Asked]) -> list[Record]:
        # Who was cancelled before the turn ended wants nothing written any more.
        waiting = [one for one in self._waiting if one.future and not one.future.cancelled()]
        asked, self._waiting = [*waiting, *more], []
        if not asked:
            return []
        try:
            records = self._record(asked)
        except BaseException as error:
            for one in asked:
                if one.future and not one.future.done():
                    one.future.set_exception(error)
            raise
        for one, record in zip(asked, records, strict=True):
            if one.future and not one.future.done():
                one.future.set_result(record)
        return records

    def _record(self, asked: list[_Asked]) -> list[Record]:
        # First of all: what is found in the file again comes before what is new.
        self.mend()
        day, now = self._moment()
        file = self._open(day)
        records = [
            Record(day, now, one.step, one.unit, one_line(one.what) or "-", self._agent, self.seq + number)
            for number, one in enumerate(asked, 1)
        ]
        lines = [f"{format_record(record)}\n".encode() for record in records]
        try:
            self._write(file, lines)
        except DurabilityError:
            self._failed = list(zip(lines, records, strict=True))
            raise
        if not self._own:
            self._checked = file.opened
        self._keep(lines)
        self._apply(records)
        return records

    def _apply(self, records: list[Record]) -> None:
        self.seq = max([self.seq, *(record.seq for record in records)])
        for record in records:
            self._applied(record)

    def _write(self, file: AppendFile, lines: list[bytes]) -> None:
        data = b"".join(lines)
        self._last_at = file.append(data) + len(data) - len(lines[-1])

    def _keep(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self._own.append(line)
            self._own_bytes += len(line)
        while self._own_bytes > _KEEP_BYTES:
            self._own_bytes -= len(self._own.popleft())

    def _forget(self) -> None:
        self._own.clear()
        self._own_bytes = 0

    def _open(self, day: str) -> AppendFile:
        if not self._sure:
            try:
                self.known(max((record.seq for record in self.since(self.seq)), default=0))
            except OSError as error:
                raise DurabilityError(f"the journal could not be read: {error.strerror or error}") from error
        if self._file is None or day != self._day:
            if self._file:
                self._file.close()
            self._forget()
            self._failed = []
            self._file = AppendFile(self._directory / f"{day}.md", f"# {day}\n\n".encode())
            self._day = day
        return self._file

    def _moment(self) -> tuple[str, str]:
        """Day and time in the node's own zone; a laptop may have travelled since the last second."""
        second = int(self._clock.time())
        if second != self._second:
            time.tzset()
            local = time.localtime(second)
            self._today, self._now = time.strftime("%Y-%m-%d", local), time.strftime("%H:%M:%S", local)
            self._second = second
        return self._today, self._now

    def _settle_left(self) -> None:
        if self._left:
            from outlast.store import rewrite

            for left, until in list(self._left.items()):
                del self._left[left]
                if self._clock.monotonic() < until:
                    self._left[rewrite.carry(left)] = until
                else:
                    rewrite.finish(left)
