"""The outbox of one peer: what it counts, and what it says of that; over a courier that answers as a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.clock import FixedClock

from outlast.cli.channel import _lines
from outlast.errors import PeerError, UnreachableError
from outlast.messages import Reply
from outlast.net import outbox
from outlast.net.courier import Answer
from outlast.net.outbox import Outbox
from outlast.settings import Agent, Breaker, Config, Listen, Messages, Peer, Retry
from outlast.store.events import EventLog
from outlast.store.ledger import Ledger

_DAY = 86_400.0


class _Courier:
    """Answers what it is told to: a status, or None for no answer at all."""

    def __init__(self) -> None:
        self.status: int | None = 202
        self.error: type[PeerError] = PeerError
        self.up = False
        self.looks = 0
        self.seen: list[str] = []

    async def deliver(self, peer: str, msg_id: str, body: bytes) -> Answer:
        self.seen.append(msg_id)
        if self.status is None:
            raise self.error(f"{peer} cannot be reached")
        return Answer(Reply(node=peer, status=self.status, now=0.0, reason="because"), 0.01, 0.0)

    async def alive(self, peer: str, within_s: float) -> bool:
        self.looks += 1
        return self.up


class _Scene:
    def __init__(self, root: Path) -> None:
        self.clock = FixedClock(1_795_000_000.0)
        self.courier = _Courier()
        self.ledger = Ledger(root / "outlast.db", root / "trash", self.clock, begun=False)
        self.given_up: list[tuple[str, str, str, str]] = []
        self.logs = root
        config = Config(
            node="coz",
            listen=Listen("127.0.0.1", 18999),
            agent=Agent(["/bin/true"]),
            peers={"axiom": Peer("http://127.0.0.1:18998")},
            messages=Messages(keep="7d"),
            retry=Retry(base="1s", max="60s"),
            breaker=Breaker(failures=3, cooldown="5m"),
        )
        events = EventLog(root, "coz", self.clock)
        upper: Callable[[float, float], float] = lambda _, high: high  # noqa: E731 - the longest wait that may be drawn
        self.box = Outbox(
            "axiom",
            config,
            self.ledger,
            self.courier,
            events,
            self.clock,
            upper,
            lambda *told: self.given_up.append(told),  # type: ignore[arg-type]
        )

    def queue(self, msg_id: str) -> None:
        self.ledger.enqueue("axiom", msg_id, lambda seq: str(seq).encode(), self.clock.now)

    def step(self) -> float | None:
        return asyncio.run(self.box._step())

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [line for path in self.logs.glob("*.jsonl") for line in path.read_text().splitlines()]
        return [entry for line in lines if (entry := json.loads(line))["event"] == name]


@pytest.fixture
def scene(tmp_path: Path) -> _Scene:
    """coz's outbox for axiom."""
    return _Scene(tmp_path)


def test_success_and_retries_of_the_last_hour_are_counted(scene: _Scene) -> None:
    """Two failures and then an answer are three requests, one taken, two of them again; after an hour they do not count."""
    scene.queue("task_1")
    scene.courier.status = None
    for _ in range(2):
        scene.step()
        scene.clock.now += 61
    scene.courier.status = 202
    assert scene.step() is None
    hour = scene.box.report()["hour"]
    assert (hour["tried"], hour["taken"], hour["retries"]) == (3, 1, 2)
    assert hour["success"] == pytest.approx(1 / 3) and hour["watched_s"] == 122
    scene.clock.now += 3700
    hour = scene.box.report()["hour"]
    assert (hour["tried"], hour["success"], hour["watched_s"]) == (0, None, 3600)


def test_what_waits_is_told_with_its_age_and_the_next_try(scene: _Scene) -> None:
    """While the peer is away: since when the oldest waits, and in how many seconds it is tried again."""
    scene.queue("task_1")
    scene.courier.status = None
    while scene.box.breaker.status != "open":
        scene.step()
        scene.clock.now += 61
    scene.queue("task_2")
    report = scene.box.report()
    assert report["oldest_queued"].startswith("2026-")
    assert 0 < report["next_try_s"] <= 300


def test_a_sign_of_life_is_never_lost_and_never_hurries(scene: _Scene) -> None:
    """However often a peer is heard, it is asked at most once a second; a sign that comes right after a request leads to the
    next when the second is over, not to none."""
    scene.queue("task_1")
    scene.courier.status = None
    while scene.box.breaker.status != "open":
        scene.clock.now += 61
        scene.step()
    tried = len(scene.courier.seen)
    for _ in range(3):
        scene.box.heard()
        assert scene.step() == pytest.approx(1.0) and len(scene.courier.seen) == tried
    scene.clock.now += 1.0
    scene.courier.status = 202
    assert scene.step() is None and len(scene.courier.seen) == tried + 1


