"""How alerts reach a person: tried again, kept over restarts, and never written down where nobody is to be told."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.badjson import DEEP
from support.clock import FixedClock

from outlast.alerts import Alerts
from outlast.errors import BadInput, DurabilityError
from outlast.home import Home
from outlast.settings import Agent, AlertRules, Config, Listen
from outlast.store import durable
from outlast.store.events import EventLog
from outlast.work.notifier import Notifier, read_book, try_out
from outlast.work.posting import Posted, read_urls

URL = "json://person:canary-pass@127.0.0.1/inbox"
# Noon, wherever the test runs: quiet hours are switched off below.
NOW = 1_800_000_000.0


class Scene:
    """A node's notifier, and a network that takes messages or does not."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.home = Home(root)
        for folder in (self.home.keys, self.home.logs, self.home.unsent_alerts.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self.clock = FixedClock(NOW)
        self.events = EventLog(self.home.logs, "coz", self.clock)
        self.net = True
        self.sent: list[tuple[str, str, str]] = []
        self.tried = 0
        patch.setattr("outlast.work.notifier.post", self.post)
        self.listen(URL)
        self.start()

    async def post(self, urls: Sequence[str], title: str, body: str, kind: str) -> list[Posted]:
        """In the place of apprise."""
        self.tried += 1
        if self.net:
            self.sent.append((title, body, kind))
        return [
            Posted(f"JSON (line {n})", self.net, "" if self.net else "no connection") for n, _ in enumerate(urls, 1)
        ]

    def listen(self, *urls: str) -> None:
        """Say where alerts go."""
        self.home.alert_urls.write_text("# where to\n\n" + "".join(f"  {url}\n" for url in urls))

    def start(self) -> None:
        """As a daemon's start does; what was in memory is gone."""
        rules = AlertRules(quiet="00:00-00:00")
        config = Config(node="coz", listen=Listen("127.0.0.1", 1), agent=Agent(["/bin/true"]), alerts=rules)
        self.alerts = Alerts(self.events, self.clock)
        # Of what lies between the two the greater, so that a pause is as long as it may be.
        self.notifier = Notifier(config, self.home, self.events, self.clock, self.alerts, uniform=lambda _, most: most)

    def step(self, seconds: float = 0.0) -> None:
        """Time goes by, and the notifier looks."""
        self.clock.now += seconds
        asyncio.run(self.notifier.step())

    def over(self, name: str) -> None:
        """Two checks found it gone."""
        self.alerts.gone(name)
        self.alerts.gone(name)

    def logged(self) -> list[dict[str, Any]]:
        """All events."""
        return [json.loads(line) for path in self.home.logs.glob("*.jsonl") for line in path.read_text().splitlines()]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A node that is well, and somebody who listens."""
    return Scene(tmp_path, monkeypatch)


def test_an_alert_is_told_and_its_end(scene: Scene) -> None:
    """Each once, with apprise's word for how bad it is; the end when it was away for ten minutes."""
    scene.alerts.found("disk", "now", "the disk is full; mend: outlast clean")
    scene.step()
    scene.step(30)
    scene.over("disk")
    scene.step(30)
    scene.step(300)
    assert [(title, kind) for title, _, kind in scene.sent] == [("Outlast coz: urgent: disk", "failure")]
    scene.step(301)
    assert scene.sent[1][0] == "Outlast coz: over: disk" and scene.sent[1][2] == "success"
    scene.step(3600)
    assert len(scene.sent) == 2


def test_what_nobody_took_is_tried_again_ever_more_rarely(scene: Scene) -> None:
    """10 s, 20 s, 40 s … and at most a quarter of an hour; something urgent that is new is tried at once; all in one message then."""
    scene.net = False
    scene.alerts.found("queue", "soon", "the queue is long")
    scene.step()
    for pause in (10, 20, 40, 80, 160, 320, 640, 900, 900):
        before = scene.tried
        scene.step(pause - 1)
        assert scene.tried == before
        scene.step(1)
        assert scene.tried == before + 1
    scene.alerts.found("dust", "soon", "dust")
    scene.step(1)
    assert scene.tried == before + 1
    scene.alerts.found("fire", "now", "fire")
    scene.step(1)
    scene.step(1)
    assert scene.tried == before + 2
    assert "no connection" in scene.notifier.report()["trouble"] and scene.notifier.report()["waiting"] == 3
    scene.net = True
    scene.step(901)
    assert scene.sent[0][0] == "Outlast coz: urgent: fire, queue, dust"
    assert scene.notifier.report()["trouble"] == ""


def test_nothing_is_forgotten_over_a_start(scene: Scene) -> None:
    """What waited is told after it; what was told is not told again; its end is told an hour later where nobody looks for it."""
    scene.net = False
    scene.alerts.found("fire", "now", "fire")
    scene.step()
    scene.net = True
    scene.start()
    scene.step()
    assert [title for title, _, _ in scene.sent] == ["Outlast coz: urgent: fire"]
    scene.start()
    scene.step(30)
    scene.step(3000)
    assert len(scene.sent) == 1 and read_book(scene.home).items["fire"].over is None
    scene.step(600)
    scene.step(601)
    assert [title for title, _, _ in scene.sent[1:]] == ["Outlast coz: over: fire"]


def test_what_is_found_again_after_a_start_goes_on(scene: Scene) -> None:
    """It began when it began, and was told."""
    scene.alerts.found("fire", "now", "fire")
    scene.step()
    scene.start()
    scene.step(1000)
    scene.alerts.found("fire", "now", "fire")
    scene.step(4000)
    assert len(scene.sent) == 1 and read_book(scene.home).items["fire"].since == NOW


def test_whoever_looks_after_a_start_and_finds_nothing_ends_it(scene: Scene) -> None:
    """Then nobody waits for an hour."""
    scene.alerts.found("fire", "now", "fire")
    scene.step()
    scene.start()
    scene.over("fire")
    scene.step(1)
    scene.step(600)
    assert scene.sent[1][0] == "Outlast coz: over: fire"


def test_a_node_with_nobody_to_tell_writes_nothing(scene: Scene) -> None:
    """No file, no attempt; and when somebody is named, without a restart, they are told of what holds."""
    scene.home.alert_urls.unlink()
    scene.alerts.found("fire", "now", "fire")
    scene.step(30)
    assert scene.tried == 0 and not scene.home.unsent_alerts.exists()
    assert "outlast_alert_urls" in scene.notifier.report()["trouble"]
    assert [one["name"] for one in scene.notifier.listed()["alerts"]] == ["fire"]
    scene.listen(URL)
    scene.step(30)
    assert scene.sent[0][0] == "Outlast coz: urgent: fire"


def test_an_idle_node_writes_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The book is replaced when it changes, not when it is looked at."""
    scene.alerts.found("fire", "now", "fire")
    scene.step()

    def replace(*_: object, **__: object) -> bool:
        raise AssertionError("a write")

    monkeypatch.setattr(durable, "replace", replace)
    for _ in range(50):
        scene.step(30)


def test_a_full_disk_keeps_nobody_from_being_told(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written down is told all the same, and not again; it is written once that works."""
    real = durable.replace

    def replace(*_: object, **__: object) -> bool:
        raise DurabilityError("no room")

    monkeypatch.setattr(durable, "replace", replace)
    scene.alerts.found("disk", "now", "full")
    scene.step()
    scene.step(30)
    assert len(scene.sent) == 1
    monkeypatch.setattr(durable, "replace", real)
    scene.step(30)
    assert read_book(scene.home).items["disk"].told == NOW


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b'{"items": 3}', b'{"items": {}, "more": 1}', DEEP.encode()]
)
def test_a_damaged_book_is_begun_anew(scene: Scene, content: bytes) -> None:
    """Then what holds is told again, and nothing else is lost: the damaged one is in the trash, and an event says so."""
    scene.home.unsent_alerts.write_bytes(content)
    scene.start()
    [aside] = scene.home.trash.iterdir()
    log = "".join(path.read_text() for path in scene.home.logs.iterdir())
    assert aside.read_bytes() == content and "alerts.forgotten" in log and aside.name in log
    scene.alerts.found("fire", "now", "fire")
    scene.step()
    assert scene.sent and read_book(scene.home).items["fire"].told


