"""Compaction of daily files: what agents go on reading, what is archived, and what a crash may cost, which is nothing."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from support.clock import FixedClock

from outlast.core.days import Look
from outlast.core.record import Record, Step
from outlast.store import durable
from outlast.store.journal import Journal

NOON = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))
OWN = ["Remember the milk.\n", "  indented\n", "\n", "- an agent's list\n", "- 12:00:00 NOTE torn reco\n"]
LIMIT = 2048


class Place:
    """A workspace whose journal has one long day: 40 units, some of them not well, and other people's text between them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.memory = root / "memory"
        self.daily = self.memory / "2026-11-21.md"
        self.memory_file = root / "MEMORY.md"
        self.clock = FixedClock(NOON)

    def journal(self) -> Journal:
        return Journal(self.memory, "coz", self.clock)

    def fill(self) -> None:
        self.memory.mkdir(parents=True)
        self.memory_file.write_text("# What I know\n\nThe cat is called Tom.\n")
        journal = self.journal()
        for number in range(40):
            self.clock.now = NOON + 60 * number
            unit = f"axiom-{number:04}"
            journal.append(Step.INTENT, unit, "from axiom: host report")
            if number % 10 == 5:
                self.write(OWN[number // 10])
            ending = {7: "failed: exit 1: disk full", 17: "in doubt: it was cut off", 27: "failed: exit 1: disk full"}
            if number != 39:
                journal.append(Step.CONFIRM, unit, ending.get(number, "done: report.md (healthy)"))
        journal.append(Step.NOTE, "mode", "degraded: disk 91 % full")
        journal.append(Step.RECOVER, "axiom-0017", "its agent was cut off")
        journal.append(Step.INTENT, "coz-1", "makes notes.md, list.md: study of owls")
        journal.append(Step.CONFIRM, "coz-1", "done")
        journal.append(Step.CONFIRM, "coz-of-yesterday", "done: late.md")
        self.write(OWN[4])
        journal.close()

    def write(self, text: str) -> None:
        with open(self.daily, "a") as file:
            file.write(text)

    def records(self) -> list[Record]:
        return list(self.journal().since(0))

    def settled(self) -> None:
        """Compact until nothing is left to do, and wait until nobody writes into old files any more."""
        journal = self.journal()
        journal.compact(LIMIT, self.memory_file)
        self.clock.now += 3600
        journal.mend()

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Such a workspace."""
    place = Place(tmp_path / "workspace")
    place.fill()
    return place


def test_what_agents_read_becomes_short_and_nothing_is_lost(place: Place) -> None:
    """The daily file keeps other people's text and says where its records are; MEMORY.md sums up what went well and tells the
    rest one by one; the archive has the day as it was."""
    before, original = place.records(), place.daily.read_bytes()
    findings = place.journal().compact(LIMIT, place.memory_file)
    archive = place.memory / "archive" / "2026-11-21.coz.1.md.gz"
    assert gzip.decompress(archive.read_bytes()) == original
    digest = sha256(archive.read_bytes()).hexdigest()
    marker = f"- outlast: records coz:1 to 84 are in archive/2026-11-21.coz.1.md.gz, sha256 {digest}\n"
    assert place.daily.read_text() == "# 2026-11-21\n\n" + marker + "".join(OWN)
    assert place.memory_file.read_text() == (
        "# What I know\n\nThe cat is called Tom.\n\n"
        "## 2026-11-21, coz, part 1: 1 to 84 summed up by outlast, whole in memory/archive/2026-11-21.coz.1.md.gz\n\n"
        "- host report from axiom: 36 done 12:00-12:38: report.md (healthy) (36)\n"
        "- study of owls: 1 done 12:39\n"
        "- begun before: 1 done 12:39: late.md\n"
        "- host report from axiom: 2 failed: exit 1: disk full (12:07-12:27): axiom-0007, axiom-0027\n"
        "- host report from axiom: in doubt: it was cut off (12:17): axiom-0017\n"
        "- host report from axiom: still open (12:39): axiom-0039\n"
        "- 12:39 NOTE mode degraded: disk 91 % full\n"
        "- 12:39 RECOVER axiom-0017 its agent was cut off\n"
    )
    assert place.records() == before
    assert [finding.ok for finding in findings] == [True]
    assert "records 1 to 84 are in memory/archive/2026-11-21.coz.1.md.gz" in findings[0].line()


def test_the_open_day_goes_on(place: Place) -> None:
    """Today's file is compacted while the journal has it open: records go on in the new one, what was archived is not put back,
    and the next part has a number of its own."""
    journal = place.journal()
    place.clock.now = NOON + 7200
    records = place.records()
    records.append(journal.append(Step.NOTE, "unit", "opens the file"))
    journal.compact(LIMIT, place.memory_file)
    assert journal.mend() == 0
    for number in range(60):
        records.append(journal.append(Step.NOTE, "unit", f"later {number}"))
    assert list(journal.since(0)) == records
    journal.compact(LIMIT, place.memory_file)
    assert journal.compact(LIMIT, place.memory_file) == []
    assert list(journal.since(0)) == records
    assert list(place.journal().since(80)) == records[80:]
    assert sorted(os.listdir(place.memory / "archive")) == ["2026-11-21.coz.1.md.gz", "2026-11-21.coz.2.md.gz"]
    lines = place.daily.read_text().splitlines()
    assert [line[:38] for line in lines[2:4]] == [
        "- outlast: records coz:1 to 85 are in ",
        "- outlast: records coz:86 to 145 are i",
    ]
    assert place.memory_file.read_text().count("summed up by outlast") == 2
    assert journal.append(Step.NOTE, "unit", "next").seq == 146
    assert journal.look(place.root / "days.json", full=True).gaps == ()


def test_a_compaction_is_no_edit_and_its_archive_is_checked(place: Place) -> None:
    """A look does not take our own compaction for somebody's edit; a full one compares archives with what was said of them."""
    cache = place.root / "days.json"
    journal = place.journal()
    journal.known(84)
    journal.look(cache)
    journal.compact(LIMIT, place.memory_file)
    assert journal.look(cache) == Look()
    archive = place.memory / "archive" / "2026-11-21.coz.1.md.gz"
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()), 1))
    assert "2026-11-21.coz.1.md.gz is not what was archived" in journal.look(cache, full=True).damaged[0].line
    archive.unlink()
    gone = journal.look(cache, full=True)
    assert [(gap.first, gap.last) for gap in gone.gaps] == [(1, 84)]
    assert "2026-11-21.coz.1.md.gz cannot be read" in gone.damaged[0].line