def test_what_is_too_old_is_given_up_by_name(scene: _Scene) -> None:
    """A message that waited longer than messages.keep, and was tried, is taken out once; event, report and the caller name it,
    its age and why; what is younger stays."""
    scene.queue("task_coz-d1zjz7qv0001")
    scene.clock.now += 8 * _DAY
    scene.queue("task_coz-d1zjz7qv0002")
    scene.courier.status = None
    scene.step()
    scene.clock.now += 301
    scene.step()
    why = "its delivery was not confirmed within 7d (messages.keep)"
    assert scene.given_up == [("axiom", "task_coz-d1zjz7qv0001", "in doubt", why)]
    (event,) = scene.events("message.given_up")
    assert event["id"] == "task_coz-d1zjz7qv0001" and event["why"] == why and event["queued"].startswith("2026-")
    report = scene.box.report()
    assert report["given_up"] == 1 and "task_coz-d1zjz7qv0001" in report["given_up_last"]
    assert scene.ledger.queued("axiom") == 1


def test_a_clock_that_jumped_drops_nothing_that_can_be_delivered(scene: _Scene) -> None:
    """A message that looks old, because the clock jumped, is tried first, and delivered."""
    scene.queue("task_1")
    scene.clock.now += 100 * _DAY
    assert scene.step() is None
    assert scene.given_up == [] and scene.courier.seen == ["task_1"]


def test_a_channel_is_told_in_a_few_lines(scene: _Scene) -> None:
    """What people read of a channel: breaker and clock, counters, queue, last hour, what was given up."""
    scene.queue("task_1")
    scene.courier.status = 422
    scene.step()
    counters = {"sent": 1, "received": 0, "gaps": 2, "repeats": 0, "last_sent": None, "last_received": None}
    one = {**counters, "queued": 0, "breaker": "closed", "last_error": "", "skew_s": None, **scene.box.report()}
    told = "\n".join(_lines("axiom", one, scene.clock.now))
    for part in ("breaker closed", "not known", "gaps 2", "0 of 1 requests taken (0 %)", "given up since the start: 1"):
        assert part in told


def test_a_network_that_is_back_is_noticed_before_the_breaker_tries(
    scene: _Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom nobody could reach is looked for while something waits, and served when it answers; one that answers and yet takes
    nothing is not asked more often than its breaker allows."""
    monkeypatch.setattr(outbox, "_LOOK_S", 0.01)
    scene.queue("task_1")

    async def looked(times: int) -> None:
        until = scene.courier.looks + times
        while scene.courier.looks < until:
            await asyncio.sleep(0.001)

    async def life() -> None:
        running = asyncio.create_task(scene.box.run())
        try:
            scene.courier.status, scene.courier.up = None, True
            while scene.box.breaker.status != "open":
                await looked(2)
                scene.clock.now += 61
            tried = len(scene.courier.seen)
            await looked(5)
            assert len(scene.courier.seen) == tried, "it was there all the time"
            scene.courier.up = False
            await looked(3)
            scene.courier.status, scene.courier.up = 202, True
            while scene.ledger.waiting("task_1"):
                await asyncio.sleep(0.001)
        finally:
            running.cancel()

    asyncio.run(asyncio.wait_for(life(), 20))
    assert scene.box.breaker.status == "closed"


def test_a_network_that_is_back_before_the_first_look_is_noticed_too(
    scene: _Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom nobody could reach, and who answers the first time that he is looked for, is tried once more at once; where he still
    takes nothing he is left to the breaker."""
    monkeypatch.setattr(outbox, "_LOOK_S", 0.01)
    scene.queue("task_1")
    scene.courier.status, scene.courier.error = None, UnreachableError
    while scene.box.breaker.status != "open":
        scene.step()
        scene.clock.now += 61
    tried, scene.courier.up = len(scene.courier.seen), True

    async def life() -> None:
        running = asyncio.create_task(scene.box.run())
        try:
            while len(scene.courier.seen) == tried:
                await asyncio.sleep(0.001)
            scene.clock.now += 61
            until = scene.courier.looks + 5
            while scene.courier.looks < until:
                await asyncio.sleep(0.001)
            assert len(scene.courier.seen) == tried + 1
        finally:
            running.cancel()

    asyncio.run(asyncio.wait_for(life(), 20))
