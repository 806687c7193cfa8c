"""What was heard on the wire, played again: at once, out of order, after a restart, and with the clock put elsewhere."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from fault.scenes import Captured, CountingAgent, capture, envelope, extras, key
from support.live import LiveNode, pair, until
from support.needs import missing

pytestmark = pytest.mark.timeout(120)

_UNITS = [f"coz-d1zjz7qv76s{letter}" for letter in "abcdefgh"]
_DAY = 86_400


@pytest.fixture
def agent(tmp_path: Path) -> CountingAgent:
    """An agent whose runs are counted."""
    return CountingAgent(tmp_path / "agent")


@pytest.fixture
def axiom(tmp_path: Path, agent: CountingAgent) -> Iterator[LiveNode]:
    """axiom alone, not started: the tests speak for coz."""
    laid = extras(agent.path, health={"interval": "1h"}, messages={"rate": 100_000, "control_rate": 100_000})
    with pair(tmp_path, None, laid) as (_, node):
        yield node


def task(axiom: LiveNode, unit: str, seq: int, *, at: float | None = None) -> Captured:
    """A task, signed by coz."""
    body = envelope(unit, seq=seq, message={"type": "task", "unit": unit, "task": "host report"})
    return capture(key(axiom, "coz"), f"task_{unit}", body, at=at)


def note(axiom: LiveNode, number: int, *, at: float | None = None) -> Captured:
    """A note: nothing but its id says that it was here before."""
    body = envelope(f"note {number}", seq=number, message={"type": "note", "text": f"remember {number}."})
    return capture(key(axiom, "coz"), f"note_{number}", body, at=at)


def times(axiom: LiveNode, number: int) -> int:
    """How often the note is in the journal."""
    return axiom.journal().count(f"remember {number}.")


def test_replays_out_of_order_cause_nothing(axiom: LiveNode, agent: CountingAgent) -> None:
    """Messages that come last first are taken, the gap is seen, and played again in any order, hundreds of times, by many
    at once and after kill -9, each gets the answer of the first time and nothing is done twice."""
    axiom.start()
    heard = [task(axiom, unit, number) for number, unit in enumerate(_UNITS, 1)]
    heard += [note(axiom, number) for number in range(20, 24)]
    assert [one.send(axiom)[0] for one in reversed(heard)] == [202] * len(heard)
    until(lambda: all(axiom.records("CONFIRM", unit) for unit in _UNITS), what="all is done")
    before, dice = axiom.journal(), random.Random(5)
    for again in range(2):
        assert {dice.choice(heard).send(axiom)[0] for _ in range(150)} == {202}
        if not again:
            axiom.kill()
            axiom.start()
    assert axiom.journal() == before
    assert [agent.runs(unit) for unit in _UNITS] == [1] * len(_UNITS)
    channel = axiom.status()["channels"]["coz"]
    assert channel["received"] == 23 and channel["gaps"] > 0


# The loader puts the machine's folder of libraries in the place of $LIB. The program `faketime` would stand in between, and be
# killed in the place of the node.
_LIBRARY = "/usr/$LIB/faketime/libfaketime.so.1"


def begin(axiom: LiveNode, seconds: int) -> None:
    """Start the node, with a clock that is off by so much; what it measures times with is not."""
    if not [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1")]:
        missing("faketime, to put a node's clock elsewhere")
    clock = {"LD_PRELOAD": _LIBRARY, "FAKETIME": f"{seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    axiom.start(env=clock)
    since = datetime.fromisoformat(axiom.status()["since"]).timestamp()
    assert abs(since - time.time() - seconds) < 60, "the clock is not where it was put"


def restart(axiom: LiveNode, seconds: int) -> None:
    """kill -9, and a start with another clock."""
    axiom.kill()
    begin(axiom, seconds)


@pytest.mark.parametrize(
    "clocks",
    [[240], [600, 0], [-600, 0], [_DAY, 60], [400 * _DAY, 60], [-400 * _DAY, 60], [400 * _DAY, 30, 400 * _DAY, 60]],
    ids=str,
)
def test_a_clock_that_jumped_opens_no_door(axiom: LiveNode, clocks: list[int]) -> None:
    """A message that was taken is never taken again, wherever the clock goes and comes back from, though others are taken
    meanwhile; and what is fresh by the node's own clock is taken there."""
    axiom.start()
    heard = note(axiom, 1)
    assert heard.send(axiom)[0] == 202
    for number, seconds in enumerate(clocks, 2):
        restart(axiom, seconds)
        assert heard.send(axiom)[0] in {202, 401}
        # What an earlier clock remembers may be later than now; from the next second on there is no doubt.
        here = [note(axiom, 10 * number + n, at=time.time() + seconds + 1) for n in range(3)]
        assert {one.send(axiom)[0] for one in here} == {202}
        assert heard.send(axiom)[0] in {202, 401}
        assert times(axiom, 1) == 1
    axiom.kill()
    axiom.start()
    assert heard.send(axiom)[0] in {202, 401}
    assert times(axiom, 1) == 1
    assert all(axiom.journal().count(line) == 1 for line in axiom.journal().splitlines() if "remember" in line)


def test_what_is_dated_ahead_is_known_until_its_time_is_over(axiom: LiveNode) -> None:
    """A message dated almost five minutes ahead lives for ten: played again nine minutes later it is known."""
    axiom.start()
    ahead = note(axiom, 1, at=time.time() + 280)
    assert ahead.send(axiom)[0] == 202
    restart(axiom, 540)
    assert note(axiom, 2, at=time.time() + 540).send(axiom)[0] == 202
    assert ahead.send(axiom)[0] == 202
    assert times(axiom, 1) == 1
    restart(axiom, 700)
    assert ahead.send(axiom)[0] == 401
    assert times(axiom, 1) == 1
