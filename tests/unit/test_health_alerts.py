"""What the heartbeat does about the disk, and what a person is told: an alert that begins once, and ends."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from support.clock import FixedClock

from outlast.alerts import Alerts, Urgency
from outlast.config import load_config
from outlast.errors import BadInput, DurabilityError
from outlast.health import Health
from outlast.home import Home
from outlast.local import Local
from outlast.net.courier import Courier
from outlast.store import durable, heartbeat

NOW = 1_800_000_000.0


class Scene:
    """One node's health, on a disk that is as full as the test says."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.home = Home(root / "coz")
        for folder in (self.home.config.parent, self.home.lock.parent):
            folder.mkdir(mode=0o700, parents=True)
        content = {"node": "coz", "listen": {"host": "127.0.0.1", "port": 1}, "agent": {"command": ["/bin/true"]}}
        self.home.config.write_text(yaml.safe_dump({**content, "clean": {"ballast": "1MiB"}}))
        self.clock = FixedClock(NOW)
        self.percent = 50.0
        self.keys: tuple[Urgency, str] | None = None
        patch.setattr("outlast.store.disk.usage", self.usage)
        self.local: Local | None = None
        self.health = self.start()

    def usage(self, _: Path) -> Any:
        """What the disk would say."""
        free = int((100 - self.percent) * 10**8)
        return type("Usage", (), {"total": 10**10, "used": 10**10 - free, "free": free, "percent": self.percent})

    def start(self) -> Health:
        """As a daemon's start does."""
        self.stop()
        config = load_config(self.home.config)
        local = self.local = Local(config, self.home, self.clock)
        nobody = cast(Courier, None)
        self.health = Health(
            config,
            self.home,
            local.memory,
            nobody,
            local.events,
            self.clock,
            lambda _: None,
            lambda: None,
            local.cleaner,
            Alerts(local.events, self.clock),
            {},
            lambda: self.keys,
        )
        self.health.begin()
        return self.health

    def stop(self) -> None:
        """Let go of the files."""
        if self.local:
            self.local.close()

    def run(self, checks: int = 1, seconds: float = 30.0) -> None:
        """Let the heartbeat look so many times, and do what follows."""
        for _ in range(checks):
            self.clock.now += seconds
            self.health.check()
            asyncio.run(self.health._make_room())

    def events(self, name: str) -> list[dict[str, Any]]:
        """What was logged under this name."""
        lines = [line for path in self.home.logs.glob("*.jsonl") for line in path.read_text().splitlines()]
        return [entry for entry in map(json.loads, lines) if entry["event"] == name]

    def heartbeat(self) -> str:
        """What stands in HEARTBEAT.md."""
        return self.home.heartbeat.read_text() if self.home.heartbeat.exists() else ""

    def old_log(self, days: int) -> Path:
        """A log that can be compressed."""
        day = date.fromtimestamp(NOW) - timedelta(days=days)
        path = self.home.logs / f"{day.isoformat()}.jsonl"
        path.write_text('{"event":"something"}\n' * 100)
        return path


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A node that is well."""
    made = Scene(tmp_path, monkeypatch)
    yield made
    made.stop()


def test_a_new_key_ends_the_alert_with_the_first_look(scene: Scene) -> None:
    """Who has just given a node its key is not told for a minute more to do so."""
    scene.keys = ("now", "no key of coz signs; mend: ansible-playbook rotate-keys.yml")
    scene.run()
    assert len(scene.events("alert")) == 1
    scene.keys = None
    scene.run()
    assert [one["name"] for one in scene.events("alert.over")] == ["keys"]


def test_room_is_made_when_the_disk_fills(scene: Scene) -> None:
    """Above disk_degraded even young logs are compressed, without a person; it is tried again once an hour, or when it is news."""
    first = scene.old_log(1)
    scene.run()
    assert first.exists()
    scene.percent = 90.0
    scene.run()
    assert not first.exists()
    second = scene.old_log(2)
    scene.run(10)
    assert second.exists()
    scene.run(seconds=3600)
    assert not second.exists()
    third = scene.old_log(3)
    scene.percent = 80.0
    scene.run(2)
    scene.percent = 90.0
    scene.run()
    assert not third.exists()
    assert scene.health.alerts == []


def test_around_the_threshold_it_is_not_news_each_time(scene: Scene) -> None:
    """A disk that goes a little over and under is cleaned once."""
    scene.percent = 86.0
    scene.run()
    log = scene.old_log(1)
    for _ in range(5):
        scene.percent = 84.0
        scene.run()
        scene.percent = 86.0
        scene.run()
    assert log.exists()


def test_still_too_little_is_an_alert_until_it_is_over(scene: Scene) -> None:
    """Under least_free after cleaning: an event, a line in HEARTBEAT.md and in status, each once; and none once there is room."""
    scene.percent = 97.0
    scene.run(3)
    [alert] = scene.health.alerts
    assert (alert.name, alert.urgency) == ("disk", "now")
    assert "3.0 %" in alert.text and "outlast clean" in alert.text
    assert [entry["name"] for entry in scene.events("alert")] == ["mode emergency", "disk"]
    assert f"alert (now): {alert.text}" in scene.heartbeat()
    scene.percent = 90.0
    scene.run()
    assert scene.health.alerts == [alert]
    scene.run()
    assert (scene.health.alerts, len(scene.events("alert.over"))) == ([], 1)
    assert "alert" not in scene.heartbeat()


def test_an_alert_that_holds_writes_nothing(scene: Scene) -> None:
    """While nothing changes, neither HEARTBEAT.md nor log nor journal grows, whatever the figures do."""
    scene.percent = 97.0
    scene.run(2)
    before = {path: path.stat().st_mtime_ns for path in scene.home.root.rglob("*") if path.is_file()}
    for scene.percent in (97.5, 96.5, 98.5):
        scene.run()
    after = {path: path.stat().st_mtime_ns for path in scene.home.root.rglob("*") if path.is_file()}
    assert after == before


def test_what_is_shown_of_us_heals(scene: Scene) -> None:
    """A line of ours that somebody took out of HEARTBEAT.md is there again after the next look; theirs stay."""
    scene.percent = 90.0
    scene.run()
    scene.home.heartbeat.write_text("buy milk\n")
    scene.run()
    assert scene.heartbeat().startswith("buy milk\n")
    assert "Outlast: degraded" in scene.heartbeat()


def test_a_failed_write_is_an_alert_until_writes_work(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever met it: it is told what failed, and it is over after two writes of our own worked; no write before and after."""

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(durable, "fsync_file", refuse)
        with pytest.raises(DurabilityError):
            durable.replace(scene.home.state_file, b"{}")
        scene.run(3)
        [alert] = scene.health.alerts
        assert alert.name == "writes" and "STATE.json could not be written: Input/output error" in alert.text
        assert len(scene.events("alert")) == 1
    scene.run()
    assert scene.health.alerts == [alert]
    scene.run(2)
    assert scene.health.alerts == []
    assert not scene.home.probe.exists()
    with monkeypatch.context() as patch:
        patch.setattr(durable, "fsync_file", refuse)
        scene.run(3)
        assert scene.health.alerts == []


