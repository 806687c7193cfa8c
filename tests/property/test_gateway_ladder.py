"""The ladder of remedies over simulated days: whatever the gateway does, it is mended in order, not too often, and never behind
a person's back."""

from __future__ import annotations

import string
from typing import Literal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from outlast.core.gateway import (
    REMEDIES,
    Answer,
    Heard,
    Ladder,
    Launched,
    Limits,
    Phase,
    Remedy,
    Verdict,
    doubted,
    hear,
    hopeless,
    last_words,
    may_pass,
    step,
    verdict,
)

NOW = 1_800_000_000.0
START_S = 300.0
PHASES: tuple[Phase, ...] = (
    "running",
    "ending",
    "mending",
    "waiting",
    "resting",
    "held",
    "blocked",
    "stopped",
    "ended",
)

limits_of = st.builds(
    Limits,
    restarts=st.integers(1, 5),
    doctors=st.integers(1, 3),
    within=st.floats(60.0, 7200.0),
    calm=st.floats(1.0, 900.0),
    pause=st.floats(1.0, 60.0),
    again=st.floats(60.0, 7200.0),
)
answers = st.lists(
    st.builds(Answer, st.sampled_from(["http", "rpc"]), st.integers(0, 2), st.text(max_size=5)), max_size=12
)


class Trouble(RuleBasedStateMachine):
    """A gateway that does as it likes, watched by somebody who notes every remedy."""

    @initialize(limits=limits_of)
    def begin(self, limits: Limits) -> None:
        """A calm day."""
        self.limits, self.now, self.ladder = limits, NOW, Ladder()
        self.launched: Launched | None = Launched("running", NOW, 1, 2)
        self.heard = Heard()
        self.done: list[tuple[Remedy, float]] = []
        self.this: list[Remedy] = []
        self.held = False

    @rule(phase=st.sampled_from(PHASES), there=st.booleans())
    def launcher_says(self, phase: Phase, there: bool) -> None:
        """It is in another phase, or nobody runs it."""
        self.launched = Launched(phase, self.now, 1, 2 if phase == "running" else 0) if there else None

    @rule(given=answers)
    def it_answers(self, given: list[Answer]) -> None:
        """Well or badly."""
        for answer in given:
            self.heard = hear(self.heard, 2, answer)

    @rule(held=st.booleans())
    def person(self, held: bool) -> None:
        """Holds it, or lets it go."""
        self.held = held

    @rule(
        seconds=st.floats(0.1, 3600.0),
        times=st.integers(1, 20),
        useless=st.sampled_from([frozenset(), frozenset({"doctor"})]),
    )
    def time_goes_on(self, seconds: float, times: int, useless: frozenset[Remedy]) -> None:
        """And it is looked at meanwhile."""
        for _ in range(times):
            self.now += seconds
            found = verdict(self.launched, self.heard, self.now, START_S)
            phase = self.launched.phase if self.launched else ""
            tried = phase in ("held", "resting")
            before, (self.ladder, remedy) = (
                self.ladder,
                step(self.ladder, found, self.limits, self.now, tried=tried, useless=useless, held=self.held),
            )
            if before.asked != self.ladder.asked or not self.ladder.since or before.kind != self.ladder.kind:
                # Asked, tried anew, or over: the order begins again.
                fresh = [] if remedy is None else [remedy]
                assert remedy != "ask" or self.this == sorted(self.this, key=REMEDIES.index)
                self.this = [] if remedy == "ask" else fresh
            elif remedy is not None:
                self.this.append(remedy)
            if remedy is None:
                continue
            self.done.append((remedy, self.now))
            assert not self.held, "somebody held it"
            assert found.mendable and found.state != "working"
            assert phase not in ("stopped", "ended", "blocked", "waiting", "ending", "mending", "")
            assert remedy not in useless
            assert not (tried and remedy == "restart" and not before.asked), "its launcher did that already"
            if remedy == "doctor" and not tried:
                used = sum(one == "restart" for one, at in before.taken if at > self.now - self.limits.within)
                assert (before.rung >= 1 and before.kind == self.ladder.kind) or used >= self.limits.restarts, (
                    "a restart comes first"
                )
            if remedy == "ask" and "doctor" not in useless:
                used = sum(one == "doctor" for one, at in before.taken if at > self.now - self.limits.within)
                assert (before.rung >= 2 and before.kind == self.ladder.kind) or used >= self.limits.doctors, (
                    "its doctor comes first"
                )

    @invariant()
    def in_order(self) -> None:
        """Each once in a trouble, and in this order."""
        if hasattr(self, "this"):
            assert self.this == sorted(set(self.this), key=REMEDIES.index)

    @invariant()
    def not_too_often(self) -> None:
        """In no stretch of ``within`` a remedy more often than its limit."""
        for name, most in (
            (("restart", self.limits.restarts), ("doctor", self.limits.doctors)) if hasattr(self, "done") else ()
        ):
            moments = [at for one, at in self.done if one == name]
            for first, last in zip(moments, moments[most:], strict=False):
                assert last - first >= self.limits.within * (1 - 1e-9) - 1e-6

    @invariant()
    def works_again(self) -> None:
        """Two good answers of a process that runs, and it works, whatever was before."""
        if hasattr(self, "heard"):
            heard = hear(hear(self.heard, 2, Answer("http")), 2, Answer("rpc"))
            assert verdict(Launched("running", NOW, 1, 2), heard, self.now, START_S).state == "working"


