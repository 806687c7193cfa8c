"""Compaction of daily files that have become long, in an order in which a crash costs nothing.

1. The daily file goes whole into ``archive/DAY.AGENT.N.md.gz``, durably, and is read back and compared byte for byte.
2. A section about its records goes into MEMORY.md.
3. The daily file is replaced by what others wrote in it, and a line that says where its records are.

Rules kept here: a step is taken only when the one before it is on the disk; a compaction that was interrupted is carried on
from its archive, so that the section is written once and only what is archived leaves the daily file; a record that is in
both counts once (store.days).

Left to others: what is kept and what is said (core.compaction), replacing files that others write to (store.rewrite), when
to compact (work), and removing old archives (nobody does).
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from outlast.core.compaction import heading, kept, own_records, section
from outlast.core.days import survey
from outlast.core.findings import Finding
from outlast.core.record import Record, format_record
from outlast.errors import DurabilityError
from outlast.store import durable, rewrite
from outlast.store.days import ARCHIVE, DayFile, Days, unzip

__all__ = ["Compactor"]


class Compactor:
    """Compacts the daily files of ``agent`` in ``directory`` into ``memory_file``. Every method raises DurabilityError.

    ``left``: second names of files that were replaced, to be carried and finished (store.rewrite).
    """

    def __init__(self, directory: Path, agent: str, days: Days, memory_file: Path) -> None:
        self.left: list[Path] = []
        self._directory = directory
        self._archive = directory / ARCHIVE
        self._agent = agent
        self._days = days
        self._memory_file = memory_file

    def leftovers(self) -> list[Path]:
        """What an earlier process had not finished."""
        mine = f".{self._memory_file.name}."
        beside = [path for path in rewrite.leftovers(self._memory_file.parent) if path.name.startswith(mine)]
        return [*rewrite.leftovers(self._directory), *beside]

    def over(self, limit_bytes: int) -> list[DayFile]:
        """The daily files that are larger than that."""
        return [file for file in self._days.files() if file.later and file.found.st_size > limit_bytes]

    def compact(self, day: str, limit_bytes: int) -> list[Finding]:
        """Compact one day; one that holds little but other people's text is left alone, and said."""
        try:
            return self._compact(day, limit_bytes)
        except OSError as error:
            raise DurabilityError(f"{day}.md could not be compacted: {error.strerror or error}") from error

    def _compact(self, day: str, limit_bytes: int) -> list[Finding]:
        daily = self._directory / f"{day}.md"
        about = f"{self._directory.name}/{daily.name}"
        data = daily.read_bytes()
        records = own_records(day, data, self._agent)
        found = f"it is larger than {limit_bytes // 1024} KiB"
        # Each compaction costs an archive and a section: a few records beside much text are not worth one.
        if sum(len(format_record(record)) + 1 for record in records) < limit_bytes // 4:
            mend = f"most of it is text of people and agents: move what is worth keeping to {self._memory_file.name}"
            return [Finding(about, found, mend, ok=False)]
        durable.make_dir(self._archive, mode=durable.SHARED_FOLDER)
        for folder in (self._directory, self._archive, self._memory_file.parent):
            durable.sweep(folder)
        part, records = self._archived(day, data, records)
        archive = self._packed(day, part)
        where = f"{self._directory.name}/{ARCHIVE}/{archive.name}"
        checksum = sha256(archive.read_bytes()).hexdigest()
        text = section(day, part, records, where).encode()
        begins = re.compile(rb"^" + re.escape(heading(day, self._agent, part).encode()), re.MULTILINE)
        others = [
            self._rewrite(self._memory_file, lambda old: None if begins.search(old) else _after(old, text)),
            self._rewrite(daily, lambda old: kept(day, old, records, archive.name, checksum)),
        ]
        first, last = records[0].seq, records[-1].seq
        done = f"records {first} to {last} are in {where}, and summed up in {self._memory_file.name}"
        kept_too = "somebody else wrote it in that very moment"
        return [
            Finding(about, found, done),
            *(
                Finding(other.name, kept_too, "both versions are kept: put together what is worth keeping", ok=False)
                for other in others
                if other
            ),
        ]

    def _archived(self, day: str, data: bytes, own: list[Record]) -> tuple[int, list[Record]]:
        """Have an archive that is right and on the disk. Returns its number, and the records that are in it."""
        last = max((file.part for file in self._days.files(day) if not file.later), default=0)
        named = {name for name, _ in survey(day, data.decode("utf-8", errors="replace"), self._agent).archives}
        if last and self._packed(day, last).name not in named:
            try:
                records = own_records(day, unzip(self._packed(day, last)), self._agent)
            except OSError:
                records = []
            if records and set(records) <= set(own):
                # Whoever was interrupted may have seen it, and the disk not.
                durable.fsync_dir(self._archive)
                return last, records
        self._zip(self._packed(day, last + 1), data)
        return last + 1, own

    def _packed(self, day: str, part: int) -> Path:
        # Named by the agent: where nodes share a workspace through git, each has archives of its own of a day.
        return self._archive / f"{day}.{self._agent}.{part}.md.gz"

    def _zip(self, path: Path, data: bytes) -> None:
        import gzip

        durable.replace(path, gzip.compress(data, mtime=0), mode=durable.SHARED_FILE)
        if unzip(path) != data:
            path.unlink()
            raise DurabilityError(f"{path.name} did not hold what was written to it")

    def _rewrite(self, path: Path, change: rewrite.Change) -> Path | None:
        replaced = rewrite.rewrite(path, change)
        if replaced.left:
            self.left.append(replaced.left)
        # Also where it had been replaced before: whoever was interrupted may have seen it, and the disk not.
        durable.fsync_dir(path.parent)
        return replaced.other


def _after(old: bytes, text: bytes) -> bytes:
    return old + (b"" if not old else b"\n" if old.endswith(b"\n") else b"\n\n") + text
