"""When jobs are due, against a reference that looks at the zone's clock in every minute; and what becomes of each cycle."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outlast.core.schedule import LATE_S, Schedule, Track, begun_with, takes_over, turn

ZONES = {name: ZoneInfo(name) for name in ("America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "UTC")}
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Line:
    """A cron line, and what it names."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    text: str

    def names(self, local: datetime) -> bool:
        return local.minute in self.minutes and local.hour in self.hours and local.isoweekday() % 7 in self.days


def _field(least: int, most: int) -> st.SearchStrategy[tuple[frozenset[int], str]]:
    """A field of a line: a star, steps, a range, or a list."""
    everything = range(least, most + 1)
    steps = st.integers(2, most).map(lambda step: (frozenset(everything[::step]), f"*/{step}"))
    ends = st.tuples(st.sampled_from(everything), st.sampled_from(everything)).map(sorted)
    ranges = ends.map(lambda pair: (frozenset(range(pair[0], pair[1] + 1)), f"{pair[0]}-{pair[1]}"))
    lists = st.frozensets(st.sampled_from(everything), min_size=1, max_size=4)
    return st.one_of(
        st.just((frozenset(everything), "*")), steps, ranges, lists.map(lambda some: (some, ",".join(map(str, some))))
    )


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """Any line that names minutes, hours and days of the week."""
    (minutes, first), (hours, second), (days, third) = draw(_field(0, 59)), draw(_field(0, 23)), draw(_field(0, 6))
    return Line(minutes, hours, days, f"{first} {second} * * {third}")


def _changes(zone: ZoneInfo) -> list[datetime]:
    """When the clocks of a zone change, from 2015 on, found by looking at each day, and then at each minute of it."""
    days = [datetime(2015, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(365 * 15)]
    found = [
        day for day, after in pairwise(days) if day.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset()
    ]
    minutes = [[day + _MINUTE * number for number in range(24 * 60 + 1)] for day in found]
    return [
        next(
            after
            for before, after in pairwise(day)
            if before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset()
        )
        for day in minutes
    ]


CHANGES = {name: _changes(zone) or [datetime(2024, 3, 1, 12, tzinfo=UTC)] for name, zone in ZONES.items()}


def _reference(line: Line, zone: ZoneInfo, begin: datetime, end: datetime) -> list[float]:
    """Every moment of a span at which a line is due, by looking at what the zone's clock shows in every minute."""
    minutes = [begin + _MINUTE * number for number in range(int((end - begin) / _MINUTE))]
    shown = [minute.astimezone(zone).replace(tzinfo=None, fold=0) for minute in minutes]
    if len(line.hours) == 24:
        return [minute.timestamp() for minute, local in zip(minutes, shown, strict=True) if line.names(local)]
    first: dict[datetime, datetime] = {}
    for minute, local in zip(minutes, shown, strict=True):
        first.setdefault(local, minute)
    due = {minute for local, minute in first.items() if line.names(local)}
    for (_, before), (after, local) in pairwise(zip(minutes, shown, strict=True)):
        skipped = before + _MINUTE
        while skipped < local:
            if line.names(skipped):
                due.add(after)
            skipped += _MINUTE
    return sorted(moment.timestamp() for moment in due)


@settings(max_examples=150, deadline=None)
@given(st.data(), lines(), st.sampled_from(sorted(ZONES)))
def test_every_moment_is_the_one_that_the_zone_s_clock_shows(data: st.DataObject, line: Line, name: str) -> None:
    """Around every change of the clock, from any moment on: the same as looking at each minute, in hours that come twice and
    in hours that never come."""
    zone, change = ZONES[name], data.draw(st.sampled_from(CHANGES[name]), "change")
    begin, end = change - timedelta(days=2), change + timedelta(days=2)
    expected = _reference(line, zone, begin - timedelta(days=1), end)
    near, far = st.integers(-7200, 7200), st.integers(-2 * 86400, 2 * 86400)
    after = change.timestamp() + data.draw(st.one_of(near, far), "seconds after the change") + 0.25
    schedule = Schedule(line.text, zone)
    moment, found = after, []
    while (moment := schedule.next(moment)) < end.timestamp():
        found.append(moment)
    assert found == [due for due in expected if due > after]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 23), st.integers(0, 59), st.sampled_from(sorted(ZONES)), st.integers(1995, 2036))
@example(2, 30, "America/New_York", 2026)
@example(1, 30, "America/New_York", 2026)
@example(2, 15, "Australia/Lord_Howe", 2026)
@example(1, 45, "Australia/Lord_Howe", 2026)
@example(2, 30, "Europe/Berlin", 2026)
def test_a_daily_job_runs_once_on_every_day_of_a_year(hour: int, minute: int, name: str, year: int) -> None:
    """Whatever its time: one run on each day, at its time, or at the clock's change where there is no such time."""
    zone, schedule = ZONES[name], Schedule(f"{minute} {hour} * * *", ZONES[name])
    moment, days = schedule.next(datetime(year, 1, 1, tzinfo=zone).timestamp() - 1), []
    while (local := datetime.fromtimestamp(moment, zone)).year == year:
        days.append(local.date())
        named = local.replace(hour=hour, minute=minute, fold=0)
        exists = named.astimezone(UTC).astimezone(zone) == named
        assert local == named if exists else local.replace(tzinfo=None) > named.replace(tzinfo=None)
        assert local.fold == 0
        moment = schedule.next(moment)
    assert days == [datetime(year, 1, 1).date() + timedelta(days=n) for n in range(len(days))]
    assert len(days) == (366 if year % 4 == 0 else 365)


