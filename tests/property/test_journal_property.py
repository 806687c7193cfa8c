"""The journal under everything at once: clocks that jump, others who write, disks that fail, restarts, compaction."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.clock import FixedClock

from outlast.core.days import Look, join, missing
from outlast.core.record import Damaged, Record, Step, format_record, is_torn, one_line, parse_day, parse_line
from outlast.errors import DurabilityError
from outlast.store import durable
from outlast.store.journal import Journal

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True)
TEXT = st.text(max_size=200)
DAY = 86_400

STEPS = st.one_of(
    st.tuples(st.just("append"), TEXT),
    st.tuples(st.just("commit"), st.integers(1, 5)),
    # Hours, days, and whatever a broken clock says; 2026-03-29 and 2026-10-25 have 23 and 25 hours in Berlin.
    st.tuples(st.just("jump"), st.integers(-3 * DAY, 3 * DAY)),
    st.tuples(st.just("at"), st.sampled_from(["2026-03-29 01:59:58", "2026-10-25 02:59:58", "2026-12-31 23:59:59"])),
    st.tuples(st.just("restart"), st.booleans()),
    st.tuples(st.just("agent"), st.sampled_from(["a line\n", "torn", "- 12:00:00 NOTE x y\n", "\r", "\0"])),
    st.tuples(st.just("take"), st.integers(0, 6)),
    st.tuples(st.just("rename"), st.integers(0, 6)),
    st.tuples(st.just("cut"), st.integers(1, 400)),
    st.tuples(st.just("fail"), st.sampled_from(["write", "half", "sync"])),
    st.tuples(st.just("compact"), st.none()),
    st.tuples(st.just("mend"), st.none()),
)


class World:
    """A journal, and all that happens to it; ``acknowledged`` is what somebody was told is there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = FixedClock(1_775_000_000.0)
        self.told: list[Record] = []
        self.acknowledged: list[Record] = []
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.root / "memory", "coz", self.clock, self.told.append)

    def path(self) -> Path | None:
        return self.journal._file.path if self.journal._file and self.journal._file.path.exists() else None

    def append(self, text: str) -> None:
        self.acknowledged.append(self.journal.append(Step.NOTE, "unit", text))

    def commit(self, count: int) -> None:
        async def all_of_them() -> list[Record]:
            return await asyncio.gather(*(self.journal.commit(Step.NOTE, "unit", str(n)) for n in range(count)))

        self.acknowledged += asyncio.run(all_of_them())

    def jump(self, seconds: int) -> None:
        self.clock.now += seconds

    def at(self, moment: str) -> None:
        self.clock.now = time.mktime(time.strptime(moment, "%Y-%m-%d %H:%M:%S")) + 0.5

    def restart(self, known: bool) -> None:
        self.journal.mend()
        self.journal.close()
        # What a failed write left is in the files: whoever starts reads it there.
        on_disk = list(self.journal.since(0))
        self.told += [record for record in on_disk if record not in self.told]
        self.open()
        if known:
            self.journal.known(max((record.seq for record in on_disk), default=0))

    def agent(self, text: str) -> None:
        if path := self.path():
            with open(path, "ab") as file:
                file.write(text.encode())

    def take(self, which: int) -> None:
        """Rewrite the file without some of the lines that this process wrote."""
        if path := self.path():
            gone = set(list(self.journal._own)[which::3])
            path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(True) if line not in gone))

    def rename(self, which: int) -> None:
        if path := self.path():
            path.with_suffix(".new").write_bytes(path.read_bytes())
            path.with_suffix(".new").rename(path)
            self.take(which)

    def cut(self, length: int) -> None:
        """Truncate the file, as far as only what this process wrote since it opened it is lost."""
        if path := self.path():
            own = sum(map(len, self.journal._own))
            content = path.read_bytes()
            tail = content[max(0, len(content) - own) :]
            if tail == b"".join(self.journal._own):
                os.truncate(path, len(content) - min(length, len(tail)))

    def fail(self, how: str) -> None:
        def broken(*_: object) -> None:
            raise OSError(5, "Input/output error")

        def half(fd: int, data: bytes) -> None:
            os.write(fd, data[: len(data) // 2])
            raise OSError(28, "No space left on device")

        names = {"write": {"write_all": broken}, "half": {"write_all": half}}
        patches = names.get(how, {"fsync_data": broken, "fsync_file": broken})
        with mock.patch.multiple(durable, **patches):
            try:
                self.append("fails")
            except DurabilityError:
                pass

    def compact(self, _: None) -> None:
        self.journal.compact(400, self.root / "MEMORY.md")

    def mend(self, _: None) -> None:
        self.journal.mend()


def berlin() -> mock._patch_dict:
    """A node's own zone with summer time."""
    return mock.patch.dict(os.environ, {"TZ": "CET-1CEST,M3.5.0,M10.5.0/3"})


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=25))
@example([("commit", 2), ("take", 0), ("fail", "half")])
def test_every_acknowledged_record_is_there_once(steps: list[tuple[str, object]]) -> None:
    """Whatever the clock does, whoever rewrites the file, whenever the disk fails or the process starts again: every record
    that was acknowledged is yielded once, as it was, in the order of the numbers; nothing is told that is not there, or twice;
    no number is missing."""
    with TemporaryDirectory() as folder, berlin():
        time.tzset()
        world = World(Path(folder))
        for name, value in steps:
            getattr(world, name)(value)
        world.journal.mend()
        found = list(world.journal.since(0))
        numbers = [record.seq for record in found]
        assert numbers == list(range(1, len(found) + 1))
        assert [record for record in found if record in world.acknowledged] == world.acknowledged
        assert world.told == found
        for seq in (1, len(found) // 2, len(found)):
            assert list(Journal(world.root / "memory", "coz", world.clock).since(seq)) == found[seq:]
        look = world.journal.look(world.root / "days.json")
        assert look.gaps == ()
        for seq in (1, len(found) // 2, len(found)):
            assert list(world.journal.since(seq)) == found[seq:]
        assert world.journal.append(Step.NOTE, "unit", "next").seq == len(found) + 1
    time.tzset()


@given(NAMES, st.sampled_from(Step), NAMES, TEXT, st.integers(1, 10**9), TEXT, TEXT)
def test_records_are_found_among_any_text(
    agent: str, step: Step, unit: str, what: str, seq: int, before: str, after: str
) -> None:
    """A record is read back as it was, whatever stands on the lines around it; a line alone and a whole day agree; a record
    with anything changed is none."""
    record = Record("2026-11-21", "23:59:59", step, unit, one_line(what) or "-", agent, seq)
    line = format_record(record)
    text = f"{before}\n{line}\n{after}\n"
    assert [one for one in parse_day("2026-11-21", text) if isinstance(one, Record)] == [record]
    assert parse_line("2026-11-21", line) == record
    assert parse_line("2026-11-22", line) == Damaged("2026-11-22", line, seq)
    assert not is_torn(line, agent)


@given(NAMES, st.sampled_from(Step), TEXT, st.integers(1, 10**9), st.data())
def test_wherever_a_record_is_cut_it_is_known_as_torn(
    agent: str, step: Step, what: str, seq: int, data: st.DataObject
) -> None:
    """A line that was cut anywhere after the first letter of its step is a torn record of ours."""
    line = format_record(Record("2026-11-21", "23:59:59", step, "unit", one_line(what) or "-", agent, seq))
    cut = data.draw(st.integers(len("- 23:59:59 ") + 1, len(line) - 1))
    assert is_torn(line[:cut], agent)
    assert parse_line("2026-11-21", line[:cut]) is None


@given(st.lists(st.sets(st.integers(1, 60)), max_size=5))
def test_what_is_missing_is_exactly_what_no_day_has(days: list[set[int]]) -> None:
    """Gaps and records together are all the numbers up to the highest."""
    held = set().union(*days)
    gaps = missing([(f"2026-11-{day:02}", join(numbers)) for day, numbers in enumerate(days, 10)])
    lost = {number for gap in gaps for number in range(gap.first, gap.last + 1)}
    assert lost | held == set(range(1, max(held, default=0) + 1))
    assert not lost & held


def test_a_fresh_journal_has_no_findings(tmp_path: Path) -> None:
    """Nothing is missing where nothing was written."""
    assert Journal(tmp_path / "memory", "coz", FixedClock(0)).look(tmp_path / "days.json") == Look()
