"""Supervision over simulated days: whatever a program does, and whoever meddles, it is never started too often, nor forgotten."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from outlast.core.supervision import Policy, Supervised, asked, begun, due_in, ended, has_lasted, shed, stop_at_latest

DAY_S = 86_400.0

policies = st.builds(
    Policy,
    restart=st.sampled_from(["always", "on-failure"]),
    base=st.floats(0.001, 30.0),
    max=st.floats(30.0, 3600.0),
    most=st.integers(1, 12),
    within=st.floats(1.0, 7200.0),
    rest=st.floats(0.001, 7200.0),
)


def most_within(moments: list[float], span: float) -> int:
    """How many of these lie in the worst stretch of ``span`` seconds, but for what floats cannot tell apart."""
    worst, first, span = 0, 0, span * (1 - 1e-9) - 1e-9
    for last, moment in enumerate(moments):
        while moments[first] <= moment - span:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


@settings(max_examples=60, deadline=None)
@given(policies, st.lists(st.floats(0.0, 2.0), min_size=1, max_size=8), st.integers())
def test_never_more_than_most_restarts_within(policy: Policy, lives: list[float], seed: int) -> None:
    """Whatever its lives are like (in parts of ``within``, over and over): the limit holds over three simulated days."""
    chance = random.Random(seed)
    now, one, restarts = 0.0, Supervised(), []
    for turn in range(1500):
        if one.again:
            restarts.append(now)
        one = begun(one, policy, now)
        now += lives[turn % len(lives)] * policy.within
        one = ended(one, policy, now, well=False, uniform=chance.uniform)
        wait = due_in(one, now)
        assert wait is not None
        now += wait
        if now > 3 * DAY_S:
            break
    assert most_within(restarts, policy.within) <= policy.most


@settings(max_examples=60, deadline=None)
@given(policies, st.integers())
def test_one_that_ends_at_once(policy: Policy, seed: int) -> None:
    """Of a program that cannot live at all: the limit holds, every rest is as long as was said, and each ends in a try."""
    chance = random.Random(seed)
    now, one, restarts, rests = 0.0, Supervised(), [], 0
    for _ in range(600):
        if one.again:
            restarts.append(now)
        one = ended(begun(one, policy, now), policy, now, well=False, uniform=chance.uniform)
        wait = due_in(one, now)
        assert wait is not None
        if one.state == "resting":
            rests += 1
            # Seconds since a start long ago have no more digits than this.
            assert wait >= policy.rest * (1 - 1e-9) - 1e-6
        else:
            assert 0 <= wait <= policy.max
        now += wait
    assert most_within(restarts, policy.within) <= policy.most
    assert len(restarts) == 599, "it was tried again after every rest"
    assert rests or now >= policy.within


@given(policies, st.integers(0, 50), st.integers())
def test_backoff_is_bounded_and_begins_anew(policy: Policy, ends: int, seed: int) -> None:
    """A wait is at most base · 2^n after n restarts that count, at most max; after a life of ``within`` it is at most base."""
    chance = random.Random(seed)
    now, one = 0.0, Supervised()
    for _ in range(ends):
        one = begun(one, policy, now)
        counted = len(one.restarts)
        one = ended(one, policy, now, well=False, uniform=chance.uniform)
        if one.state == "waiting":
            assert one.due - now <= min(policy.base * 2**counted, policy.max) * (1 + 1e-9)
        now = one.due
    one = begun(one, policy, now)
    assert not has_lasted(one, policy, now + policy.within * 0.99)
    now += policy.within * 1.01
    assert has_lasted(one, policy, now)
    one = ended(one, policy, now, well=False, uniform=chance.uniform)
    assert one.state == "waiting" and one.due - now <= policy.base * (1 + 1e-9) + 1e-6


class Meddled(RuleBasedStateMachine):
    """A program, a clock, a mode that sheds and allows, and a person who asks, in any order."""

    @initialize(policy=policies, seed=st.integers())
    def begin(self, policy: Policy, seed: int) -> None:
        self.policy, self.chance = policy, random.Random(seed)
        self.now, self.one, self.allowed = 0.0, Supervised(), True
        self.restarts: list[float] = []
        self.settle()

    def settle(self) -> None:
        """What work.services does whenever it looks."""
        self.one = shed(self.one, self.now, allowed=self.allowed)
        if due_in(self.one, self.now) == 0:
            if self.one.again:
                self.restarts.append(self.now)
            self.one = begun(self.one, self.policy, self.now)

    @rule(seconds=st.floats(0.0, 10_000.0))
    def time_goes_by(self, seconds: float) -> None:
        """As far as to the next thing that is due."""
        wait = due_in(self.one, self.now)
        self.now += seconds if wait is None else min(seconds, wait)
        self.settle()

    @precondition(lambda self: self.one.state == "running")
    @rule(well=st.booleans())
    def it_ends(self, well: bool) -> None:
        self.one = ended(self.one, self.policy, self.now, well=well, uniform=self.chance.uniform)
        self.settle()

    @rule(allowed=st.booleans())
    def mode_changes(self, allowed: bool) -> None:
        self.allowed = allowed
        self.settle()

    @rule()
    def a_person_asks(self) -> None:
        """Their order is no restart by itself, and makes the past forgotten: what counts begins anew."""
        self.one = asked(self.now)
        self.restarts = []
        self.settle()
        assert self.one.state == ("running" if self.allowed else "shed")

    @invariant()
    def never_too_often(self) -> None:
        assert most_within(self.restarts, self.policy.within) <= self.policy.most

    @invariant()
    def runs_only_where_allowed(self) -> None:
        assert self.allowed or self.one.state in ("shed", "ended")

    @invariant()
    def never_forgotten(self) -> None:
        """What neither runs nor is shed has a time at which it is tried; only one that ended well on-failure may stay ended."""
        if self.one.state == "ended":
            assert self.policy.restart == "on-failure"
        elif self.one.state in ("waiting", "resting"):
            wait = due_in(self.one, self.now)
            longest = max(self.policy.max, self.policy.rest, self.policy.within)
            assert wait is not None and wait <= longest * (1 + 1e-9)


Meddled.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestMeddled = Meddled.TestCase


@given(st.lists(st.floats(0.0, 600.0), max_size=6), st.floats(0.0, 60.0))
def test_a_stop_keeps_its_budget_its_order_and_every_grace(graces: list[float], spare: float) -> None:
    """Each is asked in time for its whole grace, in order, and as late as both allow."""
    budget = max(graces, default=0.0) + spare
    latest = stop_at_latest(graces, budget)
    assert len(latest) == len(graces) and latest == sorted(latest)
    for at, (moment, grace) in enumerate(zip(latest, graces, strict=True)):
        assert 0 <= moment and moment + grace <= budget + 1e-9
        later = [budget - one for one in graces[at:]]
        assert moment >= min(later) - 1e-9
