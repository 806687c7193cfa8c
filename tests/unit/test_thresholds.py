"""What is worth a word to a person: siblings (F1 to F3), gaps (F7), and the thresholds of spec.md, section 7."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.alerting import Hours, hours
from outlast.core.gaps import Gap
from outlast.core.record import Record, Step, format_record
from outlast.core.state import Unit
from outlast.core.thresholds import Silence, channel, gap, is_critical, sibling, silent_since, studied, study, subagents

HOUR, DAY = 3600.0, 86_400.0
WORK = hours("08:00-18:00")
NOON, NIGHT = 12 * 60, 23 * 60


def told(awake: float, whole: float, *, lost: bool, minute: int, work: Hours = WORK) -> str:
    """What is said of a sibling that never sleeps."""
    return sibling("axiom", Silence(awake, whole, lost), HOUR, DAY, work, minute) or ""


def test_a_lost_sibling_is_told_after_a_day() -> None:
    """F1: its power is gone; at any hour, because core.alerting knows what the night is."""
    assert not told(23 * HOUR, 23 * HOUR, lost=False, minute=NOON)
    assert "power" in told(25 * HOUR, 25 * HOUR, lost=False, minute=NOON)
    assert "silent for 25 h" in told(25 * HOUR, 25 * HOUR, lost=False, minute=NIGHT)


def test_a_partition_is_told_after_an_hour_in_work_hours() -> None:
    """F3: nothing at all comes back from it; in the night it waits for the day, or for the day's end of F1."""
    assert not told(0.9 * HOUR, 0.9 * HOUR, lost=True, minute=NOON)
    assert "network" in told(1.1 * HOUR, 1.1 * HOUR, lost=True, minute=NOON)
    assert not told(1.1 * HOUR, 1.1 * HOUR, lost=True, minute=NIGHT)
    assert "power" in told(25 * HOUR, 25 * HOUR, lost=True, minute=NIGHT)


def test_a_machine_that_wakes_does_not_call_the_others_lost() -> None:
    """It slept for a week, and has heard nobody in that time: it gives them theirs first."""
    assert not told(5.0, 7 * DAY, lost=False, minute=NOON)
    assert told(1.1 * HOUR, 7 * DAY, lost=False, minute=NOON)


@given(st.lists(st.tuples(st.sampled_from(["silence", "heard", "restart"]), st.floats(1.0, 2 * DAY)), max_size=30))
def test_silence_is_counted_over_restarts(steps: list[tuple[str, float]]) -> None:
    """Since when it lasts is known within the half hour that is not yet written down, and forgotten when it is heard."""
    now, last_heard, last_start = 0.0, 0.0, 0.0
    known: dict[str, float] = {}
    for kind, seconds in steps:
        # Looked at often enough: at every check.
        for _ in range(20):
            now += seconds / 20
            if kind == "heard":
                last_heard = now
            awake = now - max(last_heard, last_start)
            known = silent_since(known, {"axiom": awake}, now - last_start, now)
        if kind == "restart":
            last_start = now
    since = known.get("axiom")
    if since is None:
        return
    assert since >= last_heard - 1.0, "it was heard since"
    # What a start forgets is at most what was not long enough to be noted.
    assert last_start > last_heard or since - last_heard <= 1.0


@pytest.mark.parametrize(
    ("tried", "taken", "present", "is_told"),
    [
        (10, 7, 2 * HOUR, True),
        (10, 8, 2 * HOUR, False),
        (4, 0, 2 * HOUR, False),
        (10, 0, 0.9 * HOUR, False),
        (0, 0, 2 * HOUR, False),
    ],
)
def test_a_channel_is_told_when_it_is_bad_though_the_sibling_is_there(
    tried: int, taken: int, present: float, is_told: bool
) -> None:
    """Fewer than 80 % in an hour in which it was there all the time: one that slept is no bad channel. A few say nothing."""
    text = channel("axiom", {"tried": tried, "taken": taken, "success": taken / max(1, tried)}, present, 80)
    assert bool(text) == is_told
    assert not text or f"{taken} of {tried}" in text