def test_what_is_known_where_nobody_can_be_told(scene: Scene) -> None:
    """Without a URL a person knows what they read in the list all the same, also over a start."""
    scene.listen()
    scene.alerts.found("gap 5", "soon", "records are lost")
    scene.step()
    assert [one["name"] for one in scene.notifier.listed()["alerts"]] == ["gap 5"]
    scene.notifier.orders()["alert/known"](b'{"name": "gap 5"}')
    scene.start()
    scene.alerts.found("gap 5", "soon", "records are lost")
    scene.step()
    assert scene.alerts.shown == [] and not scene.sent


def test_what_a_person_knows_of_is_not_shown_nor_repeated(scene: Scene) -> None:
    """Also over a start; its end is told, and should it come back it is news. What is not there cannot be known."""
    scene.alerts.found("keys", "soon", "old")
    scene.step()
    orders = scene.notifier.orders()
    orders["alert/known"](b'{"name": "keys"}')
    assert scene.alerts.shown == [] and [one.name for one in scene.alerts.raised] == ["keys"]
    scene.start()
    scene.alerts.found("keys", "soon", "old")
    scene.step(3 * 86_400)
    assert len(scene.sent) == 1 and scene.alerts.shown == []
    with pytest.raises(BadInput, match="one of: keys"):
        orders["alert/known"](b'{"name": "kyes"}')
    scene.over("keys")
    scene.step(1)
    scene.step(601)
    scene.alerts.found("keys", "soon", "old")
    scene.step(1)
    assert [title for title, _, _ in scene.sent[1:]] == ["Outlast coz: over: keys", "Outlast coz: keys"]
    assert scene.alerts.shown


