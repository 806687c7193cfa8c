"""Looking at the journal as a whole: what is missing, torn, damaged or edited, and what need not be read."""

from __future__ import annotations

import contextlib
import gzip
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clock import FixedClock

from outlast.core.days import Look, Missing
from outlast.core.record import Record, Step, format_record
from outlast.store import git
from outlast.store.journal import Journal

NOON = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))


def written(folder: Path, days: int, a_day: int) -> Journal:
    """A journal with so many days of so many records, closed since long."""
    clock = FixedClock(NOON)
    journal = Journal(folder / "memory", "coz", clock)
    for day in range(days):
        clock.now = NOON + day * 86_400
        for number in range(a_day):
            journal.append(Step.NOTE, "unit", f"day {day} number {number}")
    at_rest(folder)
    return journal


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[list[str]]:
    """The files of this folder that are opened meanwhile, as the interpreter itself sees it."""
    paths, listens = list[str](), True

    def hear(event: str, args: tuple[object, ...]) -> None:
        if listens and event == "open" and str(args[0]).startswith(f"{folder}/"):
            paths.append(str(args[0]))

    # A hook cannot be taken out again, so it goes deaf.
    sys.addaudithook(hear)
    try:
        yield paths
    finally:
        listens = False


def at_rest(folder: Path) -> None:
    """As if nobody had written for an hour."""
    for path in folder.rglob("*.md*"):
        os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 3_600_000_000_000))


def test_nothing_is_found_where_nothing_happened(tmp_path: Path) -> None:
    """A journal that only we and agents appended to has no findings, the first time and later; what agents append is theirs."""
    journal = written(tmp_path, 3, 4)
    cache = tmp_path / "days.json"
    assert journal.look(cache) == Look()
    with open(tmp_path / "memory" / "2026-11-22.md", "a") as file:
        file.write("Remember the milk.\n- 12:00 call the bank\n- 12:00:00 I woke up\n")
    assert journal.look(cache) == journal.look(cache, full=True) == Look()


def test_a_gap_is_told_with_its_days(tmp_path: Path) -> None:
    """Records that no file holds are missing, wherever in the row: at its beginning, within, over days, and at its end."""
    journal = written(tmp_path, 3, 4)
    for day in ("2026-11-21", "2026-11-22"):
        path = tmp_path / "memory" / f"{day}.md"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([*lines[:2], *lines[4:6]] if day.endswith("21") else [*lines[:2], *lines[5:]]))
    journal.known(14)
    gaps = journal.look(tmp_path / "days.json").gaps
    assert gaps == (
        Missing(1, 2, ("2026-11-21",)),
        Missing(5, 7, ("2026-11-21", "2026-11-22")),
        Missing(13, 14, ("2026-11-23",)),
    )
    (tmp_path / "memory" / "2026-11-21.md").unlink()
    assert journal.look(tmp_path / "days.json").gaps[0] == Missing(1, 7, ("2026-11-22",))


def test_a_clock_that_was_set_back_makes_no_gap(tmp_path: Path) -> None:
    """Numbers are compared over all days: later numbers in earlier days are fine."""
    clock = FixedClock(NOON)
    journal = Journal(tmp_path, "coz", clock)
    for jump in (0, 3, 1, 3, 0, -2):
        clock.now = NOON + jump * 86_400
        journal.append(Step.NOTE, "unit", f"{jump} days on")
    assert journal.look(tmp_path / "days.json") == Look()


def test_what_people_edit_is_told_once_and_kept(tmp_path: Path) -> None:
    """A day that was changed between the records is told the next time, and then no more; the records are whole."""
    journal = written(tmp_path, 3, 4)
    cache = tmp_path / "days.json"
    journal.look(cache)
    path = tmp_path / "memory" / "2026-11-22.md"
    path.write_text(path.read_text().replace("\n- ", "\nThis is what I meant:\n- ", 1))
    assert journal.look(cache) == Look(edited=("2026-11-22",))
    assert journal.look(cache) == Look()
    assert len(list(journal.since(0))) == 12


def test_torn_and_damaged_lines_are_told_once(tmp_path: Path) -> None:
    """A record that was cut, zeros that a crash left, and a record that was changed, are told once, and again when all is asked
    for. Where they leave a number without a record, that is a gap as well."""
    journal = written(tmp_path, 2, 4)
    path = tmp_path / "memory" / "2026-11-22.md"
    data = path.read_text().replace("day 1 number 1", "day 1 number 7")
    path.write_text(data + "- 12:00:00 CONFIRM coz-1m5q8 do\nSo much for that.\n- 12:00:00 INT\n\0\0\0\0\nmine")
    cache = tmp_path / "days.json"
    found = journal.look(cache)
    assert [one.line for one in found.torn] == ["- 12:00:00 CONFIRM coz-1m5q8 do", "- 12:00:00 INT", "\0\0\0\0"]
    assert [one.seq for one in found.damaged] == [6]
    assert found.gaps == (Missing(6, 6, ("2026-11-22",)),)
    journal.append(Step.NOTE, "unit", "the day changed since")
    again = journal.look(cache)
    assert (again.torn, again.damaged) == ((), ())
    assert again.gaps == found.gaps
    full = journal.look(cache, full=True)
    assert (full.torn, full.damaged) == (found.torn, found.damaged)


def test_a_copy_of_a_record_is_no_loss(tmp_path: Path) -> None:
    """An agent that quotes yesterday's record has damaged nothing, and a sibling's records are its own business."""
    journal = written(tmp_path, 2, 4)
    sibling = Record("2026-11-21", "12:00:00", Step.NOTE, "unit", "mine", "axiom", 99)
    with open(tmp_path / "memory" / "2026-11-22.md", "a") as file:
        file.write((tmp_path / "memory" / "2026-11-21.md").read_text())
        file.write(
            f"{format_record(sibling)}\n- 12:00:00 NOTE unit x [axiom:7 00000000]\n- 12:00:00 NOTE u y [axiom:8\n"
        )
    assert journal.look(tmp_path / "days.json") == Look()
    assert len(list(journal.since(0))) == 8


