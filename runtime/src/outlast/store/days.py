"""The files of the journal as they are read: daily files ``DAY.md``, and their archives ``archive/DAY.AGENT.N.md.gz``.

Rules kept here:

* Every record is yielded once, in the order of the numbers, in whichever files it stands: names of days say nothing of that
  order, and a record may be in a daily file twice, or in it and in an archive.
* Files whose last record is known are not read; files that did not change since the last look are not looked at. What is
  remembered for that (``var/days.json``) is a cache: it may be lost, and a file that differs from it is read.

Left to others: writing (store.journal, store.compact), what the lines say (core.days).
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from outlast.core.days import Look, Seen, digest, is_edited, missing, survey
from outlast.core.plainjson import from_json
from outlast.core.record import Damaged, Record, parse_day, parse_line
from outlast.errors import DurabilityError
from outlast.store import durable

__all__ = ["ARCHIVE", "Days", "DayFile", "unzip"]

ARCHIVE = "archive"
_NAME = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)(?:\.(?P<agent>[a-z][a-z0-9-]*)\.(?P<part>[1-9]\d{0,8})\.md\.gz|\.md)", re.ASCII
)
_TAIL = 65_536
# A file may change twice within one tick of its file system's clock: 2 s on the coarsest.
_TICK_NS = 2_000_000_000


class DayFile(NamedTuple):
    """One file; ``part`` is 0 for the daily file itself, which sorts after its archives."""

    day: str
    later: bool
    part: int
    path: Path
    found: os.stat_result

    @property
    def known_as(self) -> str:
        """What the cache calls it."""
        return self.path.name


class _Cache(msgspec.Struct, forbid_unknown_fields=True):
    agent: str
    files: dict[str, Seen]


def unzip(path: Path) -> bytes:
    """The content of an archive. Raises OSError that says what is wrong."""
    import gzip
    import zlib

    try:
        with gzip.open(path) as file:
            return file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(f"{path.name} is damaged: {error}") from error


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """An error that reading meets names the file as well: only that of opening does so by itself."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _read(path: Path) -> bytes:
    with _named(path):
        return path.read_bytes()


