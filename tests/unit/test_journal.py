"""The journal: what survives in the daily files, whoever else writes there."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.clock import FixedClock

from outlast.core.record import Damaged, Record, Step
from outlast.errors import DurabilityError
from outlast.store import durable
from outlast.store.appendfile import AppendFile
from outlast.store.journal import Journal

NOON = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))


def failing(_: int) -> None:
    """An fsync on a broken disk."""
    raise OSError(5, "Input/output error")


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


def test_what_a_failed_write_left_is_written_again_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An fsync that fails makes the append fail. What of it is in the file after all is made durable before anything else, is
    told then, and its number is not given out twice."""
    told: list[str] = []
    journal = Journal(tmp_path, "coz", FixedClock(NOON), lambda record: told.append(record.what))
    journal.append(Step.NOTE, "unit", "one")
    with monkeypatch.context() as patch:
        patch.setattr(durable, "fsync_data", failing)
        patch.setattr(durable, "fsync_file", failing)
        for _ in range(2):
            with pytest.raises(DurabilityError):
                journal.append(Step.NOTE, "unit", "lost or not")
    assert told == ["one"]
    journal.append(Step.NOTE, "unit", "three")
    assert [(record.seq, record.what) for record in journal.since(0)] == [(1, "one"), (2, "lost or not"), (3, "three")]
    assert told == ["one", "lost or not", "three"]
    lines = (tmp_path / "2026-11-21.md").read_bytes().split(b"\n")
    assert sum(b"lost or not" in line for line in lines) == 3, "once a failure, once for good"


def test_what_a_failed_write_did_not_leave_was_never_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full takes half a line: it is closed, reported, and its number goes to the next record."""
    told: list[str] = []
    journal = Journal(tmp_path, "coz", FixedClock(NOON), lambda record: told.append(record.what))
    journal.append(Step.NOTE, "unit", "one")

    def full(fd: int, data: bytes) -> None:
        os.write(fd, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_all", full)
        with pytest.raises(DurabilityError, match="No space left"):
            journal.append(Step.NOTE, "unit", "did not fit")
    journal.append(Step.NOTE, "unit", "two")
    assert [(record.seq, record.what) for record in journal.since(0)] == [(1, "one"), (2, "two")]
    assert told == ["one", "two"]
    assert len(journal.look(tmp_path / "days.json").torn) == 1


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


def test_what_comes_in_one_turn_shares_one_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty-two writers cost one write and one fsync; each is answered with its own record, in order, when it is durable."""
    told: list[int] = []
    journal = Journal(tmp_path, "coz", FixedClock(NOON), lambda record: told.append(record.seq))
    journal.append(Step.NOTE, "unit", "opens the day")
    synced: list[int] = []
    real = durable.fsync_data
    monkeypatch.setattr(durable, "fsync_data", lambda fd: (synced.append(len(told)), real(fd)))

    async def writers() -> list[Record]:
        return await asyncio.gather(*(journal.commit(Step.NOTE, "unit", f"number {n}") for n in range(32)))

    records = asyncio.run(writers())
    assert [record.what for record in records] == [f"number {n}" for n in range(32)]
    assert [record.seq for record in records] == list(range(2, 34))
    assert synced == [1], "one fsync, before anybody is told"
    assert told == list(range(1, 34))
    assert list(journal.since(1)) == records


def test_an_append_takes_along_what_waits(tmp_path: Path) -> None:
    """A record that must be there at once goes with those that came before it, and after them."""
    journal = Journal(tmp_path, "coz", FixedClock(NOON))

    async def both() -> tuple[Record, Record]:
        waiting = asyncio.ensure_future(journal.commit(Step.NOTE, "unit", "waits"))
        await asyncio.sleep(0)
        now = journal.append(Step.NOTE, "unit", "now")
        return await waiting, now

    waited, now = asyncio.run(both())
    assert (waited.seq, now.seq) == (1, 2)
    assert [record.what for record in journal.since(0)] == ["waits", "now"]


