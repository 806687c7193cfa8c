"""Jobs on a clock that the test sets: what runs, what is skipped and why, whose it is, and what a restart knows of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import yaml
from support.badjson import DEEP
from support.clock import FixedClock

from outlast.alerts import Alerts
from outlast.config import load_config
from outlast.core.modes import Standing
from outlast.core.overview import overview
from outlast.errors import BadInput, DurabilityError
from outlast.home import Home
from outlast.store import durable
from outlast.store.events import EventLog
from outlast.upkeep import Around
from outlast.work.jobs import Jobs

# 2027-01-15 08:00:00 UTC.
NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86400.0
SAY = ["/bin/sh", "-c", "echo ran >> runs; echo all is well"]


class Scene:
    """coz with one job, on a clock that stands until it is set."""

    def __init__(self, root: Path, job: dict[str, Any] | None = None, jobs: dict[str, Any] | None = None) -> None:
        self.home = Home(root / "coz")
        for folder in (self.home.config.parent, self.home.jobs.parent, self.home.workspace, self.home.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.clock, self.mode, self.silent = FixedClock(NOW), Standing(), dict[str, float]()
        self.declared = jobs or {"tidy": {"schedule": "0 * * * *", "zone": "UTC", "command": SAY, **(job or {})}}
        self.start()

    def start(self) -> None:
        """As a daemon's start does."""
        content = {
            "node": "coz",
            "listen": {"host": "127.0.0.1", "port": 1},
            "agent": {"command": ["/bin/true"]},
            "peers": {"axiom": {"url": "http://127.0.0.1:2"}},
            "jobs": self.declared,
        }
        self.home.config.write_text(yaml.safe_dump(content))
        events = EventLog(self.home.logs, "coz", self.clock)
        self.alerts = Alerts(events, self.clock)
        none = cast(Any, None)
        self.around = Around(
            load_config(self.home.config), self.home, none, none, events, self.clock, self.alerts,
            lambda: self.mode, lambda: self.silent, dict,
        )  # fmt: skip
        self.jobs = Jobs(self.around)

    def at(self, *moments: float, runs: bool = True) -> dict[str, Any]:
        """Look at these moments (seconds since NOW), let what began come to its end, and report on the job."""

        async def look() -> None:
            for moment in moments:
                self.clock.now = NOW + moment
                self.jobs.look()
                tasks = [job.task for job in self.jobs._jobs.values() if job.task is not None]
                if runs and tasks:
                    await asyncio.wait(tasks, timeout=20)

        asyncio.run(look())
        report: dict[str, Any] = self.jobs.report()["tidy"]
        return report

    def runs(self) -> int:
        """How often the program was started."""
        path = self.home.workspace / "runs"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def events(self, name: str) -> list[dict[str, Any]]:
        """What was logged under this name."""
        lines = [line for path in self.home.logs.glob("*.jsonl") for line in path.read_text().splitlines()]
        return [entry for entry in map(json.loads, lines) if entry["event"] == name]


def test_a_job_runs_when_it_is_due(tmp_path: Path) -> None:
    """Not before; then once, with its output kept, its end on the disk, and events that make one span."""
    scene = Scene(tmp_path)
    assert scene.at(0.0, 30.0, HOUR - 1)["state"] == "waiting"
    told = scene.at(HOUR + 0.2, HOUR + 30)
    assert (scene.runs(), told["state"], told["runs"], told["next"]) == (1, "done", 1, "2027-01-15T10:00:00.000Z")
    assert told["last"]["exit_code"] == 0 and told["last"]["detail"] == told["note"] == ""
    assert (scene.home.outputs / "tidy.log").read_text().endswith("all is well\n")
    [began], [ended] = scene.events("job.started"), scene.events("job.ended")
    assert (began["trace_id"], began["span_id"]) == (ended["trace_id"], ended["span_id"])
    assert (ended["verdict"], ended["exit_code"]) == ("done", 0) and ended["correlation_id"].startswith("tidy@")
    kept = json.loads(scene.home.jobs.read_text())["jobs"]["tidy"]
    assert (kept["cycle"], kept["next"]) == (NOW + HOUR, "2027-01-15T10:00:00.000Z")
    assert (kept["last"]["verdict"], kept["last"]["exit_code"]) == ("done", 0) and kept["last"]["seconds"] >= 0