def test_only_what_changed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look reads the files that differ from what was remembered, `since` none that has nothing new; the cache may be lost."""
    journal = written(tmp_path, 5, 3)
    cache = tmp_path / "days.json"
    journal.look(cache)
    with open(tmp_path / "memory" / "2026-11-23.md", "a") as file:
        file.write("an agent's line\n")
    read: list[str] = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path.name), real(path))[1])
    journal.look(cache)
    assert [name for name in read if name != "days.json"] == ["2026-11-23.md"]
    read.clear()
    assert [record.seq for record in journal.since(12)] == [13, 14, 15]
    assert [name for name in read if name != "days.json"] == ["2026-11-25.md"]
    for damage in (b"", b"{}", b"\xff", b'{"agent":"axiom","files":{}}'):
        cache.write_bytes(damage)
        assert journal.look(cache) == Look()
        assert [record.seq for record in journal.since(12)] == [13, 14, 15]


def test_a_change_within_one_tick_is_seen(tmp_path: Path) -> None:
    """A file that was written a moment ago may change again with the same length and time: it is read the next time."""
    clock = FixedClock(NOON)
    journal = Journal(tmp_path / "memory", "coz", clock)
    journal.append(Step.NOTE, "unit", "paid 10 euro")
    journal.append(Step.NOTE, "unit", "thank you")
    path, cache = tmp_path / "memory" / "2026-11-21.md", tmp_path / "days.json"
    journal.look(cache)
    before = path.stat()
    path.write_text(path.read_text().replace("10 euro", "99 euro"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [one.seq for one in journal.look(cache).damaged] == [1]


def test_a_thousand_days_are_looked_at_without_reading_them(tmp_path: Path) -> None:
    """A start with 1 000 unchanged daily files costs one look at their names and times."""
    memory = tmp_path / "memory"
    memory.mkdir()
    for seq in range(1, 1001):
        day = time.strftime("%Y-%m-%d", time.localtime(NOON + seq * 86_400))
        record = Record(day, "12:00:00", Step.NOTE, "unit", "text", "coz", seq)
        (memory / f"{day}.md").write_text(f"# {day}\n\n{format_record(record)}\n")
    at_rest(tmp_path)
    journal = Journal(memory, "coz", FixedClock(NOON))
    cache = tmp_path / "days.json"
    assert journal.look(cache) == Look()
    written_at = cache.stat().st_mtime_ns

    def read(full: bool) -> int:
        with opened(memory) as paths:
            assert journal.look(cache, full=full) == Look()
        return len(paths)

    assert (read(full=False), read(full=True)) == (0, 1000)
    assert cache.stat().st_mtime_ns == written_at, "nothing changed, nothing is written"


def test_a_damaged_archive_is_told(tmp_path: Path) -> None:
    """An archive that cannot be unpacked is said, its records are missing, and the others are read."""
    journal = written(tmp_path, 2, 3)
    archive = tmp_path / "memory" / "archive"
    archive.mkdir()
    (archive / "2026-11-20.coz.1.md.gz").write_bytes(gzip.compress(b"x" * 1000)[:-12])
    said: list[str] = []
    assert len(list(journal.since(0, lambda one: said.append(one.line)))) == 6
    assert "2026-11-20.coz.1.md.gz is damaged" in said[0]
    assert "2026-11-20.coz.1.md.gz is damaged" in journal.look(tmp_path / "days.json").damaged[0].line


def repository(folder: Path) -> None:
    for words in (["init", "-q"], ["config", "user.email", "a@b.c"], ["config", "user.name", "a"]):
        subprocess.run(["git", *words], cwd=folder, check=True)


def commit(folder: Path) -> str:
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    subprocess.run(["git", "commit", "-qm", "state"], cwd=folder, check=True)
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_git_is_asked_where_a_record_may_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit that brought a record is named, also after a later one took it away; nothing in the repository changes, and
    what its configuration would have git run is not run."""
    memory = tmp_path / "memory"
    journal = written(tmp_path, 1, 3)
    assert git.holder(memory, "[coz:2 ", 10) == ""
    repository(tmp_path)
    first = commit(tmp_path)
    path = memory / "2026-11-21.md"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "[coz:2 " not in line))
    commit(tmp_path)
    ran = tmp_path / "ran"
    for key in ("gpg.program", "core.fsmonitor", "core.pager", "diff.external"):
        (tmp_path / "program").write_text(f"#!/bin/sh\ntouch {ran}\n")
        (tmp_path / "program").chmod(0o700)
        subprocess.run(["git", "config", key, str(tmp_path / "program")], cwd=tmp_path, check=True)
    subprocess.run(["git", "config", "log.showSignature", "true"], cwd=tmp_path, check=True)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git.holder(memory, "[coz:2 ", 10) == first
    assert git.holder(memory, "[coz:22 ", 10) == ""
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
    assert not ran.exists()
    assert journal.look(tmp_path / "days.json").gaps == (Missing(2, 2, ("2026-11-21",)),)


def test_git_that_is_missing_or_slow_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No git, no folder, or no answer in time: no commit is named, and nothing is raised."""
    (tmp_path / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "git").chmod(0o700)
    assert git.holder(tmp_path / "none", "x", 10) == ""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert git.holder(tmp_path, "x", 10) == ""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    begun = time.monotonic()
    assert git.holder(tmp_path, "x", 0.2) == ""
    assert time.monotonic() - begun < 10
