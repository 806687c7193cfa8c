"""The journal: what survives in the daily files, whoever else writes there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support.clock import FixedClock

from outlast.core.record import Damaged, Step
from outlast.errors import DurabilityError
from outlast.store import durable
from outlast.store.journal import Journal

NOON = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))


def test_records_come_back_in_order_over_days_and_restarts(tmp_path: Path) -> None:
    """What was appended on three days by three runs comes back once, in order, without gaps."""
    clock = FixedClock(NOON)
    for day in range(3):
        clock.now = NOON + day * 86_400
        journal = Journal(tmp_path, "coz", clock)
        for number in range(4):
            journal.append(Step.NOTE, "unit", f"day {day} number {number}")
        journal.close()
    assert [record.seq for record in Journal(tmp_path, "coz", clock).since(0)] == list(range(1, 13))
    assert [record.seq for record in Journal(tmp_path, "coz", clock).since(7)] == list(range(8, 13))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2026-11-21.md", "2026-11-22.md", "2026-11-23.md"]


def test_a_torn_line_is_closed_and_passed_over(tmp_path: Path) -> None:
    """A record that a crash cut short costs only itself: the next one starts on a line of its own."""
    clock = FixedClock(NOON)
    journal = Journal(tmp_path, "coz", clock)
    journal.append(Step.NOTE, "unit", "whole")
    journal.append(Step.NOTE, "unit", "torn")
    journal.close()
    path = tmp_path / "2026-11-21.md"
    os.truncate(path, path.stat().st_size - 7)
    again = Journal(tmp_path, "coz", clock)
    again.append(Step.NOTE, "unit", "after")
    assert [record.what for record in again.since(0)] == ["whole", "after"]
    assert "torn" in path.read_text()


def test_people_write_between_the_records(tmp_path: Path) -> None:
    """Lines of people and of other agents are kept to the byte, and are no records of ours."""
    clock = FixedClock(NOON)
    journal = Journal(tmp_path, "coz", clock)
    journal.append(Step.NOTE, "unit", "one")
    path = tmp_path / "2026-11-21.md"
    mine = "Remember the milk\n- 12:00:00 NOTE not a record\n- 12:00:00 NOTE unit x [axiom:9 00000000]\nno line end"
    with open(path, "a") as file:
        file.write(mine)
    journal.close()
    journal.append(Step.NOTE, "unit", "two")
    assert mine in path.read_text()
    assert [record.what for record in journal.since(0)] == ["one", "two"]


def test_an_edited_record_is_noticed(tmp_path: Path) -> None:
    """A record whose text was changed, or that was moved to another day, is reported as damaged."""
    clock = FixedClock(NOON)
    journal = Journal(tmp_path, "coz", clock)
    journal.append(Step.NOTE, "unit", "paid 10 euro")
    path = tmp_path / "2026-11-21.md"
    path.write_text(path.read_text().replace("10 euro", "99 euro"))
    damaged: list[Damaged] = []
    assert list(journal.since(0, damaged.append)) == []
    assert "99 euro" in damaged[0].line
    path.write_text(path.read_text().replace("99 euro", "10 euro"))
    path.rename(tmp_path / "2026-11-20.md")
    assert list(journal.since(0, damaged.append)) == []
    assert len(damaged) == 2


def test_after_a_failed_write_the_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An fsync that fails makes the append fail; the number is not given out twice for different records."""
    clock = FixedClock(NOON)
    journal = Journal(tmp_path, "coz", clock)
    journal.append(Step.NOTE, "unit", "one")

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "fsync_file", broken)
        with pytest.raises(DurabilityError):
            journal.append(Step.NOTE, "unit", "lost or not")
    journal.append(Step.NOTE, "unit", "three")
    numbers = [record.seq for record in journal.since(0)]
    assert numbers == sorted(set(numbers))


def test_the_order_of_records_is_that_of_their_numbers(tmp_path: Path) -> None:
    """A clock that is set back, or a machine that travels west, loses no record: days are read by number, not by name."""
    clock = FixedClock(NOON)
    journal = Journal(tmp_path, "coz", clock)
    for jump in (0, 365, 1, 0, 2):
        clock.now = NOON + jump * 86_400
        journal.append(Step.NOTE, "unit", f"{jump} days on")
        journal.append(Step.NOTE, "unit", f"{jump} days on")
    for seq in range(11):
        assert [record.seq for record in Journal(tmp_path, "coz", clock).since(seq)] == list(range(seq + 1, 11))
    again = Journal(tmp_path, "coz", clock)
    assert again.append(Step.NOTE, "unit", "next").seq == 11


def test_a_folder_where_a_day_should_be_is_passed_over(tmp_path: Path) -> None:
    """Something else than a file under a day's name does not keep the journal from being read."""
    (tmp_path / "2026-01-01.md").mkdir()
    journal = Journal(tmp_path, "coz", FixedClock(NOON))
    journal.append(Step.NOTE, "unit", "one")
    assert [record.what for record in journal.since(0)] == ["one"]