def test_no_event_and_no_report_holds_a_url(scene: Scene) -> None:
    """Nor does the book: what is told of a URL is its service and its line."""
    scene.net = False
    scene.alerts.found("fire", "now", "fire")
    scene.step()
    scene.net = True
    scene.step(10)
    told = json.dumps([scene.logged(), scene.notifier.report(), scene.notifier.listed()])
    assert "canary-pass" not in told + scene.home.unsent_alerts.read_text()
    assert [one["to"] for one in scene.logged() if one["event"] == "alert.told"] == [["JSON (line 1)"]]
    assert stat.S_IMODE(scene.home.unsent_alerts.stat().st_mode) == 0o600


def test_a_file_of_urls_that_cannot_be_read_is_said(scene: Scene) -> None:
    """With the mend, and without its content; what waits is told once it can be."""
    scene.home.alert_urls.write_bytes(b"json://canary\xff\n")
    scene.alerts.found("fire", "now", "fire")
    scene.step()
    assert "UTF-8" in scene.notifier.report()["trouble"] and "canary" not in scene.notifier.report()["trouble"]
    scene.listen(URL)
    scene.step(30)
    assert scene.sent


def test_an_alert_that_becomes_urgent_begins_anew_but_for_its_time(scene: Scene) -> None:
    """With a text of its own, an event, and a message; the other way round nothing changes until it is over."""
    scene.alerts.found("disk", "soon", "80 %")
    scene.step(60)
    scene.alerts.found("disk", "now", "99 %")
    scene.alerts.found("disk", "soon", "90 %")
    scene.step(60)
    (alert,) = scene.alerts.raised
    assert (alert.urgency, alert.text, alert.since[-5:]) == ("now", "99 %", ".000Z")
    assert [one["text"] for one in scene.logged() if one["event"] == "alert"] == ["80 %", "99 %"]
    assert [title for title, _, _ in scene.sent] == ["Outlast coz: disk", "Outlast coz: urgent: disk"]
    assert read_book(scene.home).items["disk"].since == NOW


def test_a_trial_goes_to_every_url_and_needs_one(scene: Scene) -> None:
    """Whatever the hour and the limits; where there is none, that is said with the mend."""
    scene.listen(URL, "ntfy://canary")
    found = asyncio.run(try_out(scene.home, "coz", "now"))
    assert found["ok"] and [one["to"] for one in found["urls"]] == ["JSON (line 1)", "JSON (line 2)"]
    assert scene.sent == [("Outlast coz: test", scene.sent[0][1], "failure")]
    scene.listen()
    with pytest.raises(BadInput, match="outlast_alert_urls"):
        asyncio.run(try_out(scene.home, "coz", "soon"))
    assert read_urls(scene.home.root / "nowhere") == []


def test_what_is_not_declared_any_more_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alert of a service that the inventory names no more is over with the next start, and nobody is told of it again; one of
    the node's own stays."""
    scene = Scene(tmp_path, monkeypatch)
    for name in ("service flap", "disk"):
        scene.alerts.found(name, "now", "broken")
    scene.step(1.0)
    assert {"service flap", "disk"} <= set(read_book(scene.home).items)
    scene.start()
    assert [one["name"] for one in scene.notifier.listed()["alerts"]] == ["disk"]


def test_why_nobody_was_told_yet_is_said(scene: Scene) -> None:
    """No URL, a service that does not take it: each alert that waits says why."""

    def untold() -> list[str]:
        return [one["untold"] for one in scene.notifier.listed()["alerts"]]

    scene.home.alert_urls.unlink()
    scene.alerts.found("disk", "soon", "the disk is full")
    scene.step()
    assert "set outlast_alert_urls" in untold()[0]
    scene.listen(URL)
    scene.net = False
    scene.step()
    assert untold() == ["JSON (line 1): no connection"]
    scene.net = True
    scene.step(1000.0)
    assert untold() == [""]
