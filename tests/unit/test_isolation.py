"""A defect of one part of a node ends neither the node nor another part, and a person is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.clock import FixedClock
from support.doorway import Doorway
from support.live import free_port

from outlast import upkeep
from outlast.account import status
from outlast.alerts import Alerts
from outlast.cli.show import status_lines
from outlast.core.exposition import metrics_text
from outlast.core.load import in_short
from outlast.core.overview import overview
from outlast.isolation import Isolation
from outlast.store.events import EventLog

NOW = 1_795_244_947.0
LIMIT_S = 30.0
PARTS = ("services", "probes", "notifier", "watch", "observer", "jobs", "subagents", "external", "dashboard")
FIGURES = dict.fromkeys(("cpu_percent", "load_1m", "cpus", "rss_bytes"), 0.0)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.002)


def scene(folder: Path, **times: float) -> tuple[Isolation, Alerts, list[str]]:
    """How parts are kept apart, what is raised, and the events that were written."""
    events, heard = EventLog(folder, "coz", FixedClock(NOW)), list[str]()
    events.heard = lambda event: heard.append(str(event["event"]))
    alerts = Alerts(events, FixedClock(NOW))
    return Isolation(events, alerts, **times), alerts, heard


def test_a_part_that_fails_is_run_again_and_its_alert_ends_when_it_is_well(tmp_path: Path) -> None:
    """Whatever it raises, also when it ends by itself; told once while it goes on; cancelling still ends it."""
    isolation, alerts, heard = scene(tmp_path, first_s=0.001, most_s=0.004, well_s=0.1)
    runs: list[float] = []

    async def part() -> None:
        runs.append(asyncio.get_running_loop().time())
        if len(runs) == 1:
            raise ValueError("odd")
        if len(runs) == 2:
            raise asyncio.CancelledError
        if len(runs) < 8:
            return
        await asyncio.Event().wait()

    async def test() -> None:
        running = asyncio.create_task(isolation.run("watch", part))
        await until(lambda: len(runs) == 8)
        (alert,) = alerts.raised
        assert (alert.name, alert.urgency) == ("part watch", "now") and "ValueError('odd')" in alert.text
        await until(lambda: not alerts.raised)
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()

    asyncio.run(test())
    assert runs[3] - runs[2] >= 0.004 and heard.count("part.failed") == 7
    assert (tmp_path / "2026-11-21.jsonl").read_text().count('"part.failed"') == 1


def test_what_hears_of_failures_may_fail_as_well(tmp_path: Path) -> None:
    """The part that failed may be the one that events and alerts are told to."""
    isolation, alerts, _ = scene(tmp_path, first_s=0.001)
    runs: list[int] = []

    def broken(*_: object) -> None:
        raise RuntimeError("deaf")

    async def part() -> None:
        runs.append(1)
        raise OSError("gone")

    async def test() -> None:
        isolation._events.heard = broken
        alerts.changed = broken
        running = asyncio.create_task(isolation.run("observer", part))
        await until(lambda: len(runs) > 2)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(test())


@pytest.mark.parametrize("name", PARTS)
def test_a_node_outlives_each_of_its_parts(tmp_path: Path, name: str) -> None:
    """With a part that cannot run and says nothing right, the node runs, answers every kind of question, and stops in order."""

    async def broken() -> None:
        raise ZeroDivisionError(name)

    def silent() -> dict[str, Any]:
        raise KeyError(name)

    async def test() -> None:
        door = Doorway(tmp_path, listen={"host": "127.0.0.1", "port": free_port()}, dashboard={"enabled": False})
        part: Any = door.node.upkeep.parts[name]
        part.run, part.report = broken, silent
        stop = asyncio.Event()
        running = asyncio.create_task(door.node.run(stop))
        await until(lambda: running.done() or any(one.name == f"part {name}" for one in door.node.health.alerts))
        assert not running.done()
        shown = status(door.node)
        error = shown["supervised_error"] if name == "services" else shown[name]["error"]
        assert error == f"KeyError({name!r})"
        assert status_lines(shown, NOW) and overview(shown) and metrics_text(shown) and in_short(shown, FIGURES)
        stop.set()
        await asyncio.wait_for(running, LIMIT_S)

    asyncio.run(test())


@pytest.mark.parametrize("name", ["Services", "Notifier", "Jobs", "Dashboard"])
def test_a_part_that_cannot_be_made_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The node starts without it, and without those that stand on it; a person is told."""

    def broken(*_: object) -> None:
        raise AttributeError("a defect")

    monkeypatch.setattr(upkeep, name, broken)
    door = Doorway(tmp_path)
    shown, part = status(door.node), name.lower()
    assert part not in door.node.upkeep.parts
    assert "a defect" in (shown["supervised_error"] if part == "services" else shown[part]["error"])
    assert [one["name"] for one in shown["alerts"]] == [f"part {part}"]
    assert status_lines(shown, NOW) and overview(shown) and metrics_text(shown)
    door.close()
