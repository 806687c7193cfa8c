"""What the watch raises, and takes back: siblings by whether they may sleep, channels, the heartbeat, gaps, studies, long days."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.badjson import DEEP
from support.clock import FixedClock

from outlast.alerts import Alerts
from outlast.core.gaps import Gap
from outlast.core.state import State, Unit
from outlast.home import Home
from outlast.net.courier import Courier
from outlast.settings import Agent, AlertRules, Config, Listen, Peer
from outlast.store.events import EventLog
from outlast.upkeep import Around
from outlast.work.notifier import Notifier
from outlast.work.watch import Watch

DAY = 86_400.0
# Noon of some day, in whatever zone this runs.
NOON = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))


class Scene:
    """A node with two siblings, of which coz may sleep."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        for folder in (
            self.home.logs,
            self.home.memory,
            self.home.skills,
            self.home.unsent_alerts.parent,
            self.home.keys,
        ):
            folder.mkdir(parents=True, exist_ok=True)
        self.home.alert_urls.write_text("json://127.0.0.1:1/\n")
        self.clock = FixedClock(NOON)
        self.hour = {"tried": 0, "taken": 0}
        self.lost = False
        self.asked = 0
        self.day: dict[str, Any] = {"done": 0, "failed": 0}
        self.state = State(node="axiom")
        self.heard = {"coz": NOON, "pi": NOON}
        self.start()

    def start(self) -> None:
        """As a daemon's start does."""
        peers = {name: Peer("http://127.0.0.1:1") for name in ("coz", "pi")}
        rules = AlertRules(sleeps=["coz"], quiet="00:00-00:00")
        config = Config("axiom", Listen("127.0.0.1", 1), Agent(["/bin/true"]), peers=peers, alerts=rules)
        events = EventLog(self.home.logs, "axiom", self.clock)
        self.alerts = Alerts(events, self.clock)
        self.notifier = Notifier(config, self.home, events, self.clock, self.alerts)
        self.started = self.clock.now
        around = SimpleNamespace(
            config=config, home=self.home, events=events, clock=self.clock, alerts=self.alerts,
            memory=self, silence=self.silence, status=self.status,
        )  # fmt: skip
        courier = SimpleNamespace(lost=self.is_lost)
        report = {"subagents": {"day": self.day}}
        self.watch = Watch(cast(Around, around), self.notifier, cast(Courier, courier), lambda: report)

    def silence(self) -> dict[str, float]:
        """As health has it: from the own start on."""
        return {peer: self.clock.now - max(at, self.started) for peer, at in self.heard.items()}

    def status(self) -> dict[str, Any]:
        """As far as it is looked at."""
        return {"channels": dict.fromkeys(self.heard, {"hour": self.hour})}

    async def is_lost(self, _: str) -> bool:
        """In the place of a look at the sibling's port."""
        self.asked += 1
        return self.lost

    def look(self, seconds: float = 30.0, *, hears: tuple[str, ...] = ()) -> list[str]:
        """Time goes by, at the pace of checks; the names of what is raised."""
        for _ in range(max(1, int(seconds // 600))):
            self.clock.now += min(seconds, 600.0)
            for peer in hears:
                self.heard[peer] = self.clock.now
            asyncio.run(self.watch.look())
        return [one.name for one in self.alerts.raised]

    def text(self, name: str) -> str:
        """What is said of it."""
        return next(one.text for one in self.alerts.raised if one.name == name)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A node that is well."""
    return Scene(tmp_path)


def test_a_sibling_that_may_sleep_is_never_news(scene: Scene) -> None:
    """F2: however long, and whether or not anything comes back."""
    scene.lost = True
    assert scene.look(9 * DAY, hears=("pi",)) == []


def test_a_sibling_without_power_is_told_after_a_day(scene: Scene) -> None:
    """F1: not before, and no longer than until it is heard; nothing is asked of it once it is told."""
    assert scene.look(DAY - 600, hears=("coz",)) == []
    assert scene.look(1200, hears=("coz",)) == ["silent pi"]
    asked = scene.asked
    scene.look(6000)
    assert scene.asked == asked
    assert scene.look(60, hears=("pi",)) == ["silent pi"]
    assert scene.look(60, hears=("pi",)) == []


def test_a_partition_is_told_in_work_hours_and_holds_at_night(scene: Scene) -> None:
    """F3: after an hour at noon; it is not over because the day is."""
    scene.lost = True
    assert scene.look(3000) == []
    assert scene.look(1200) == ["silent pi"]
    assert "network" in scene.text("silent pi")
    assert scene.look(9 * 3600) == ["silent pi"]


def test_silence_goes_on_over_a_restart(scene: Scene) -> None:
    """A node that is restarted every twenty hours says all the same when a day is over; and what was told holds, at night too."""
    scene.look(20 * 3600)
    scene.start()
    assert scene.look(3600) == []
    assert scene.look(4 * 3600) == ["silent pi"]
    asyncio.run(scene.notifier.step())
    scene.start()
    assert scene.look(2 * 3600) == ["silent pi"]


def test_a_channel_is_judged_where_the_sibling_was_there(scene: Scene) -> None:
    """Not in the hour after it woke: what failed while it slept is no fault of the channel."""
    scene.hour = {"tried": 20, "taken": 4}
    scene.look(7200)
    assert scene.look(3000, hears=("coz", "pi")) == []
    assert scene.look(1200, hears=("coz", "pi")) == ["channel coz", "channel pi"]
    scene.hour = {"tried": 20, "taken": 16}
    assert scene.look(1200, hears=("coz", "pi")) == []


def test_a_late_heartbeat_is_told(scene: Scene) -> None:
    """By more than a minute; the next one that comes in time is the end of it."""
    scene.watch.late_s = 59.0
    assert scene.look() == []
    scene.watch.late_s = 61.0
    assert scene.look() == ["heartbeat"]
    scene.watch.late_s = 0.0
    assert scene.look() == ["heartbeat"] and scene.look() == []


def test_sub_agents_that_fail_are_told(scene: Scene) -> None:
    """As their part counts them over a day."""
    scene.day.update(done=2, failed=3)
    assert scene.look() == ["sub-agents"]
    scene.day.update(done=7)
    scene.look()
    assert scene.look() == []


def test_a_gap_holds_until_it_is_back(scene: Scene) -> None:
    """F7: git is not there, so nobody knows what was in it."""
    scene.state = State(node="axiom", gaps=(Gap(4, 9),))
    assert scene.look() == ["gap 4"]
    scene.state = State(node="axiom")
    scene.look()
    assert scene.look() == []


def test_a_study_that_stands_still_is_told(scene: Scene) -> None:
    """Since when it is active is kept over restarts; without one, nothing is expected."""
    assert scene.look(3 * DAY, hears=("coz", "pi")) == []
    (scene.home.skills / "study.json").write_text('{"at": "2026-11-21T12:00:00Z", "active": true}')
    assert scene.look(DAY, hears=("coz", "pi")) == []
    scene.start()
    assert scene.look(DAY, hears=("coz", "pi")) == ["study"]
    today = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(scene.clock.now))
    done = Unit(kind="step", peer="", what="study: raft", since=today, status="done", ended=today)
    scene.state = State(node="axiom", units={"axiom-a": done, "axiom-b": done})
    assert scene.look(1200, hears=("coz", "pi")) == []
    scene.state = State(node="axiom")
    assert scene.look(1200, hears=("coz", "pi")) == ["study"]
    (scene.home.skills / "study.json").write_text('{"active": false}')
    assert scene.look(1200, hears=("coz", "pi")) == []


@pytest.mark.parametrize(
    "content", ["", "[]", '{"active": "yes"}', "\0", '{"active": true, "at": ', DEEP, f'{{"active":{DEEP}}}']
)
def test_a_study_is_active_where_its_file_says_so(scene: Scene, content: str) -> None:
    """An agent that writes something else expects nothing."""
    (scene.home.skills / "study.json").write_text(content)
    assert scene.look(3 * DAY, hears=("coz", "pi")) == []


def test_a_day_that_cannot_be_compacted_is_told(scene: Scene) -> None:
    """One that is over 100 KB for an hour: the runtime has tried by then."""
    (scene.home.memory / "2026-11-21.md").write_text("x" * 200_000)
    assert scene.look(3000, hears=("coz", "pi")) == []
    assert scene.look(1800, hears=("coz", "pi")) == ["daily file"]
    (scene.home.memory / "2026-11-21.md").write_text("x")
    assert scene.look(1200, hears=("coz", "pi")) == []