def test_a_read_only_disk_is_seen_without_a_write(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that the kernel made read-only is an alert although nobody wrote."""
    real = os.statvfs(scene.home.root)

    class ReadOnly:
        f_flag = os.ST_RDONLY
        f_bavail, f_frsize = real.f_bavail, real.f_frsize

    monkeypatch.setattr("os.statvfs", lambda _: ReadOnly)
    scene.run()
    assert ["read-only" in alert.text for alert in scene.health.alerts] == [True]


def test_the_ballast_is_set_by_and_given_up(scene: Scene) -> None:
    """Room is set by on a disk with plenty, whole and its owner's alone; given up when it is needed; and set by again."""
    scene.run()
    ballast = scene.home.ballast
    assert (ballast.stat().st_size, ballast.stat().st_mode & 0o777) == (1 << 20, 0o600)
    assert ballast.stat().st_blocks * 512 >= 1 << 20
    scene.percent = 97.0
    scene.run()
    assert not ballast.exists()
    scene.percent = 89.0
    scene.run(3)
    assert not ballast.exists()
    scene.percent = 50.0
    scene.run()
    assert ballast.exists()


def test_an_emergency_that_only_a_marker_tells(scene: Scene) -> None:
    """A start finds why in var/emergency and is in emergency mode; a person's word ends it, and the marker is in the trash."""
    scene.home.emergency.write_text("STATE could not be rebuilt:\x1b[2J the journal is unreadable\n")
    health = scene.start()
    assert health.standing.mode == "emergency"
    assert health.standing.reasons == ("STATE could not be rebuilt: [2J the journal is unreadable",)
    assert "Outlast: emergency" in scene.heartbeat()
    health.resume("looked at it")
    assert health.standing.mode == "normal"
    assert not scene.home.emergency.exists() and len(list(scene.home.trash.glob("*-emergency"))) == 1
    assert scene.start().standing.mode == "normal"
    with pytest.raises(BadInput, match="no emergency"):
        scene.health.resume("again")


def test_a_mode_is_told_with_its_cause_and_what_it_sheds(scene: Scene) -> None:
    """A change is one event, two notes in the journal and one alert, which is not shown where the mode is; and it is over."""
    scene.percent = 90.0
    scene.run(3)
    [alert] = scene.events("alert")
    assert (alert["name"], alert["urgency"]) == ("mode degraded", "soon")
    assert alert["text"].startswith("mode degraded: disk 90 % full; shed: memory compaction; mend: ")
    assert scene.health.alerts == [] and "alert" not in scene.heartbeat()
    [changed] = scene.events("mode.changed")
    assert (changed["mode"], changed["shed"]) == ("degraded", "memory compaction")
    journal = "".join(path.read_text() for path in scene.home.memory.glob("*.md"))
    assert "NOTE mode degraded: disk 90 % full" in journal and "NOTE mode shed: memory compaction" in journal
    scene.percent = 50.0
    scene.run(4)
    assert [entry["name"] for entry in scene.events("alert.over")] == ["mode degraded"]
    assert scene.health.shed == []


def test_a_sibling_s_silence_is_told_by_its_own_rules(scene: Scene) -> None:
    """Degraded because coz sleeps is normal at night: no alert of the mode. Another cause beside it is news."""
    scene.health._heard["axiom"] = scene.clock.now - 3600
    scene.run(3)
    assert scene.health.standing.mode == "degraded" and scene.events("alert") == []
    scene.percent = 90.0
    scene.run(1)
    [alert] = scene.events("alert")
    assert "disk 90 % full" in alert["text"]


def test_what_an_emergency_sheds_is_no_reason_of_it(scene: Scene) -> None:
    """After a restart the reason is the one that it was entered for; the alert of it is urgent, and says how a person ends it."""
    scene.health.declare("a key leaked")
    scene.run()
    assert scene.start().standing.reasons == ("a key leaked",)
    scene.run()
    told = [entry for entry in scene.events("alert") if entry["name"] == "mode emergency"]
    assert all(entry["urgency"] == "now" and "outlast resume --reason" in entry["text"] for entry in told) and told
    assert "heartbeat monitoring" in told[0]["text"] and "answering the human" not in told[0]["text"]


def test_maintenance_by_order_takes_effect_at_once(scene: Scene) -> None:
    """Without waiting for the next check; a dry run only says what would become of it."""
    assert scene.health.maintain(on=True, dry=True)["mode"] == "normal"
    told = scene.health.maintain(on=True, dry=False)
    assert (told["mode"], told["changed"], told["running"]) == ("maintenance", True, True)
    assert "work handed over by peers" in told["shed"]
    assert scene.health.maintain(on=False, dry=False)["mode"] == "normal"
    assert scene.heartbeat() == ""


def test_the_heartbeat_keeps_what_others_wrote_to_the_byte(tmp_path: Path) -> None:
    """Lines that end with CR LF end so afterwards, however often our part comes and goes."""
    path = tmp_path / "HEARTBEAT.md"
    path.write_bytes(b"- look at the mail\r\n- water the plants\r\n")
    before = path.read_bytes()
    for _ in range(2):
        assert heartbeat.show(path, "Outlast: degraded")
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        assert heartbeat.show(path, "")
        assert path.read_bytes() == before