TestTrouble = Trouble.TestCase
TestTrouble.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@settings(max_examples=200, deadline=None)
@given(answers)
def test_never_broken_while_calls_are_well(given: list[Answer]) -> None:
    """After a good answer to a call it works, whatever HTTP says before and after, and however long."""
    heard = Heard()
    for answer in (*given, Answer("rpc"), *(one for one in given if one.by == "http")):
        heard = hear(heard, 2, answer)
    assert verdict(Launched("running", NOW, 1, 2), heard, NOW + 1e6, START_S).state == "working"


def test_one_that_hangs() -> None:
    """It answers neither by HTTP nor a call: three of the former make the latter be asked, and its first failure is enough."""
    heard = hear(hear(Heard(), 2, Answer("http")), 2, Answer("rpc"))
    for _ in range(3):
        assert not doubted(heard)
        heard = hear(heard, 2, Answer("http", 1, "no answer"))
    assert doubted(heard)
    heard = hear(heard, 2, Answer("rpc", 1, "not answered within 15 s"))
    assert verdict(Launched("running", NOW, 1, 2), heard, NOW, START_S).state == "broken"


def test_who_was_asked_has_mended_it() -> None:
    """Once a person was asked, and it works for a minute, the trouble is over; what was tried in it counts all the same."""
    limits, taken = Limits(), (("restart", NOW - 60.0),)
    asked = Ladder(rung=3, since=NOW - 600.0, taken=taken, asked=NOW - 60.0, kind="broken")

    def works(ladder: Ladder, at: float) -> Ladder:
        return step(ladder, Verdict("working"), limits, at, tried=False, useless=frozenset(), held=False)[0]

    assert works(works(asked, NOW), NOW + limits.mended - 1).asked
    assert works(works(asked, NOW), NOW + limits.mended) == Ladder(taken=taken)
    alone = msgspec.structs.replace(asked, asked=0.0)
    assert works(works(alone, NOW), NOW + limits.mended).since


def test_what_passes_by_itself() -> None:
    """A lease that somebody holds, and no other reason for which it ends with 78."""
    lease = "agent database maintenance lease core:agent-database-maintenance/global is held by 0b"
    assert may_pass(f"OpenClaw startup migrations did not complete cleanly | {lease}")
    assert not any(map(may_pass, ["", "Invalid config: gateway.port", "file is not a database", "it is held"]))


