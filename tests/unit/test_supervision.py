"""When a program is started again: the cases that a person would name."""

from __future__ import annotations

import pytest

from outlast.core.supervision import Policy, Restart, Supervised, asked, begun, due_in, ended, has_lasted, shed

POLICY = Policy("always", base=1.0, max=60.0, most=3, within=300.0, rest=300.0)


def longest(a: float, b: float) -> float:
    return b


def policy(restart: Restart) -> Policy:
    return Policy(restart, 1.0, 60.0, 3, 300.0, 300.0)


@pytest.mark.parametrize(
    ("restart", "well", "state"),
    [
        ("always", True, "waiting"),
        ("always", False, "waiting"),
        ("on-failure", True, "ended"),
        ("on-failure", False, "waiting"),
        ("never", True, "ended"),
        ("never", False, "ended"),
    ],
)
def test_what_the_policy_says(restart: Restart, well: bool, state: str) -> None:
    """always, on-failure and never mean what they say."""
    one = ended(begun(Supervised(), policy(restart), 0.0), policy(restart), 5.0, well=well, uniform=longest)
    assert one.state == state


def test_the_first_start_is_due_at_once_and_no_restart() -> None:
    """A service is started when the node is, and that does not count."""
    assert due_in(Supervised(), 7.0) == 0.0
    assert begun(Supervised(), POLICY, 7.0).restarts == ()


def test_it_rests_after_too_many_and_is_tried_again() -> None:
    """The waits double; after ``most`` restarts it rests for ``rest``, and then it is tried again."""
    now, one, waits = 0.0, Supervised(), []
    for _ in range(4):
        one = ended(begun(one, POLICY, now), POLICY, now, well=False, uniform=longest)
        waits.append(due_in(one, now))
        now = one.due
    assert waits == [1.0, 2.0, 4.0, 300.0]
    assert one.state == "resting"
    assert begun(one, POLICY, now).state == "running"


def test_a_short_rest_does_not_break_the_limit() -> None:
    """A rest shorter than the stretch that counts lasts until one restart less counts."""
    short = Policy("always", base=1.0, max=60.0, most=1, within=300.0, rest=1.0)
    one = begun(ended(begun(Supervised(), short, 0.0), short, 0.0, well=False, uniform=longest), short, 1.0)
    one = ended(one, short, 1.0, well=False, uniform=longest)
    assert (one.state, one.due) == ("resting", 301.0)


def test_a_person_is_obeyed_at_once() -> None:
    """Who asks for a start does not wait for the rest of a rest, and what was before is forgotten."""
    assert asked(9.0) == Supervised("waiting", 9.0)
    assert due_in(asked(9.0), 9.0) == 0.0


def test_shedding_is_no_failure() -> None:
    """What the mode stops is started again at once when the mode allows it, and no restart is counted."""
    running = begun(Supervised(), POLICY, 0.0)
    off = shed(running, 10.0, allowed=False)
    assert (off.state, due_in(off, 10.0)) == ("shed", None)
    on = shed(off, 20.0, allowed=True)
    assert due_in(on, 20.0) == 0.0 and begun(on, POLICY, 20.0).restarts == ()


def test_shedding_cuts_no_backoff_short() -> None:
    """A mode that comes and goes is no way around the backoff."""
    one = ended(begun(Supervised(), POLICY, 0.0), POLICY, 0.0, well=False, uniform=longest)
    assert due_in(shed(shed(one, 0.1, allowed=False), 0.2, allowed=True), 0.2) == pytest.approx(0.8)


def test_what_is_over_is_not_shed() -> None:
    """A service that has done its work stays ended in every mode."""
    over = Supervised("ended")
    assert shed(over, 1.0, allowed=False) is over and shed(over, 1.0, allowed=True) is over


def test_has_lasted() -> None:
    """It has lasted when it ran for as long as restarts count."""
    one = begun(Supervised(), POLICY, 100.0)
    assert not has_lasted(one, POLICY, 399.9) and has_lasted(one, POLICY, 400.0)
