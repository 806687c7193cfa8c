"""Probes over simulated days: no flapping, what follows only from what was seen, and what does not help is told."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from outlast.core.probes import (
    Answer,
    Condition,
    Rule,
    Seen,
    follows,
    is_down,
    judge,
    level_of,
    next_ask,
    renewed,
    restarted,
    stand,
)

RULES = st.builds(
    Rule,
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from(["restart", "degrade", "alert"]),
    st.just(60.0),
    st.integers(1, 3),
)
ANSWERS = st.lists(st.booleans(), max_size=200)


def run(rule: Rule, answers: list[bool]) -> list[Condition]:
    """What becomes of these answers, one a minute."""
    found, condition = [], Condition()
    for minute, ok in enumerate(answers):
        condition = judge(condition, Answer(ok, "x", up=ok), rule, 60.0 * minute)
        found.append(condition)
    return found


@given(RULES, ANSWERS)
def test_nothing_changes_but_after_as_many_answers_in_a_row(rule: Rule, answers: list[bool]) -> None:
    """It has failed after ``failures`` bad answers together, and is well again after ``passes`` good ones; never sooner."""
    conditions = run(rule, answers)
    for at, (before, after) in enumerate(pairwise([Condition(), *conditions])):
        last = answers[: at + 1]
        if before.ok is not False and after.ok is False:
            assert last[-rule.failures :] == [False] * rule.failures
        if before.ok is False and after.ok:
            assert last[-rule.passes :] == [True] * rule.passes
        if last[-rule.failures :] == [False] * rule.failures:
            assert after.ok is False
    changes = sum(before.ok != after.ok for before, after in pairwise(conditions))
    # Each there and back takes so many answers.
    assert changes <= 2 * len(answers) / (rule.failures + rule.passes) + 2


@given(RULES, ANSWERS)
def test_what_follows_is_what_is_declared_and_only_while_it_fails(rule: Rule, answers: list[bool]) -> None:
    """Nothing follows from a probe that is well or not known; a restart follows once for as many failures."""
    for condition in run(rule, answers):
        due = follows(condition, rule)
        assert due <= {rule.then, "alert"}
        assert bool(due) <= (condition.ok is False)
        if rule.then != "restart":
            assert due == ({rule.then} if condition.ok is False else set())


class Service(RuleBasedStateMachine):
    """A service that hangs and recovers as it likes, looked at once a minute and restarted by its probe."""

    def __init__(self) -> None:
        super().__init__()
        self.rule = Rule(2, 3, "restart", 60.0)
        self.condition = Condition()
        self.minute = 0
        self.row = 0
        self.restarts: list[int] = []
        self.told: list[int] = []
        self.helpless = 0

    def answer(self, ok: bool) -> None:
        """One more look."""
        self.minute += 1
        self.condition = judge(self.condition, Answer(ok, "x", up=ok), self.rule, self.minute * 60.0)
        self.row = 0 if ok else self.row + 1
        if self.condition.ok:
            self.helpless = 0
        due = follows(self.condition, self.rule)
        if "alert" in due:
            self.told.append(self.minute)
            assert self.helpless >= 2
        if "restart" in due:
            assert self.row >= 3
            self.restarts.append(self.minute)
            self.helpless += 1
            self.row = 0
            self.condition = restarted(self.condition)

    @rule(looks=st.integers(1, 30))
    def hangs(self, looks: int) -> None:
        """For a while it does not answer, whatever is done."""
        for _ in range(looks):
            self.answer(ok=False)

    @rule(looks=st.integers(1, 1440))
    def answers(self, looks: int) -> None:
        """For up to a day it does."""
        for _ in range(looks):
            self.answer(ok=True)

    @rule()
    def is_started_anew(self) -> None:
        """By its supervisor or a person: what was before does not count against it."""
        self.condition = renewed(self.condition)
        self.row = 0
        assert self.condition.failures == 0

    @invariant()
    def restarts_are_apart(self) -> None:
        """Between two restarts the new process had its own three chances."""
        assert all(later - earlier >= 3 for earlier, later in pairwise(self.restarts))

    @invariant()
    def what_does_not_help_is_told(self) -> None:
        """More than two restarts in a row that did not help are never kept from a person."""
        assert self.helpless <= 2 or self.told


TestService = Service.TestCase
TestService.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

CONDITIONS = st.builds(
    Condition,
    st.sampled_from([True, False, None]),
    since=st.floats(0, 1e9),
    at=st.floats(0, 1e9),
    text=st.text(max_size=3),
    up=st.sampled_from([True, False, None]),
)


@given(st.dictionaries(st.integers(1, 4), st.lists(CONDITIONS, min_size=1, max_size=3), max_size=4))
def test_working_is_said_only_of_what_works_at_every_level(found: dict[int, list[Condition]]) -> None:
    """One failed probe of any level, and it does not work; that it is up, or down, is said only where that was seen."""
    levels = {level: level_of(level, conditions) for level, conditions in found.items()}
    everything = [condition for conditions in found.values() for condition in conditions]
    standing = stand(levels)
    if any(condition.ok is False for condition in everything):
        assert standing.state in {"up, not working", "not working", "down"}
        assert standing.text in {condition.text for condition in everything if condition.ok is False}
    elif not everything or any(condition.ok is None for condition in everything):
        assert standing.state == "not looked at"
    else:
        assert standing.state == "working"
    if standing.state == "up, not working":
        assert any(condition.up or condition.ok for condition in everything)
    if standing.state == "down":
        assert is_down(levels)


def test_up_and_working_are_two_things() -> None:
    """A gateway whose process runs and that answers 200 with a broken database is up and not working; one that hangs as well."""
    well, broken = Condition(ok=True, up=True), Condition(ok=False, text="no database", up=True)
    hung = Condition(ok=False, text="no answer", up=False)
    assert stand({1: Seen(1, well), 2: Seen(2, broken)}).state == "up, not working"
    assert stand({1: Seen(1, well), 2: Seen(2, hung)}).state == "up, not working"
    assert stand({2: Seen(2, broken)}).state == "up, not working"
    assert stand({2: Seen(2, hung)}).state == "down"
    assert stand({1: Seen(1, hung), 2: Seen(2, hung)}).state == "down"
    assert stand({2: Seen(2, Condition(ok=False, text="exit 1"))}).state == "not working"


@given(st.floats(0, 1e6), st.floats(1, 3600), st.sampled_from([0, 1, 2]))
def test_what_was_missed_is_not_made_up_for(now: float, every: float, pace: int) -> None:
    """However late a look comes (the machine slept), the next is a whole interval later; shed work is not asked at all."""
    asked, due = next_ask(now, every, pace)
    assert asked == (pace > 0)
    assert due == now + every * max(1, pace)