def test_a_long_day_of_other_peoples_text_is_left_alone(place: Place) -> None:
    """Where records are not what makes a file long, nothing is touched, and a person is told."""
    place.write("An agent thinks aloud.\n" * 1000)
    before = place.files()
    findings = place.journal().compact(28_000, place.memory_file)
    assert place.files() == before
    assert [finding.ok for finding in findings] == [False]
    assert "text of people and agents" in findings[0].line()


def test_an_archive_that_does_not_hold_what_was_written_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that returns something else than it was given leaves the daily file and MEMORY.md as they were."""
    before = place.files()
    real = gzip.compress
    monkeypatch.setattr(gzip, "compress", lambda data, **more: real(data[:-1], **more))
    with pytest.raises(durable.DurabilityError, match="did not hold what was written"):
        place.journal().compact(LIMIT, place.memory_file)
    assert place.files() == before


class Killed(BaseException):
    """The process is gone."""


_CALLS = ("open", "write", "fsync", "fdatasync", "rename", "link", "unlink")


@contextmanager
def killed_at(count: int, then: Callable[[], None] = lambda: None) -> Iterator[list[str]]:
    """Kill this process at its system call number ``count``, and after it: no call is made any more. Yields the calls made;
    ``then`` is done by somebody else at that moment."""
    made: list[str] = []
    real = {name: getattr(os, name) for name in _CALLS}

    def wrap(name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if len(made) == count:
                with plain():
                    then()
            if len(made) >= count:
                made.append(name)
                raise Killed
            made.append(name)
            return real[name](*args, **more)

        return call

    @contextmanager
    def plain() -> Iterator[None]:
        wrapped = {name: getattr(os, name) for name in _CALLS}
        for name, function in real.items():
            setattr(os, name, function)
        yield
        for name, function in wrapped.items():
            setattr(os, name, function)

    for name in _CALLS:
        setattr(os, name, wrap(name))
    try:
        yield made
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def every_call(place: Place, tmp_path: Path) -> Iterator[tuple[int, Place]]:
    """A copy of the place for every system call of a compaction."""
    trial = Place(tmp_path / "count")
    shutil.copytree(place.root, trial.root)
    journal = trial.journal()
    with killed_at(10_000) as made:
        journal.compact(LIMIT, trial.memory_file)
    assert len(made) > 20
    for count in range(len(made)):
        copy = Place(tmp_path / f"killed-{count}")
        shutil.copytree(place.root, copy.root)
        yield count, copy


def test_a_crash_at_any_call_costs_nothing(place: Place, tmp_path: Path) -> None:
    """Killed before any of its system calls, a compaction has lost no record; running it again ends exactly as if it had never
    been interrupted, with one section, one archive, and nothing lying about."""
    expected = Place(tmp_path / "expected")
    shutil.copytree(place.root, expected.root)
    expected.settled()
    records, end = place.records(), expected.files()
    for count, copy in every_call(place, tmp_path):
        journal = copy.journal()
        with killed_at(count):
            try:
                journal.compact(LIMIT, copy.memory_file)
            except Killed:
                pass
        assert copy.records() == records, count
        assert all(line in copy.daily.read_text() for line in OWN), count
        assert copy.memory_file.read_text().startswith("# What I know\n\nThe cat is called Tom.\n"), count
        copy.settled()
        assert copy.files() == end, count


def test_a_step_that_was_seen_and_not_on_the_disk_is_brought_there(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between rename and fsync, what is carried on is made durable before the daily file loses a record."""
    real = durable.fsync_dir
    for folder in (place.memory / "archive", place.root):

        def dies(path: Path, folder: Path = folder) -> None:
            real(path)
            if path == folder and any(folder.glob("*.gz")) | ("outlast" in place.memory_file.read_text()):
                raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(durable, "fsync_dir", dies)
            place.journal().compact(LIMIT, place.memory_file)
    seen: list[str] = []
    rename = os.rename
    with monkeypatch.context() as patch:
        patch.setattr(durable, "fsync_dir", lambda path: (seen.append(path.name), real(path)))
        patch.setattr(os, "rename", lambda old, new: (seen.append(Path(new).name), rename(old, new)))
        place.journal().compact(LIMIT, place.memory_file)
    before = seen[: seen.index("2026-11-21.md")]
    assert {"archive", "workspace", "memory"} <= set(before)
    assert "2026-11-21.coz.1.md.gz" not in before and "MEMORY.md" not in before


