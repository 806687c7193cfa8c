"""Compaction of daily files, cut short at any call or raced by others: what it may cost, which is nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.longday import LIMIT, OWN, Place

from outlast.store import durable, rewrite


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Such a workspace."""
    place = Place(tmp_path / "workspace")
    place.fill()
    return place


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


def test_commands_that_hold_two_old_files_of_one_size_lose_nothing(tmp_path: Path) -> None:
    """A file is replaced twice when it is just as long, and a shell still holds each of the old ones: both are carried over."""
    path = tmp_path / "notes.md"
    path.write_bytes(b"one\n")
    first = path.open("ab", buffering=0)
    old = rewrite.rewrite(path, lambda _: b"two\n").left
    second = path.open("ab", buffering=0)
    newer = rewrite.rewrite(path, lambda _: b"three\n").left
    for number, shell in enumerate((first, second)):
        with shell:
            shell.write(b"from shell %d\n" % number)
    for left in (old, newer):
        assert left is not None
        rewrite.finish(left)
    assert path.read_text() == "three\nfrom shell 0\nfrom shell 1\n"
    assert os.listdir(tmp_path) == ["notes.md"]


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