@settings(max_examples=200, deadline=None)
@given(answers)
def test_never_working_without_the_truth(given: list[Answer]) -> None:
    """Without a good answer to a call it does not work, whatever HTTP says."""
    heard = Heard()
    for answer in given:
        heard = hear(heard, 2, answer)
    good = any(answer.by == "rpc" and not answer.bad for answer in given)
    assert verdict(Launched("running", NOW, 1, 2), heard, NOW, START_S).state != "working" or good


def test_a_broken_database_behind_a_200() -> None:
    """HTTP stays well; two calls that fail in a row, and it is broken; one alone is no verdict."""
    heard = Heard()
    for answer in (
        Answer("http"),
        Answer("rpc"),
        Answer("http"),
        Answer("rpc", 2, "file is not a database"),
        Answer("http"),
    ):
        heard = hear(heard, 2, answer)
    launched = Launched("running", NOW, 1, 2)
    assert verdict(launched, heard, NOW, START_S).state == "working"
    heard = hear(heard, 2, Answer("rpc", 2, "file is not a database"))
    assert verdict(launched, heard, NOW, START_S) == Verdict("broken", "file is not a database", mendable=True)
    assert hopeless("file is not a database") == {"doctor"}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["http", "rpc"]), max_size=100))
def test_a_slow_start_is_no_trouble(asked: list[Literal["http", "rpc"]]) -> None:
    """However often it was not there yet: the first sign of life does not make it broken."""
    heard = Heard()
    for by in asked:
        heard = hear(heard, 2, Answer(by, 1, "nobody listens"))
    heard = hear(heard, 2, Answer("http"))
    assert verdict(Launched("running", NOW, 1, 2), heard, NOW + START_S, START_S).state == "starting"


def test_the_clock_is_put_back() -> None:
    """Remedies of the future do not hold up those of now for ever."""
    ladder = Ladder(rung=1, since=NOW + 9e6, taken=(("restart", NOW + 9e6),))
    broken = Verdict("broken", "", mendable=True)
    ladder, remedy = step(ladder, broken, Limits(), NOW, tried=False, useless=frozenset(), held=False)
    assert remedy is None
    ladder, remedy = step(ladder, broken, Limits(), NOW + 11, tried=False, useless=frozenset(), held=False)
    assert remedy == "doctor"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000) | st.text(string.printable, max_size=500).map(str.encode))
def test_last_words_of_anything(printed: bytes) -> None:
    """Whatever was printed, the reason is one line of bounded length."""
    said = last_words(printed)
    assert "\n" not in said and len(said) <= 400


def test_last_words_of_openclaw() -> None:
    """Lines of JSON and plain ones, without colours, without a trace, and nothing twice."""
    printed = (
        b'{"level":"info","message":"starting"}\n{"level":"error","message":"the database is unreadable"}\n'
        b"\x1b[31mGateway failed to start: the database is unreadable\x1b[0m\n    at run (file.js:3:1)\n}\n\nNode.js v24.19.0\n"
    )
    assert last_words(printed) == "the database is unreadable"
    assert last_words(printed.splitlines()[0]) == "starting", "better than nothing"
    assert last_words(b"") == ""
    unreadable = b"it is unreadable, restore it\nit requires migration\nfailed: it is unreadable, restore it\n"
    assert last_words(unreadable) == "it is unreadable, restore it | it requires migration"


def test_a_configuration_that_it_refuses_is_told_by_its_field() -> None:
    """As OpenClaw prints it on a plain console: the field and what is wrong, not the advice for who runs it by hand."""
    printed = b"""2026-11-22T02:00:00.000Z [gateway] loading configuration
2026-11-22T02:00:03.000Z Gateway failed to start: Invalid config at /srv/etc/openclaw/openclaw.json:
openclaw.json:1 \xe2\x80\x94 gateway.port: Invalid input: expected number, received string
Run "openclaw doctor --fix" to repair, then retry.
If startup is still blocked, inspect the adjacent .bak backup before restoring it.
2026-11-22T02:00:03.100Z Run "openclaw doctor --fix" to repair the config, then retry.
"""
    said = last_words(printed)
    assert "gateway.port: Invalid input: expected number" in said and "doctor" not in said
    assert hopeless(said), "its doctor is not asked in vain"