@pytest.mark.parametrize(("done", "ended", "is_told"), [(6, 10, True), (7, 10, False), (0, 2, False), (0, 0, False)])
def test_sub_agents_that_do_not_complete_are_told(done: int, ended: int, is_told: bool) -> None:
    """Fewer than 70 %; a few say nothing."""
    assert bool(subagents(done, ended, 70)) == is_told


def unit(what: str, ended: str, status: str = "done", kind: str = "step") -> Unit:
    """A unit of work that ended."""
    return Unit(kind=kind, peer="", what=what, since="2026-11-20 08:00:00", status=status, ended=ended)  # type: ignore[arg-type]


def test_what_counts_as_a_study_unit() -> None:
    """A step or a task that was done on that day, and whose text begins with the word."""
    day = "2026-11-20"
    units = [
        unit("Study unit 8: queues", f"{day} 10:00:00"),
        unit("study: etcd", f"{day} 23:59:59", kind="task"),
        unit("study: etcd", f"{day} 12:00:00", kind="handoff"),
        unit("studying hard", f"{day} 12:00:00"),
        unit("study: raft", f"{day} 12:00:00", status="failed"),
        unit("study: raft", "2026-11-21 00:00:00"),
        unit("report on the study", f"{day} 12:00:00"),
    ]
    assert studied(units, day) == 2


def test_a_day_of_little_study_is_told_until_the_next_one_is_better() -> None:
    """It counts when it is over and was one of study from its beginning; enough today make good for it."""
    one = [unit("study: a", "2026-11-20 10:00:00")]
    assert "had 1 study units of 2" in (study(one, "2026-11-01", "2026-11-21", 2) or "")
    assert study(one, "2026-11-20", "2026-11-21", 2) is None, "it began in the middle of that day"
    assert study(one, "2026-11-01", "2026-11-21", 1) is None
    assert study(one * 200, "2026-11-01", "2026-11-21", 300) is None, "of more than STATE keeps nothing can be said"
    today = [unit(f"study: {name}", "2026-11-21 09:00:00") for name in "bc"]
    assert study([*one, *today], "2026-11-01", "2026-11-21", 2) is None


def lines(*steps: tuple[int, Step, str]) -> str:
    """What git shows of a commit that brought these records."""
    records = [
        format_record(Record("2026-11-20", "10:00:00", step, unit, "something", "coz", seq))
        for seq, step, unit in steps
    ]
    return "\n".join(["+++ b/workspace/memory/2026-11-20.md", *(f"+{record}" for record in records)])


def test_a_gap_is_told_when_work_was_in_it_or_may_have_been() -> None:
    """F7: notes that git still has are no news; work, an emergency, and what nobody knows are."""
    notes = (4, Step.NOTE, "coz-a"), (5, Step.NOTE, "coz-b")
    assert not is_critical(lines(*notes), "coz", 4, 5)
    assert is_critical(lines(*notes), "coz", 4, 6), "one of them nobody knows"
    assert is_critical(lines(*notes), "axiom", 4, 5), "these are another node's"
    assert is_critical("", "coz", 4, 5)
    assert is_critical(lines(*notes, (6, Step.INTENT, "coz-c")), "coz", 4, 6)
    assert is_critical(lines(*notes, (6, Step.NOTE, "mode")), "coz", 4, 6)
    assert not is_critical(lines(*notes, (7, Step.INTENT, "coz-c")), "coz", 4, 5), "that one is not lost"


def test_a_gap_says_where_to_look() -> None:
    """The command that shows it, where git has it, and how to say that one knows."""
    text = gap(Gap(4, 9, "abc1234"), "/srv/coz/workspace/memory")
    assert "records 4 to 9" in text and "git -C /srv/coz/workspace/memory show abc1234" in text and "'gap 4'" in text
    assert "backups" in gap(Gap(4, 4), "/srv")
    back = gap(Gap(4, 100_003, restored=True), "/srv")
    assert "went back to a backup" in back and "'gap 4'" in back and "100003" not in back, "most of these never were"