def test_when_the_flush_fails_all_who_wait_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is answered, nothing is applied; the journal works again in the same loop and in the next one."""
    told: list[str] = []
    journal = Journal(tmp_path, "coz", FixedClock(NOON), lambda record: told.append(record.what))
    journal.append(Step.NOTE, "unit", "first")

    def full(fd: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    async def scene() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(durable, "write_all", full)
            commits = [journal.commit(Step.NOTE, "unit", f"lost {n}") for n in range(5)]
            failed = await asyncio.gather(*commits, return_exceptions=True)
        assert all(isinstance(error, DurabilityError) for error in failed)
        assert (await journal.commit(Step.NOTE, "unit", "second")).seq == 2

    async def ends_before_its_turn() -> None:
        asyncio.ensure_future(journal.commit(Step.NOTE, "unit", "nobody waits for it"))
        await asyncio.sleep(0)
        asyncio.get_running_loop().stop()

    asyncio.run(scene())
    with pytest.raises(RuntimeError):
        asyncio.run(ends_before_its_turn())
    assert asyncio.run(asyncio.wait_for(journal.commit(Step.NOTE, "unit", "third"), 5)).what == "third"
    assert [record.what for record in journal.since(0)] == told
    assert told[:2] == ["first", "second"] and told[-1] == "third"


def sed(path: Path) -> None:
    subprocess.run(["sed", "-i", "/record [0-6]/d", str(path)], check=True)


def in_place(path: Path) -> None:
    kept = [line for line in path.read_text().splitlines(keepends=True) if "record 9" not in line]
    path.write_text("".join(kept) + "an agent's own line\n")


def renamed_over(path: Path) -> None:
    path.with_suffix(".new").write_text("# All new\n\nno line's end")
    path.with_suffix(".new").rename(path)


def edited(path: Path) -> None:
    path.write_text(path.read_text().replace("record 3", "record 4 and more"))


@pytest.mark.parametrize(
    "rewrite", [sed, in_place, renamed_over, edited, lambda path: os.truncate(path, 300), Path.unlink]
)
@pytest.mark.parametrize("by", ["append", "mend"])
def test_what_a_rewrite_took_away_is_put_back(tmp_path: Path, rewrite: Callable[[Path], None], by: str) -> None:
    """Whoever rewrites the file of the open day takes no record away for long; what they wrote stays. The file's end tells
    the highest number, so that days can be passed over without reading them."""
    journal = Journal(tmp_path, "coz", FixedClock(NOON))
    records = [journal.append(Step.NOTE, "unit", f"record {n}") for n in range(10)]
    path = tmp_path / "2026-11-21.md"
    assert journal.mend() == 0
    rewrite(path)
    before = path.read_bytes() if path.exists() else b""
    if by == "append":
        records.append(journal.append(Step.NOTE, "unit", "later"))
    else:
        assert journal.mend() > 0
    assert list(journal.since(0)) == records
    assert list(Journal(tmp_path, "coz", FixedClock(NOON)).since(records[-2].seq)) == records[-1:]
    assert path.read_bytes().startswith(before)
    assert journal.mend() == 0


def test_what_others_append_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking whether records are still there does not read a file that only grew."""
    journal = Journal(tmp_path, "coz", FixedClock(NOON))
    journal.append(Step.NOTE, "unit", "one")
    with open(tmp_path / "2026-11-21.md", "a") as file:
        file.write("an agent's own line\n" * 100)
    monkeypatch.setattr(AppendFile, "read", lambda _: pytest.fail("it was read"))
    assert journal.mend() == 0
    journal.append(Step.NOTE, "unit", "two")


def test_memory_for_mending_is_bounded(tmp_path: Path) -> None:
    """However many records a day has, a quarter of a megabyte of them is kept in memory."""
    journal = Journal(tmp_path, "coz", FixedClock(NOON))

    async def many() -> None:
        await asyncio.gather(*(journal.commit(Step.NOTE, "unit", "x" * 160) for _ in range(3000)))

    asyncio.run(many())
    assert 200 * 1024 < sum(map(len, journal._own)) <= 256 * 1024
    journal.append(Step.NOTE, "unit", "last")
    os.truncate(tmp_path / "2026-11-21.md", 100_000)
    assert journal.mend() > 1000
    assert max(record.seq for record in journal.since(0)) == 3001


def test_a_number_that_no_int_can_be_made_of_is_text(tmp_path: Path) -> None:
    """A line with a number of ten thousand digits is nobody's record, and does not keep a node from starting."""
    (tmp_path / "2026-11-21.md").write_text(f"- 12:00:00 NOTE unit x [coz:{'9' * 10_000} 00000000]\n")
    journal = Journal(tmp_path, "coz", FixedClock(NOON))
    assert journal.append(Step.NOTE, "unit", "one").seq == 1


def test_real_editors_take_no_acknowledged_record_away(tmp_path: Path) -> None:
    """While a real `sed -i` and a real shell tear lines and rewrite the file again and again, every record that was acknowledged
    is there in the end, once."""
    journal = Journal(tmp_path, "coz", FixedClock(NOON))
    journal.append(Step.NOTE, "unit", "first")
    stop = tmp_path / "stop"
    script = 'until [ -e "$2" ]; do printf "a line" >> "$1"; printf " and more\\n" >> "$1"; sed -i "/record [0-9]*3 /d" "$1"; sleep 0.01; done'
    words = ["sh", "-c", script, "sh", tmp_path / "2026-11-21.md", stop]
    editor = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 1
        # The journal knows its newest 256 KiB by heart: on a fast disk a second writes more.
        while time.monotonic() < until and journal.seq < 2000:
            journal.append(Step.NOTE, "unit", f"record {journal.seq} is here")
    finally:
        stop.touch()
        assert editor.wait(20) == 0
    journal.mend()
    found = list(journal.since(0))
    assert [record.seq for record in found] == list(range(1, journal.seq + 1))
    assert len(found) > 20


def test_real_appenders_lose_no_line_to_compaction(tmp_path: Path) -> None:
    """While the day is compacted again and again, other processes append to it, one of them by a file that it holds open all
    the time, whose lines stay in their order: their lines and our records are all there, once."""
    clock = FixedClock(NOON)
    journal = Journal(tmp_path / "memory", "coz", clock)
    journal.append(Step.NOTE, "unit", "first")
    path = tmp_path / "memory" / "2026-11-21.md"
    one = 'i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo "one $i" >> "$1"; done'
    two = '(i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo "two $i"; sleep 0.001; done) >> "$1"'
    agents = [subprocess.Popen(["sh", "-c", script, "sh", path]) for script in (one, two)]
    parts = 0
    while any(agent.poll() is None for agent in agents):
        for _ in range(5):
            journal.append(Step.NOTE, "unit", "x" * 150)
        parts += len([finding for finding in journal.compact(3000, tmp_path / "MEMORY.md") if finding.ok])
        assert parts < 1000
    clock.now += 3600
    journal.mend()
    assert [agent.returncode for agent in agents] == [0, 0]
    assert [record.seq for record in journal.since(0)] == list(range(1, journal.seq + 1))
    lines = path.read_text().splitlines()
    opened_anew, held = ([line for line in lines if line.startswith(f"{who} ")] for who in ("one", "two"))
    assert sorted(opened_anew) == sorted(f"one {n}" for n in range(1, 301))
    assert held == [f"two {n}" for n in range(1, 301)]
    assert parts > 0
