"""How peers are asked how they are: only while somebody looks, seldom, and never so that an older one suffers from it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.clock import FixedClock
from support.doorway import Doorway, envelope, signed

from outlast.core.overview import MOST_BYTES, Overview
from outlast.errors import PeerError
from outlast.messages import Reply, decode
from outlast.net.courier import Answer
from outlast.net.neighbours import Neighbours

NOON = 1_795_262_400.0
VIEW = Overview("axiom", "1.0", "2026-11-21T05:09:07.123Z", True, "normal")


class Peer:
    """A peer that answers as it is told to."""

    def __init__(self) -> None:
        self.answer: Reply | PeerError = Reply("axiom", 200, NOON, overview=VIEW)
        self.asked: list[str] = []

    async def deliver(self, peer: str, msg_id: str, body: bytes) -> Answer:
        """Take the question."""
        assert peer == "axiom" and type(decode(body).message).__name__ == "Status"
        self.asked.append(msg_id)
        await asyncio.sleep(0)
        if isinstance(self.answer, PeerError):
            raise self.answer
        return Answer(self.answer, 0.01, 0.0)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOON)


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def neighbours(peer: Peer, clock: FixedClock) -> Neighbours:
    return Neighbours("coz", ["axiom"], peer, clock)


def look(neighbours: Neighbours, times: int = 1) -> None:
    """Somebody looks, several times at once."""

    async def looked() -> None:
        for _ in range(times):
            neighbours.look()
        await neighbours.settle()

    asyncio.run(looked())


def test_nobody_is_asked_before_somebody_looks(neighbours: Neighbours, peer: Peer) -> None:
    """And then once, however many look; every question has an id of its own."""
    assert neighbours.told["axiom"].state == "asking" and not peer.asked
    look(neighbours, 5)
    look(neighbours, 5)
    assert len(peer.asked) == 1 and peer.asked[0].startswith("status_")
    told = neighbours.told["axiom"]
    assert (told.state, told.at, told.overview) == ("told", NOON, VIEW)


def test_a_peer_is_asked_less_and_less_often_while_nothing_changes(
    neighbours: Neighbours, peer: Peer, clock: FixedClock
) -> None:
    """Every 5 s at most, every 30 s at least, and every 5 s again once it said something new."""
    gaps, last = [], 0.0
    for second in range(200):
        before = len(peer.asked)
        look(neighbours)
        if len(peer.asked) > before:
            gaps.append(second - last)
            last = second
            if second > 120:
                peer.answer = Reply("axiom", 200, NOON, overview=msgspec.structs.replace(VIEW, disk=float(second) / 10))
        clock.now += 1.0
    assert gaps[:7] == [0, 5, 10, 20, 30, 30, 30]
    assert gaps[-3:] == [5, 5, 5] and min(gaps[1:]) == 5 and max(gaps) == 30


def test_a_peer_that_falls_silent_is_shown_as_it_was_with_the_moment(
    neighbours: Neighbours, peer: Peer, clock: FixedClock
) -> None:
    """And why it does not answer; once it does, that is forgotten."""
    look(neighbours)
    peer.answer = PeerError("axiom cannot be reached")
    clock.now += 6
    look(neighbours)
    told = neighbours.told["axiom"]
    assert (told.state, told.why, told.at, told.overview) == ("silent", "axiom cannot be reached", NOON, VIEW)
    peer.answer = Reply("axiom", 200, NOON, overview=VIEW)
    clock.now += 6
    look(neighbours)
    assert (neighbours.told["axiom"].state, neighbours.told["axiom"].at) == ("told", NOON + 12)


def test_a_peer_of_an_older_version_is_hardly_asked(neighbours: Neighbours, peer: Peer, clock: FixedClock) -> None:
    """Each question that it refuses takes from the rate of our work there: two in twenty minutes, not two hundred."""
    peer.answer = Reply("axiom", 422, NOON, "schema: Invalid value 'status' - at `$.message.type`")
    for _ in range(1199):
        look(neighbours)
        clock.now += 1.0
    assert len(peer.asked) == 2
    assert neighbours.told["axiom"].state == "older" and "upgrade" in neighbours.told["axiom"].why


@pytest.mark.parametrize("status", [429, 503])
def test_a_peer_that_asks_for_patience_gets_it(neighbours: Neighbours, peer: Peer, status: int) -> None:
    """It is not told apart from one that is silent, but by its reason."""
    peer.answer = Reply("axiom", status, NOON, "too many messages", 7)
    look(neighbours)
    assert (neighbours.told["axiom"].state, neighbours.told["axiom"].why) == ("silent", "too many messages")


# The other side: what a node answers that is asked.

ASKED = envelope({"type": "status"}, 0, channel="control")


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Doorway]:
    made = Doorway(tmp_path)
    yield made
    made.close()


def test_a_node_tells_how_it_is_and_nothing_is_recorded(door: Doorway) -> None:
    """A page that is open for weeks must not push what an audit needs out of the record, nor fill the log."""
    for number in range(20):
        (answer,) = door.send(signed(ASKED, f"status_{number}"))
        assert answer.status == 200
    reply = msgspec.json.decode(answer.body, type=Reply)
    assert reply.overview is not None and (reply.overview.node, reply.overview.mode) == ("axiom", "normal")
    assert len(answer.body) < MOST_BYTES + 500
    assert door.recorded() == []
    events = "".join(path.read_text() for path in door.home.logs.glob("2*.jsonl"))
    assert events.count('"status.accepted"') == 1


def test_a_question_is_of_the_control_lane(tmp_path: Path) -> None:
    """It takes nothing from the rate of work, and its id can bring nothing else in there."""
    door = Doorway(tmp_path, messages={"rate": 1, "control_rate": 3})
    try:
        assert door.statuses(*(signed(ASKED, f"status_{number}") for number in range(4))) == [200, 200, 200, 429]
        assert door.statuses(signed(envelope({"type": "note", "text": "x"}), "note_1")) == [202]
    finally:
        door.close()
    door = Doorway(tmp_path / "other")
    try:
        assert door.statuses(signed(envelope({"type": "note", "text": "x"}), "status_1")) == [422]
        assert door.statuses(signed(envelope({"type": "status", "more": 1}, 0), "status_2")) == [422]
        assert door.statuses(signed(ASKED, "status_3", key=b"x" * 32)) == [401]
    finally:
        door.close()


def test_a_repeated_question_is_answered_without_telling_anything(door: Doorway) -> None:
    """Who overheard one learns nothing new by it."""
    first, again = (door.send(signed(ASKED, "status_1"))[0] for _ in range(2))
    assert first.status == again.status == 200
    assert msgspec.json.decode(again.body, type=Reply).overview is None