def test_a_run_is_on_the_disk_before_it_begins(tmp_path: Path) -> None:
    """What the program itself finds there: its cycle is dealt with, and its run has begun and not ended."""
    scene = Scene(tmp_path, {"command": ["/bin/cp", "../var/jobs.json", "seen"]})
    assert scene.at(HOUR)["state"] == "done"
    seen = json.loads((scene.home.workspace / "seen").read_text())["jobs"]["tidy"]
    assert (seen["cycle"], seen["last"]["started"], seen["last"]["ended"]) == (
        NOW + HOUR,
        "2027-01-15T09:00:00.000Z",
        "",
    )


def test_a_laptop_that_wakes_has_nothing_to_catch_up(tmp_path: Path) -> None:
    """Five hours asleep: no run for what is over, five skipped and told once, and the next at its own time."""
    scene = Scene(tmp_path)
    told = scene.at(0.0, 5.5 * HOUR)
    assert (scene.runs(), told["skips"], told["next"]) == (0, {"missed": 5}, "2027-01-15T14:00:00.000Z")
    assert [event["count"] for event in scene.events("job.skipped")] == [5]
    assert "slept" in told["why"]
    told = scene.at(6 * HOUR + 1)
    assert (scene.runs(), told["why"], told["skips"]) == (1, "", {"missed": 5})


def test_a_laptop_that_wakes_in_time_runs_once(tmp_path: Path) -> None:
    """What is due within the minute of its waking runs; the rest is skipped."""
    scene = Scene(tmp_path)
    told = scene.at(0.0, 5 * HOUR + 50)
    assert (scene.runs(), told["skips"]) == (1, {"missed": 4})


def test_a_node_that_was_down_has_skipped(tmp_path: Path) -> None:
    """Cycles of the time in which no runtime ran are counted after the start, and none of them runs."""
    scene = Scene(tmp_path)
    scene.at(HOUR)
    scene.clock.now = NOW + 4.5 * HOUR
    scene.start()
    told = scene.at(4.5 * HOUR)
    assert (scene.runs(), told["skips"]) == (1, {"missed": 3})


def test_a_restart_repeats_nothing(tmp_path: Path) -> None:
    """A runtime that is started again within the minute of a cycle runs it if it did not run, and not if it did."""
    scene = Scene(tmp_path)
    scene.at(HOUR)
    scene.start()
    scene.at(HOUR + 5)
    assert scene.runs() == 1
    scene.at(2 * HOUR - 1)
    scene.clock.now = NOW + 2 * HOUR + 5
    scene.start()
    scene.at(2 * HOUR + 5)
    assert scene.runs() == 2


def test_a_clock_that_is_set_runs_nothing_twice(tmp_path: Path) -> None:
    """Back by half an hour: the hour that comes again is over; back by years: the new time counts from now on."""
    scene = Scene(tmp_path)
    scene.at(HOUR, HOUR - 1800, HOUR)
    assert scene.runs() == 1
    scene.at(HOUR - 300 * DAY)
    assert scene.runs() == 1
    told = scene.at(2 * HOUR - 300 * DAY)
    assert (scene.runs(), told["next"]) == (2, "2026-03-21T11:00:00.000Z")


def test_a_job_that_still_runs_is_not_begun_again(tmp_path: Path) -> None:
    """Its next cycle is skipped, with the reason."""
    scene = Scene(tmp_path, {"command": ["/bin/sh", "-c", "echo ran >> runs; sleep 0.5"]})

    async def both() -> None:
        for moment in (HOUR, 2 * HOUR):
            scene.clock.now = NOW + moment
            scene.jobs.look()
            with pytest.raises(BadInput, match="runs already, since 2027"):
                scene.jobs.orders()["jobs/run"](b'{"name":"tidy"}')
            await asyncio.sleep(0)
        task = scene.jobs._jobs["tidy"].task
        assert task is not None
        await task

    asyncio.run(both())
    told = scene.at(2 * HOUR + 1)
    assert (scene.runs(), told["skips"], told["why"]) == (1, {"running": 1}, "its last run was not over")