@pytest.mark.parametrize("also_killed", [False, True])
def test_what_others_append_at_any_call_is_there(place: Place, tmp_path: Path, also_killed: bool) -> None:
    """An agent appends to the daily file and to MEMORY.md, at any moment of a compaction, by a file that it opened then or
    long before; even where the compaction is killed at that very moment, every line is there in the end, once."""
    records = place.records()
    for count, copy in every_call(place, tmp_path):
        held = [open(path, "ab", buffering=0) for path in (copy.daily, copy.memory_file)]

        def agent(copy: Place = copy, held: list[Any] = held) -> None:
            for path, before in zip((copy.daily, copy.memory_file), held, strict=True):
                with open(path, "ab") as now:
                    now.write(b"opened now\n")
                before.write(b"opened before\n")

        journal = copy.journal()
        if also_killed:
            with killed_at(count, agent):
                try:
                    journal.compact(LIMIT, copy.memory_file)
                except Killed:
                    pass
        else:
            with at_call(count, agent):
                journal.compact(LIMIT, copy.memory_file)
        for file in held:
            file.close()
        copy.clock.now += 3600
        journal.mend()
        copy.settled()
        assert copy.records() == records, count
        for path in (copy.daily, copy.memory_file):
            text = path.read_text()
            for line in ("opened now\n", "opened before\n"):
                assert text.count(line) == 1, (count, path.name, line)
            assert text.count("outlast: records") + text.count("summed up by outlast") == 1, count
        assert not list(copy.root.rglob(".*")), count


@contextmanager
def at_call(count: int, then: Callable[[], None]) -> Iterator[None]:
    """Somebody else does something right before system call number ``count``."""
    made = 0
    real = {name: getattr(os, name) for name in _CALLS}

    def wrap(name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            nonlocal made
            made += 1
            if made == count + 1:
                then()
            return real[name](*args, **more)

        return call

    for name in _CALLS:
        setattr(os, name, wrap(name))
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def test_a_command_that_still_writes_is_carried_over_for_a_while(place: Place) -> None:
    """A shell holds the old file open as long as its command runs: what it writes minutes later is in the new file, and then
    nothing lies about."""
    journal = place.journal()
    with open(place.daily, "ab", buffering=0) as held:
        journal.compact(LIMIT, place.memory_file)
        held.write(b"begun, ")
        journal.mend()
        held.write(b"and ended\nlast words")
        place.clock.now += 60
        journal.mend()
        assert place.daily.read_text().endswith("reco\nbegun, and ended\n")
        place.clock.now += 61
        journal.mend()
    assert place.daily.read_text().endswith("begun, and ended\nlast words\n")
    assert not list(place.root.rglob(".*.old"))


def test_an_editor_that_wins_the_race_keeps_its_version(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is rewritten while its replacement is made is read again; one rewritten in the very moment is kept beside."""
    journal = place.journal()
    real = durable.replace

    def edit(path: Path, data: bytes, **more: Any) -> bool:
        if path == place.memory_file and "Tom" in path.read_text():
            path.write_text("# What I know\n\nThe cat is called Tim.\n")
        return real(path, data, **more)

    monkeypatch.setattr(durable, "replace", edit)
    findings = journal.compact(LIMIT, place.memory_file)
    assert place.memory_file.read_text().startswith("# What I know\n\nThe cat is called Tim.\n\n## 2026")
    assert all(finding.ok for finding in findings)


def test_a_version_that_cannot_be_told_apart_is_kept_beside(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody rewrites the old file between comparing and renaming, both versions are there, and a person is told."""
    rename = os.rename

    def late(old: Any, new: Any) -> None:
        if Path(new) == place.memory_file:
            place.memory_file.write_text("My own words.\n")
        rename(old, new)

    monkeypatch.setattr(os, "rename", late)
    findings = place.journal().compact(LIMIT, place.memory_file)
    monkeypatch.undo()
    other = next(place.root.glob("MEMORY.other-*.md"))
    assert other.read_text() == "My own words.\n"
    assert "The cat is called Tom." in place.memory_file.read_text()
    assert [finding.ok for finding in findings] == [True, False]
    assert re.search(r"MEMORY\.other-\d+\.md", findings[1].line())