class Days:
    """The files of ``agent`` in ``directory``. Methods raise OSError."""

    def __init__(self, directory: Path, agent: str) -> None:
        self._directory = directory
        self._agent = agent
        self._cache: Path | None = None

    def files(self, day: str = "") -> list[DayFile]:
        """All files, or those of one day: day by day, and of each day the agent's archives before the daily file."""
        found: list[DayFile] = []
        for folder, zipped in ((self._directory, False), (self._directory / ARCHIVE, True)):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
                for entry in entries:
                    name = _NAME.fullmatch(entry.name)
                    if (
                        name is None
                        or name["agent"] != (self._agent if zipped else None)
                        or (day and name["day"] != day)
                    ):
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        seen = entry.stat()
                        if stat.S_ISREG(seen.st_mode):
                            part = int(name["part"] or 0)
                            found.append(DayFile(name["day"], not zipped, part, folder / entry.name, seen))
        return sorted(found, key=lambda file: file[:3])

    def since(self, seq: int, damaged: Callable[[Damaged], None]) -> Iterator[Record]:
        """Yield the agent's records with a number above ``seq``, in the order of the numbers; an archive that is damaged too
        is told to ``damaged``."""
        cached = _at_rest(self._cache, self._read_cache(self._cache)) if seq and self._cache else {}
        held: dict[int, Record] = {}
        due, top = seq + 1, seq
        newest: DayFile | None = None
        for file in self.files():
            if seq and self._last(file, cached) <= seq:
                continue
            for parsed in parse_day(file.day, self._text(file, damaged)):
                if isinstance(parsed, Damaged):
                    if file.later:
                        damaged(parsed)
                elif parsed.seq >= due and parsed.agent == self._agent:
                    held.setdefault(parsed.seq, parsed)
                    if parsed.seq > top:
                        top, newest = parsed.seq, file
            # Days mostly follow each other: what is due need not wait until all are read.
            while (record := held.pop(due, None)) is not None:
                yield record
                due += 1
        for number in sorted(held):
            yield held[number]
        if newest:
            # Whoever wrote the last ones may have been killed before they were on the disk, and they are believed from here on.
            # Those before were acknowledged before the last ones were written.
            durable.settle(newest.path)

    def look(self, cache: Path, last: int, *, full: bool) -> Look:
        """Look at the files that changed since ``cache`` was written, or at all; ``last``: numbers up to it were given out."""
        self._cache = cache
        old = self._read_cache(cache)
        trusted = _at_rest(cache, old)
        seen: dict[str, Seen] = {}
        edited: list[str] = []
        torn: list[Damaged] = []
        damaged: list[Damaged] = []
        spans = []
        for file in self.files():
            before = old.get(file.known_as)
            now = trusted.get(file.known_as)
            if full or now is None or not _same(now, file.found):
                now = self._survey(file, before, full, edited, torn, damaged)
            seen[file.known_as] = now
            spans.append((file.day, now.spans))
        if seen != trusted:
            # Harmless: the next look reads more.
            with contextlib.suppress(DurabilityError):
                durable.make_dir(cache.parent)
                durable.replace(cache, msgspec.json.encode(_Cache(self._agent, seen)))
        whole = [span for _, held in spans for span in held]
        # A copy of a record that is there, quoted or moved to another day, is nobody's loss.
        lost = [one for one in damaged if not any(first <= one.seq <= end for first, end in whole)]
        return Look(missing(spans, last), tuple(edited), tuple(torn), tuple(lost))

    def _survey(
        self,
        file: DayFile,
        before: Seen | None,
        full: bool,
        edited: list[str],
        torn: list[Damaged],
        damaged: list[Damaged],
    ) -> Seen:
        found = file.found
        if not file.later:
            held = survey(file.day, self._text(file, damaged.append), self._agent)
            return Seen(found.st_size, found.st_mtime_ns, found.st_ino, "", held.spans)
        data = _read(file.path)
        held = survey(file.day, data.decode("utf-8", errors="replace"), self._agent)
        odd = {digest(one.line): one for one in (*held.torn, *held.damaged)}
        now = Seen(
            found.st_size,
            found.st_mtime_ns,
            found.st_ino,
            digest(data[: found.st_size]),
            held.spans,
            tuple(odd),
            len(held.archives),
        )
        known = set(before.odd) if before and not full else set()
        torn += [one for one in held.torn if digest(one.line) not in known]
        damaged += [one for one in held.damaged if digest(one.line) not in known]
        if before and is_edited(before, now, digest(data[: before.size])):
            edited.append(file.day)
        if full:
            damaged += [Damaged(file.day, line) for line in self._not_as_archived(held.archives)]
        return now

    def _not_as_archived(self, archives: tuple[tuple[str, str], ...]) -> Iterator[str]:
        from hashlib import sha256

        for name, expected in archives:
            path = self._directory / ARCHIVE / name
            try:
                if sha256(path.read_bytes()).hexdigest() != expected:
                    yield f"{ARCHIVE}/{name} is not what was archived"
            except OSError as error:
                yield f"{ARCHIVE}/{name} cannot be read: {error.strerror or error}"

    def _text(self, file: DayFile, damaged: Callable[[Damaged], None]) -> str:
        if file.later:
            return _read(file.path).decode("utf-8", errors="replace")
        try:
            return unzip(file.path).decode("utf-8", errors="replace")
        except OSError as error:
            damaged(Damaged(file.day, f"{ARCHIVE}/{error}"))
            return ""

    def _last(self, file: DayFile, cached: dict[str, Seen]) -> int | float:
        """The highest number of the agent's records in a file; infinite where it cannot be told cheaply."""
        seen = cached.get(file.known_as)
        if seen is not None and _same(seen, file.found):
            return seen.last
        if not file.later:
            return float("inf")
        with _named(file.path), open(file.path, "rb") as data:
            data.seek(max(0, data.seek(0, os.SEEK_END) - _TAIL))
            lines = data.read().decode("utf-8", errors="replace").split("\n")
        parsed = (parse_line(file.day, line) for line in lines)
        # Not simply the last one: somebody may have put older lines back.
        return max(
            (one.seq for one in parsed if isinstance(one, Record) and one.agent == self._agent), default=float("inf")
        )

    def _read_cache(self, path: Path) -> dict[str, Seen]:
        try:
            cache = from_json(path.read_bytes(), _Cache)
        except (OSError, ValueError):
            return {}
        return cache.files if cache.agent == self._agent else {}


def _at_rest(cache: Path, files: dict[str, Seen]) -> dict[str, Seen]:
    """Those of the files that had come to rest when the cache was written: the others may have changed since unseen."""
    try:
        latest = cache.stat().st_mtime_ns - _TICK_NS
    except OSError:
        return {}
    return {name: seen for name, seen in files.items() if seen.mtime_ns < latest}


def _same(seen: Seen, found: os.stat_result) -> bool:
    return (seen.size, seen.mtime_ns, seen.inode) == (found.st_size, found.st_mtime_ns, found.st_ino)