def test_the_mode_sheds(tmp_path: Path) -> None:
    """P2 runs every second time while degraded, P3 not at all, P0 in an emergency too; days of it are one event."""
    for priority, mode, runs in (
        ("P2", "degraded", 3),
        ("P3", "degraded", 0),
        ("P1", "emergency", 0),
        ("P0", "emergency", 6),
    ):
        scene = Scene(tmp_path / priority / mode, {"priority": priority})
        scene.at(0.0)
        scene.mode = Standing(cast(Any, mode))
        told = scene.at(*(HOUR * hour for hour in range(1, 7)))
        assert (priority, scene.runs()) == (priority, runs)
        assert sum(told["skips"].values()) == 6 - runs
        assert len(scene.events("job.skipped")) == min(6 - runs, max(runs, 1))
        scene.mode = Standing()
        assert scene.at(7 * HOUR)["why"] == ""
        assert scene.runs() == runs + 1


def test_another_s_job_is_taken_over_only_where_that_is_safe(tmp_path: Path) -> None:
    """It runs here once its owner is silent for sibling_silent, and no more when it is heard again; without takeover never."""
    jobs = {
        "tidy": {"schedule": "0 * * * *", "zone": "UTC", "command": SAY, "owner": "axiom", "takeover": True},
        "mail": {"schedule": "0 * * * *", "zone": "UTC", "command": SAY, "owner": "axiom"},
    }
    scene = Scene(tmp_path, jobs=jobs)
    looks = [minutes * 60.0 for minutes in range(61)]
    scene.silent = {"axiom": 1.0}
    assert scene.at(*looks)["state"] == "elsewhere"
    assert scene.runs() == 0
    scene.silent = {"axiom": 1801.0}
    told = scene.at(*(HOUR + look for look in looks))
    assert (scene.runs(), told["here"], told["state"]) == (1, True, "done")
    scene.silent = {"axiom": 0.0}
    told = scene.at(*(2 * HOUR + look for look in looks))
    assert (scene.runs(), told["here"], told["skips"]) == (1, False, {})
    assert [len(scene.events(f"job.{word}")) for word in ("taken_over", "given_back")] == [1, 1]
    assert scene.jobs.report()["mail"]["runs"] == 0


def test_who_slept_takes_nobody_for_silent(tmp_path: Path) -> None:
    """After an hour asleep a sibling was not heard for an hour, and is given the whole of its time again."""
    scene = Scene(tmp_path, {"owner": "axiom", "takeover": True})
    scene.silent = {"axiom": 1801.0}
    scene.at(0.0, HOUR)
    assert scene.runs() == 0
    looks = [HOUR + minutes * 60.0 for minutes in range(1, 61)]
    scene.at(*looks)
    assert scene.runs() == 1


def test_failures_in_a_row_are_an_alert(tmp_path: Path) -> None:
    """Three, unless the job says otherwise; also after a restart; over as soon as it went well."""
    scene = Scene(tmp_path, {"command": ["/bin/sh", "-c", "test -e fine || { echo no luck; exit 3; }"]})
    scene.at(HOUR, 2 * HOUR)
    assert scene.alerts.shown == []
    told = scene.at(3 * HOUR)
    [alert] = scene.alerts.shown
    assert "tidy failed 3 times in a row: exit 3; mend: " in alert.text and "outlast logs tidy" in alert.text
    assert (told["state"], told["failures"], told["note"]) == ("failed", 3, "exit 3")
    scene.start()
    assert scene.alerts.holds("job tidy")
    (scene.home.workspace / "fine").touch()
    assert scene.at(4 * HOUR)["failures"] == 0
    assert scene.alerts.shown == []


