"""What an agent of OpenClaw is told that is no task: in order, over any restart, bounded, and what was dropped is named."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given
from support.gatelike import Gatelike

from outlast.alerts import Alerts
from outlast.clock import SystemClock
from outlast.config import load_config
from outlast.core import feeding
from outlast.core.feeding import AGE_S, MOST, TEXT_BYTES, Book
from outlast.core.modes import Standing
from outlast.openclaw.feed import Feed
from outlast.store.events import EventLog
from outlast.store.memory import Memory
from outlast.upkeep import Around


class Scene:
    """axiom, without its runtime, and a gateway. ``standing``: its mode."""

    def __init__(self, root: Path) -> None:
        self.gate, self.clock, self.standing = Gatelike(root / "axiom"), SystemClock(), Standing()
        home = self.gate.home
        for folder in (home.memory, home.logs, home.state_file.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = self.gate.place.settings
        config = {
            "node": "axiom",
            "listen": {"host": "127.0.0.1", "port": 1},
            "agent": {"command": ["/bin/true"]},
            "openclaw": {"release": settings.release, "port": settings.port, "agent": "axiom"},
        }
        home.config.write_text(yaml.safe_dump(config))
        events = EventLog(home.logs, "axiom", self.clock)
        self.memory, self.alerts = Memory(home, "axiom", self.clock), Alerts(events, self.clock)
        none = cast(Any, None)
        self.around = Around(
            load_config(home.config), home, self.memory, none, events, self.clock, self.alerts,
            lambda: self.standing, dict, dict,
        )  # fmt: skip
        self.feed = self.start()

    def start(self) -> Feed:
        """As at a start of the node."""
        assert self.around.config.openclaw is not None
        self.feed = Feed(self.around, self.around.config.openclaw)
        return self.feed

    def step(self) -> bool:
        """Look, and tell."""
        return asyncio.run(self.feed.step())

    def texts(self) -> list[str]:
        """What the gateway was given."""
        return [body["text"] for path, _, body in self.gate.posted if path == "/hooks/wake"]

    def turn(self) -> None:
        """The agent's main session takes a turn now."""
        self.gate.sessions["agent:axiom:main"] = {"status": "done", "startedAt": self.clock.time() * 1000}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A node with a gateway that runs."""
    scene = Scene(tmp_path)
    with scene.gate:
        yield scene


def test_notes_and_escalations(scene: Scene) -> None:
    """Notes of peers and services, escalations and urgent alerts are one message, in order; what was before, and our own, is not."""
    scene.memory.note("mode", "normal: all is well")
    scene.memory.note_all([("n-1", "from coz: the disk is new"), ("n-2", "to coz: thanks")])
    scene.memory.note("subagents", "axiom-1 failed 3 times, its task is yours: sum up (exit 1)")
    scene.alerts.found("part jobs", "now", "the part jobs failed; mend: look")
    scene.alerts.found("job mails", "soon", "mails failed")
    scene.alerts.found("openclaw", "now", "the gateway is down")
    assert scene.step() and not scene.step()
    (text,) = scene.texts()
    assert text.splitlines() == [
        "[outlast 1] from coz: the disk is new",
        "[outlast 2] axiom-1 failed 3 times, its task is yours: sum up (exit 1)",
        "[outlast 3] alert: the part jobs failed; mend: look",
    ]
    ((_, headers, body),) = scene.gate.posted
    assert body["agentId"] == "axiom" and headers["idempotency-key"] == "outlast-feed-1-3"


def test_what_was_before_is_no_news(tmp_path: Path) -> None:
    """The first start with an OpenClaw tells nothing of what the journal held already."""
    scene = Scene(tmp_path)
    scene.memory.note("n-1", "from coz: long ago")
    scene.start()
    with scene.gate:
        assert not scene.step() and not scene.texts()


def test_gateway_away(scene: Scene) -> None:
    """While the gateway is away all waits, over a start of the node as well, and is told when it is back, in order, once."""
    scene.gate.down()
    scene.memory.note("n-1", "from coz: one")
    assert not scene.step() and "cannot be reached" in scene.feed.report()["trouble"]
    scene.memory.note("n-2", "from coz: two")
    assert not scene.step()
    scene.start()
    scene.gate.up()
    assert scene.step()
    scene.start()
    assert not scene.step()
    assert scene.texts() == ["[outlast 1] from coz: one\n[outlast 2] from coz: two"]
    assert scene.feed.report() == {"waiting": 0, "given": 2, "dropped": 0, "trouble": ""}


def test_gateway_forgets(scene: Scene) -> None:
    """What the gateway held in memory when it was killed is told again, under the same number; what a turn took up is not."""
    scene.memory.note("n-1", "from coz: one")
    assert scene.step()
    scene.turn()
    scene.memory.note("n-2", "from coz: two")
    assert scene.step()
    scene.gate.down()
    scene.gate.up()
    assert scene.step()
    assert scene.texts() == ["[outlast 1] from coz: one", "[outlast 2] from coz: two", "[outlast 2] from coz: two"]
    scene.turn()
    assert not scene.step() and scene.feed.report()["given"] == 0


def test_no_turn_takes_it_up() -> None:
    """What was given and no turn took up is not forgotten, however long that is: a gateway that is started anew is given it again."""
    book = feeding.add(Book(), ["alert: the door is open"], 1000.0)
    book = feeding.given(book, feeding.waiting(book), 1.0, 1000.0)
    book = feeding.add(feeding.seen(book, 1.0, 0.0), ["later"], 1000.0 + AGE_S - 1)
    assert [item.number for item in feeding.waiting(feeding.seen(book, 5000.0, 0.0))] == [1, 2]


def test_refused(scene: Scene) -> None:
    """A refusal is said, and what waits stays."""
    scene.memory.note("n-1", "from coz: one")
    scene.gate.refuse = [(401, b"Unauthorized", {})]
    assert not scene.step()
    assert "do not take our token" in scene.feed.report()["trouble"] and scene.feed.report()["waiting"] == 1
    assert scene.step() and scene.feed.report()["trouble"] == ""


def test_maintenance(scene: Scene) -> None:
    """In maintenance and emergency nobody is woken up; it waits."""
    scene.standing = Standing(mode="maintenance")
    scene.memory.note("n-1", "from coz: one")
    assert not scene.step() and not scene.gate.posted
    scene.standing = Standing()
    assert scene.step()


def test_record_that_cannot_be_read(scene: Scene) -> None:
    """A damaged record is set aside; the node goes on from now."""
    scene.memory.note("n-1", "from coz: one")
    assert scene.step()
    (scene.gate.place.turns / "feed.json").write_text("{")
    scene.start()
    assert not scene.step() and len(scene.texts()) == 1
    assert list(scene.around.home.trash.glob("*feed.json"))


texts = st.lists(st.text("abc ", min_size=1, max_size=300), max_size=60)


@given(st.lists(st.tuples(texts, st.floats(0, AGE_S / 3), st.booleans()), max_size=12))
def test_in_order_and_bounded(rounds: list[tuple[list[str], float, bool]]) -> None:
    """Whatever comes, and however long nobody takes it: numbers rise, each line is told once or named as dropped."""
    book, now, told, dropped = Book(), 1e9, list[int](), 0
    for news, passes, there in rounds:
        now += passes
        book = feeding.add(book, news, now)
        assert len(book.items) <= MOST and all(now - item.since <= AGE_S for item in book.items)
        if there and (items := feeding.waiting(book)):
            text = feeding.message(book, items)
            assert len(items) == 1 or len(text.encode()) <= TEXT_BYTES + 200
            dropped += book.dropped[2]
            assert ("were dropped" in text) == bool(book.dropped[2])
            book = feeding.given(book, items, 1.0, now)
            told += [item.number for item in items]
            book = feeding.seen(book, 1.0, now + 0.1)
    assert told == sorted(set(told))
    waiting = [item.number for item in book.items if not item.given]
    assert len(told) + len(waiting) + dropped + book.dropped[2] == book.last