@settings(deadline=None)
@given(st.text(alphabet="0123456789*/,-LW# MONJAN@?x\0", max_size=30), st.floats(0, 4e9))
def test_no_line_breaks_it(text: str, after: float) -> None:
    """Whatever stands there: refused with a mend, or a schedule that goes forward."""
    try:
        schedule = Schedule(text, ZONES["Europe/Berlin"])
    except ValueError as error:
        assert "; write " in str(error)
        return
    assert schedule.next(after) > after
    assert schedule.words()


@dataclass(frozen=True)
class Step:
    """What happens before the next look."""

    seconds: float
    pace: int
    ours: bool
    running: bool


steps = st.builds(
    Step,
    # A moment, the usual half minute, a nap, a night; and clocks that are set back, a little and by far.
    st.one_of(
        st.floats(0.01, 40), st.floats(60, 9000), st.floats(9000, 200_000), st.floats(-3600, -1), st.just(-90_000.0)
    ),
    st.sampled_from([1, 1, 2, 0]),
    st.sampled_from([True, True, True, False]),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["*/5 * * * *", "30 2 * * *", "0 */3 * * *", "* * * * *"]),
    st.sampled_from(sorted(ZONES)),
    st.lists(steps, max_size=60),
)
def test_nothing_stacks_overlaps_or_runs_twice(text: str, name: str, taken: list[Step]) -> None:
    """Over days of naps, nights, shedding, other owners, and clocks that are set: at most one run a look, in time, of a cycle
    that never ran, and only where it may; without what the clock did, every cycle is a run, held, or counted as missed."""
    schedule, change = Schedule(text, ZONES[name]), CHANGES[name][3 % len(CHANGES[name])]
    now = change.timestamp() - 86400.0
    track, ran = begun_with(None, now), []
    for step in taken:
        now += step.seconds
        set_by_far = track.cycle > now + 3 * 3600
        found = turn(track, now, schedule, step.pace, ours=step.ours, running=step.running)
        cycles, cycle = [], track.cycle
        while not set_by_far and (cycle := schedule.next(cycle)) <= now:
            cycles.append(cycle)
        if found.run is not None:
            assert step.ours and step.pace and not step.running
            assert 0 <= now - found.run <= LATE_S
            assert found.run == cycles[-1]
            assert set_by_far or not ran or found.run > ran[-1]
            ran.append(found.run)
        if step.ours:
            assert (found.run is not None) + bool(found.held) + found.missed == len(cycles)
        else:
            assert (found.run, found.held, found.missed) == (None, "", 0)
        again = turn(found.track, now, schedule, 1, ours=True, running=False)
        assert (again.run, again.missed, again.held) == (None, 0, "")
        track = found.track
        if set_by_far:
            assert track.cycle == now
            ran.clear()


@given(st.lists(st.sampled_from([1, 2]), min_size=1, max_size=40))
def test_every_second_cycle_is_left_out(paces: list[int]) -> None:
    """At pace 2 no two cycles that follow each other both run, nor are both left out; at pace 1 each runs."""
    schedule, track, now, before = Schedule("* * * * *", UTC), Track(0.0), 0.0, False
    for pace in paces:
        now += 60.0
        found = turn(track, now, schedule, pace, ours=True, running=False)
        ran = found.run == now
        assert ran if pace == 1 else ran is not before
        assert found.held == ("" if ran else "paced")
        track, before = found.track, ran


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(1, 1e5))
def test_an_owner_has_the_whole_of_its_time(silent: float, awake: float, limit: float) -> None:
    """Taken over is only what was silent for longer than allowed, all of it while this node was awake."""
    assert takes_over(silent, awake, limit) == (silent > limit and awake > limit)


def test_what_ran_does_not_come_again_when_the_clock_is_set_back() -> None:
    """A little: not for its own node, and not after somebody else had it meanwhile."""
    schedule, due = Schedule("0 * * * *", UTC), 1_700_002_800.0
    track = turn(Track(due - 60), due, schedule, 1, ours=True, running=False).track
    for ours in (True, False):
        between = turn(track, due - 1800, schedule, 1, ours=ours, running=False).track
        assert turn(between, due, schedule, 1, ours=True, running=False).run is None


@pytest.mark.parametrize("cycle", [None, 5e9])
def test_a_start_that_knows_nothing_begins_with_now(cycle: float | None) -> None:
    """No record, or one from a time that is far ahead: nothing counts as missed, and nothing runs at once."""
    schedule = Schedule("* * * * *", UTC)
    found = turn(begun_with(cycle, 1.7e9), 1.7e9, schedule, 1, ours=True, running=False)
    assert (found.run, found.missed) == (None, 0)


def test_years_of_sleep_are_counted_up_to_a_bound() -> None:
    """Ten years of a job that runs every second take no longer than a moment, and end in one run."""
    now = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()
    found = turn(Track(now - 10 * 365 * 86400), now, Schedule("* * * * * *", UTC), 1, ours=True, running=False)
    assert found.run == now
    assert found.missed >= 9_999


def test_a_line_that_comes_rarely() -> None:
    """The 29th of February."""
    schedule = Schedule("0 0 29 2 *", UTC)
    assert datetime.fromtimestamp(schedule.next(datetime(2026, 1, 1, tzinfo=UTC).timestamp()), UTC).year == 2028
