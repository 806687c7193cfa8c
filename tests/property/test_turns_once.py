"""A message for OpenClaw's agent, whatever is killed: its turn is begun once, or what became of it is said to be in doubt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from outlast.core.turns import KNOWN_S, TAKEN_S, Seen, Turn, decide

DIGEST = "d"


@dataclass
class _Gateway:
    """What matters of OpenClaw: keys in memory, sessions on its disk, and turns that begin once their session is there."""

    started: float = 1_000.0
    keys: dict[str, str] = field(default_factory=dict)
    admitted: bool = False
    session: str = ""
    begun: int = 0

    def post(self) -> str:
        if "key" not in self.keys:
            self.keys["key"] = f"run-{self.started}"
            self.admitted = True
        return self.keys["key"]

    def write(self) -> None:
        """The session is written."""
        self.session = self.session or "new"

    def begin(self) -> None:
        """It says that its turn runs, then the model is asked."""
        self.admitted, self.session = False, "running"
        self.begun += 1

    def restart(self, now: float) -> None:
        self.started, self.keys, self.admitted = now, {}, False


class Once(RuleBasedStateMachine):
    """The node follows the message step by step; node and gateway are killed at any moment; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 2_000.0
        self.gateway = _Gateway()
        self.record: Turn | None = None
        self.step = ""
        self.over = ""

    @precondition(lambda self: not self.over)
    @rule()
    def look(self) -> None:
        """It looks, and decides."""
        seen = Seen(self.gateway.started, self.gateway.session)
        step = decide(self.record, DIGEST, seen, self.now)
        self.step = step.what
        if step.what not in ("post", "wait"):
            self.over = step.what
        if step.what == "post":
            intent = self.record.intent if self.record else self.now
            self.record = Turn("u", DIGEST, intent, self.gateway.started)

    @precondition(lambda self: self.step == "post")
    @rule(answered=st.booleans())
    def hand_over(self, answered: bool) -> None:
        """The gateway takes it; its answer comes and is written down, or the node is killed before that."""
        run = self.gateway.post()
        if answered and self.record is not None:
            self.record = replace(self.record, run=run, accepted=self.now)
        self.step = ""

    @rule()
    def node_is_killed(self) -> None:
        """What it meant to do next is forgotten."""
        self.step = ""

    @rule()
    def gateway_is_killed(self) -> None:
        """What it held in memory is forgotten. It comes back long enough after for its start to be another."""
        self.now += 60.0
        self.gateway.restart(self.now)
        # What was decided before is an order to another process now: the node's connection is gone.
        self.step = ""

    @precondition(lambda self: self.gateway.admitted)
    @rule()
    def session_is_written(self) -> None:
        """What it admitted has a session."""
        self.gateway.write()

    @precondition(lambda self: self.gateway.admitted and self.gateway.session)
    @rule()
    def turn_begins(self) -> None:
        """What it admitted begins."""
        self.gateway.begin()

    @precondition(lambda self: self.gateway.session == "running")
    @rule(status=st.sampled_from(["done", "failed", "killed", "timeout"]))
    def turn_ends(self, status: str) -> None:
        """It ends, also one that was taken up again."""
        self.gateway.session = status

    @rule(seconds=st.floats(0.1, 30.0))
    def time_passes(self, seconds: float) -> None:
        """Nothing happens for a while."""
        self.now += seconds

    @invariant()
    def begun_once(self) -> None:
        """No message is begun twice; what is called done or failed was begun; without a loss nothing is in doubt."""
        assert self.gateway.begun <= 1
        if self.over in ("done", "failed"):
            assert self.gateway.begun == 1
        if self.over == "in doubt":
            assert self.record is not None and self.record.run and not self.gateway.session


TestOnce = Once.TestCase

turns = st.builds(
    Turn,
    unit=st.just("u"),
    digest=st.sampled_from([DIGEST, "other"]),
    intent=st.floats(0, 1e6),
    gateway=st.floats(0, 1e6),
    run=st.sampled_from(["", "run"]),
    accepted=st.floats(0, 1e6),
    ended=st.sampled_from(["", "done", "failed", "in doubt", "refused"]),
)
sights = st.builds(
    Seen,
    started=st.floats(0, 1e6),
    status=st.sampled_from(["", "new", "running", "done", "failed", "killed", "timeout", "other"]),
    archived=st.booleans(),
)


@given(turn=st.none() | turns, seen=sights, now=st.floats(0, 2e6))
def test_never_again_what_may_have_begun(turn: Turn | None, seen: Seen, now: float) -> None:
    """Nothing is handed over whose turn began, or may have, that is over, or is another message; every end has a reason."""
    step = decide(turn, DIGEST, seen, now)
    if step.what == "post":
        assert seen.status in ("", "new") and not seen.archived
        assert turn is None or (not turn.ended and turn.digest == DIGEST)
        assert turn is None or not turn.run or (seen.status == "new" and seen.started != turn.gateway)
    if step.what in ("failed", "in doubt") and not (turn and turn.ended):
        assert step.why


@given(turn=st.none() | turns, now=st.floats(0, 2e6))
def test_done_stays_done(turn: Turn | None, now: float) -> None:
    """A session that is done and was put away since is done: that it was put away undoes nothing."""
    turn = turn and replace(turn, digest=DIGEST, ended="")
    assert decide(turn, DIGEST, Seen(1.0, "done", archived=True), now).what == "done"


@given(turn=turns, now=st.floats(0, 2e6))
def test_taken_and_gone_is_in_doubt(turn: Turn, now: float) -> None:
    """What a gateway took that is gone since, and of which there is no session, is in doubt: not done, not failed, not again."""
    taken = replace(turn, digest=DIGEST, run="run", ended="")
    step: Any = decide(taken, DIGEST, Seen(taken.gateway + 60.0), now)
    assert step.what == "in doubt"
    assert decide(taken, DIGEST, Seen(taken.gateway), taken.accepted + TAKEN_S + 1).what == "in doubt"
    meant = replace(taken, run="")
    assert decide(meant, DIGEST, Seen(meant.gateway + 60.0), meant.intent + KNOWN_S + 1).what == "in doubt"
