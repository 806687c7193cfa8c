"""What may be cleaned and what must stay, for whatever lies there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outlast.core.cleaning import Disk, Limits, Plan, Seen, Thing, plan, room

DAY = 86400.0
DISKS = st.builds(Disk, free=st.integers(0, 10_000), percent=st.floats(0, 100))
THINGS = st.lists(
    st.builds(
        Thing,
        name=st.integers(0, 10**6).map(str),
        size=st.integers(0, 1000),
        age=st.floats(-DAY, 400 * DAY),
        stays=st.sampled_from(["", "", "today", "open", "protected", "unreadable"]),
    ),
    max_size=12,
    unique_by=lambda thing: thing.name,
).map(tuple)
SEEN = st.builds(Seen, disk=DISKS, ballast=st.sampled_from([0, 100]), logs=THINGS, artifacts=THINGS, trash=THINGS)
LIMITS = st.builds(
    Limits,
    logs_after=st.floats(0, 60 * DAY),
    artifacts_after=st.floats(0, 300 * DAY),
    artifacts_budget=st.integers(0, 5000),
    trash_keep=st.floats(0, 60 * DAY),
    ballast=st.just(100),
    low=st.floats(5, 40),
    least=st.floats(0, 20),
)


def made(seen: Seen, limits: Limits, asked: bool, held: set[str]) -> Plan:
    return plan(seen, limits, empty_trash=asked, backed_up=held.__contains__)


@given(SEEN, LIMITS, st.booleans(), st.sets(st.integers(0, 10**6).map(str)))
def test_what_must_stay_stays(seen: Seen, limits: Limits, asked: bool, held: set[str]) -> None:
    """No step touches what is marked, an artifact that no backup holds, or young trash; none touches trash unasked."""
    for step in made(seen, limits, asked, held | {thing.name for thing in seen.artifacts[::2]}).steps:
        kinds = {"log": seen.logs, "artifact": seen.artifacts, "trash": seen.trash, "ballast": ()}
        for thing in [thing for thing in kinds[step.kind] if thing.name == step.name]:
            assert not thing.stays
            if step.kind == "trash":
                assert asked and thing.age > limits.trash_keep
            if step.kind == "artifact":
                assert thing.name in held or thing in seen.artifacts[::2]


@given(SEEN, LIMITS, st.booleans())
def test_nothing_needs_room_before_there_is_some(seen: Seen, limits: Limits, asked: bool) -> None:
    """Steps that free without writing come first, then the smallest that are written, and artifacts oldest first."""
    steps = made(seen, limits, asked, {thing.name for thing in seen.artifacts}).steps
    assert [step.kind for step in steps] == sorted(
        (step.kind for step in steps), key=["ballast", "trash", "log", "artifact"].index
    )
    sizes = [step.size for step in steps if step.kind == "log"]
    assert sizes == sorted(sizes)
    ages = {thing.name: thing.age for thing in seen.artifacts}
    order = [ages[step.name] for step in steps if step.kind == "artifact"]
    assert order == sorted(order, reverse=True)


@given(SEEN, LIMITS, st.sets(st.integers(0, 10**6).map(str)))
def test_the_budget_is_kept_or_what_stays_is_told(seen: Seen, limits: Limits, held: set[str]) -> None:
    """What is left of the artifacts fits into the budget, or all that is left over it is said to stay, and why."""
    made_up = made(seen, limits, False, held)
    gone = {step.name for step in made_up.steps if step.kind == "artifact"}
    left = [thing for thing in seen.artifacts if thing.name not in gone]
    told = {kept.name for kept in made_up.kept}
    if sum(thing.size for thing in left) > limits.artifacts_budget:
        assert {thing.name for thing in left} <= told
    assert all(kept.why for kept in made_up.kept)
    assert not gone & told


@given(SEEN, LIMITS)
def test_doing_it_twice_does_it_once(seen: Seen, limits: Limits) -> None:
    """After the plan is done, and nothing else has changed, there is nothing to do."""
    held = {thing.name for thing in seen.artifacts}
    gone = {(step.kind, step.name) for step in made(seen, limits, True, held).steps}
    after = Seen(
        disk=seen.disk,
        ballast=0 if ("ballast", "ballast") in gone else seen.ballast,
        logs=tuple(thing for thing in seen.logs if ("log", thing.name) not in gone),
        artifacts=tuple(thing for thing in seen.artifacts if ("artifact", thing.name) not in gone),
        trash=tuple(thing for thing in seen.trash if ("trash", thing.name) not in gone),
    )
    assert made(after, limits, True, held).steps == ()


@given(DISKS, LIMITS)
def test_the_ballast_does_not_come_and_go(disk: Disk, limits: Limits) -> None:
    """A disk on which it would be given up is never one on which it would be set by, not even with its own room freed."""
    if room(disk, limits, has=True) == "give up":
        freed = Disk(disk.free + limits.ballast, disk.percent)
        assert room(freed, limits, has=False) != "set by"