def test_what_a_job_prints_stays_in_its_log(tmp_path: Path) -> None:
    """Of a job that went well nothing else has it; of one that failed the event and `outlast jobs`, and no alert or peer."""
    line = "export API_TOKEN=hunter2"
    scene = Scene(tmp_path, {"command": ["/bin/sh", "-c", f"echo {line}; test -e fine || exit 3"], "failures": 1})
    told = scene.at(HOUR)
    status = {"jobs": scene.jobs.report(), "alerts": [msgspec.to_builtins(one) for one in scene.alerts.shown]}
    shown = msgspec.json.encode(overview(status)).decode()
    assert "hunter2" not in shown and "exit 3" in shown and "job tidy" in shown
    assert told["last"]["said"] == line and scene.events("job.ended")[0]["detail"] == f"exit 3: {line}"
    assert "hunter2" not in json.dumps(scene.events("alert"))
    (scene.home.workspace / "fine").touch()
    told = scene.at(2 * HOUR)
    assert "hunter2" not in json.dumps([told, scene.events("job.ended")[1]]) + scene.home.jobs.read_text()
    assert (scene.home.outputs / "tidy.log").read_text().count(line) == 2


def test_what_a_killed_runtime_ran_is_in_doubt(tmp_path: Path) -> None:
    """The record has a beginning and no end: told so, and not run again before its time."""
    scene = Scene(tmp_path)
    scene.at(HOUR)
    book = json.loads(scene.home.jobs.read_text())
    book["jobs"]["tidy"]["last"].update(ended="", verdict="", exit_code=None)
    scene.home.jobs.write_text(json.dumps(book))
    scene.start()
    told = scene.at(HOUR + 10)
    assert (told["state"], scene.runs(), told["failures"]) == ("in doubt", 1, 0)
    assert "killed while it ran" in told["note"]
    assert [event["verdict"] for event in scene.events("job.ended")] == ["done", "in doubt"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"v":2,"jobs":{}}',
        b'{"v":1,"jobs":{"tidy":{"cycle":"x"}}}',
        b"\0\0",
        b'{"v":1,"jobs":{"tidy":{"timed":"","cycle":1,"why":"a\xff"}}}',
        b'{"v":1,"jobs":{},"more":' + DEEP.encode() + b"}",
    ],
)
def test_a_record_that_cannot_be_read_is_set_aside(tmp_path: Path, content: bytes) -> None:
    """The jobs begin anew from now, and what was there is in the trash."""
    scene = Scene(tmp_path)
    scene.home.jobs.write_bytes(content)
    scene.start()
    assert scene.at(0.0, HOUR)["runs"] == 1
    assert len(list(scene.home.trash.iterdir())) == len(scene.events("jobs.forgotten")) == 1


def test_another_schedule_has_missed_nothing(tmp_path: Path) -> None:
    """What the record knows is of the schedule that it was written under."""
    scene = Scene(tmp_path)
    scene.at(HOUR)
    scene.declared["tidy"]["schedule"] = "*/5 * * * *"
    scene.clock.now = NOW + 10 * HOUR
    scene.start()
    told = scene.at(10 * HOUR)
    assert (told["skips"], told["runs"]) == ({}, 1)


def test_a_full_disk_keeps_no_job_from_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes room on it may be one: it runs, once a cycle, and that it could not be written down is an event."""
    scene = Scene(tmp_path)

    def full(*_: object, **__: object) -> bool:
        raise DurabilityError("jobs.json could not be written: No space left on device")

    monkeypatch.setattr(durable, "replace", full)
    scene.at(HOUR, HOUR + 5)
    assert scene.runs() == 1
    assert scene.events("jobs.not_written")


def test_looking_writes_nothing(tmp_path: Path) -> None:
    """A day of looks at which nothing is due, and of a job that is shed, changes no file but for the first word of it."""
    scene = Scene(tmp_path, {"priority": "P3"})
    scene.mode = Standing("degraded")
    scene.at(0.0, HOUR)
    before = {path: path.stat().st_mtime_ns for path in scene.home.root.rglob("*") if path.is_file()}
    scene.at(*(HOUR + look * 30.0 for look in range(2880)))
    assert {path: path.stat().st_mtime_ns for path in scene.home.root.rglob("*") if path.is_file()} == before
