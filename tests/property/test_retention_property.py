"""Logs stay within their budget, whatever was written over however many days, and the newest are what is kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.cleaning import Disk, Limits, Seen, Thing, plan
from outlast.core.retention import expired, purged, share_of

DAY = 86400.0
BUDGET, KEEP, PACK_AFTER, TRASH_KEEP = 16_000, 30 * DAY, 7 * DAY, 10 * DAY
LIMITS = Limits(PACK_AFTER, 1e9, 1 << 40, TRASH_KEEP, 0, 15.0, 5.0, logs_keep=KEEP, logs_budget=BUDGET)
KINDS = {"": "events", "metrics-": "metrics", "traces/": "spans"}


@dataclass
class Node:
    """What lies on a disk: logs by name with day, size and what packing leaves of them; the trash by when it came there."""

    day: int = 0
    logs: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    trash: dict[str, tuple[int, int]] = field(default_factory=dict)

    def write(self, kind: str, size: int, packed: int) -> None:
        self.logs[f"{kind}{self.day:05}.jsonl"] = (self.day, size, min(packed, size))

    def tidy(self, *, low: bool = False) -> list[str]:
        """Plan and do it, as work.cleaning does; returns the names that went to the trash."""
        went = []
        for _ in range(4):
            past = [
                Thing(name, size, (self.day - day) * DAY)
                for name, (day, size, _) in self.logs.items()
                if day < self.day
            ]
            logs = tuple(thing for thing in past if not thing.name.endswith(".gz"))
            old = tuple(Thing(name, size, (self.day - day) * DAY) for name, (day, size) in self.trash.items())
            seen = Seen(Disk(100, 10.0 if low else 50.0), logs=logs, past=tuple(past), purged=old)
            for step in plan(seen, LIMITS, empty_trash=False, backed_up=lambda _: False).steps:
                if step.kind == "expired log":
                    _, size, _ = self.logs.pop(step.name)
                    self.trash[step.name] = (self.day, size)
                    went.append(step.name)
                elif step.kind == "old log":
                    del self.trash[step.name]
                elif step.kind == "log":
                    day, _, packed = self.logs.pop(step.name)
                    self.logs[f"{step.name}.gz"] = (day, packed, packed)
        return went

    def bytes(self) -> int:
        return sum(size for _, size, _ in self.logs.values())


DAYS = st.lists(
    st.tuples(st.integers(1, 4), st.tuples(*[st.tuples(st.floats(0, 1), st.floats(0.01, 1)) for _ in KINDS])),
    max_size=60,
)


@settings(max_examples=150)
@given(DAYS)
def test_the_budget_is_never_exceeded_and_the_newest_is_kept(
    days: list[tuple[int, tuple[tuple[float, float], ...]]],
) -> None:
    """Over months of days that fill their shares, and pack well or not at all: tidied up, all is within the budget with what
    today may still write; what went is older than what stayed, but for time; the trash has a bound of its own."""
    node = Node()
    for skipped, written in days:
        node.day += skipped
        went = node.tidy()
        left = {name: (day, size) for name, (day, size, _) in node.logs.items()}
        assert node.bytes() <= BUDGET // 2
        assert sum(size for _, size in node.trash.values()) <= BUDGET // 2
        assert all(node.day - day <= KEEP / DAY for day, _ in left.values())
        assert all(node.day - day <= TRASH_KEEP / DAY for day, _ in node.trash.values())
        if went and left:
            newest_gone = max(int(name.split("/")[-1].removeprefix("metrics-")[:5]) for name in went)
            assert newest_gone <= max(day for day, _ in left.values())
        for (prefix, what), (share, packs) in zip(KINDS.items(), written, strict=True):
            size = int(share * share_of(BUDGET, what))  # type: ignore[arg-type]
            node.write(prefix, size, max(1, int(packs * size)))
        assert node.bytes() <= BUDGET


@given(DAYS)
def test_days_are_kept_for_as_long_as_they_fit(days: list[tuple[int, tuple[tuple[float, float], ...]]]) -> None:
    """Nothing goes for the budget's sake while what is counted fits."""
    things = [
        Thing(f"{number:05}.jsonl.gz", int(100 * one[0][0]), number * DAY) for number, (_, one) in enumerate(days, 1)
    ]
    total = sum(thing.size for thing in things)
    assert expired(things, 1000 * DAY, max(2 * total, 2)) == []


def test_what_goes_is_not_packed_first() -> None:
    """A log past its time that was never packed, as on a node that was off for months, has one step: it goes."""
    old, young = Thing("old.jsonl", 500, 40 * DAY), Thing("young.jsonl", 500, 9 * DAY)
    seen = Seen(Disk(100, 50.0), logs=(old, young), past=(old, young))
    steps = plan(seen, LIMITS, empty_trash=False, backed_up=lambda _: False).steps
    assert [(step.kind, step.name) for step in steps] == [("expired log", "old.jsonl"), ("log", "young.jsonl")]


THINGS = st.lists(
    st.builds(
        Thing,
        name=st.integers(0, 10**6).map(lambda number: f"{number}.jsonl.gz"),
        size=st.integers(0, 1000),
        age=st.floats(0, 400 * DAY),
        stays=st.sampled_from(["", "", "protected"]),
    ),
    max_size=12,
    unique_by=lambda thing: thing.name,
)


@given(THINGS, st.floats(0, 100 * DAY), st.integers(1, 8000))
def test_what_must_stay_stays_and_the_oldest_goes_first(things: list[Thing], keep: float, budget: int) -> None:
    """Nothing protected goes; of what may go, whatever stays is younger than whatever goes."""
    gone = expired(things, keep, budget)
    assert not any(thing.stays for thing in gone)
    stayed = [thing for thing in things if thing not in gone and not thing.stays]
    assert all(one.age >= other.age for one in gone for other in stayed)
    assert all(thing.age <= keep for thing in stayed)


@given(THINGS)
def test_a_low_disk_empties_what_is_only_logs(things: list[Thing]) -> None:
    """While the disk is low no log is kept in the trash."""
    assert len(purged(things, 1e12, 1 << 60, low=True)) == len(things)


@given(st.integers(1, 1 << 40))
def test_the_shares_of_a_day_are_half_the_budget(budget: int) -> None:
    """What one day may write at most, all files together, and what past days may keep, is the budget."""
    assert sum(share_of(budget, what) for what in ("events", "spans", "metrics")) <= budget - budget // 2
