"""What the dashboard reads of logs: the right ones, a bounded part of them, and not on the event loop."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.clock import FixedClock

from outlast.clock import iso
from outlast.home import Home
from outlast.store import history
from outlast.work.showing import Showing

NOW = 1_795_244_947.0


def line(at: float, **more: object) -> str:
    return json.dumps({"at": iso(at), "node": "coz", "event": "service.exited", "name": "web", **more}) + "\n"


def showing(folder: Path) -> tuple[Showing, Home, FixedClock]:
    home, clock = Home(folder / "coz"), FixedClock(NOW)
    home.logs.mkdir(parents=True)
    around: Any = SimpleNamespace(home=home, clock=clock)
    neighbours: Any = None
    return Showing(around, neighbours), home, clock


@pytest.mark.parametrize("most", [0, 1, 100, 10_000, 300_000])
def test_what_is_packed_is_bounded_as_what_is_not(tmp_path: Path, most: int) -> None:
    """Of a log that is small when packed and large when not, the newest lines, of so many bytes at most."""
    lines = [line(NOW - 5000 + number / 10, number=number) for number in range(20_000)]
    data = "".join(lines).encode()
    half = len("".join(lines[:19_000]))
    (tmp_path / "2026-11-21.jsonl.gz").write_bytes(gzip.compress(data[:half]))
    (tmp_path / "2026-11-21.jsonl").write_bytes(data[half:])
    found = [entry["number"] for entry in history.events(tmp_path, NOW - 86_400, most)]
    assert found == list(range(20_000))[len(lines) - len(found) :]
    told = sum(len(one) for one in lines[len(lines) - len(found) :])
    assert most - len(lines[-1]) <= told <= most or most < len(lines[-1])


def test_a_bomb_of_a_log_takes_no_memory(tmp_path: Path) -> None:
    """Fifty megabytes that were packed into little are passed through, and not held."""
    with gzip.open(tmp_path / "2026-11-21.jsonl.gz", "wb") as file:
        for _ in range(50):
            file.write(b"x" * ((1 << 20) - 1) + b"\n")
        file.write(line(NOW).encode())
    tracemalloc.start()
    assert len(list(history.events(tmp_path, NOW - 86_400, 64 << 10))) == 1
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_many_metrics_do_not_hide_the_events(tmp_path: Path) -> None:
    """With a month of metrics kept, the timeline follows what is written into today's log."""
    shown, home, clock = showing(tmp_path)
    for day in range(1, 22):
        (home.logs / f"metrics-2026-11-{day:02}.jsonl").write_text("{}\n")
    log = home.logs / "2026-11-21.jsonl"
    log.write_text(line(NOW - 60))

    async def look() -> int:
        return len(await shown._of_logs("timeline", "", 5.0, lambda: log.read_text().splitlines()) or [])

    async def test() -> None:
        assert await look() == 1
        log.write_text(line(NOW - 60) * 3)
        clock.now += 10
        assert await look() == 3

    asyncio.run(test())


def test_files_are_read_beside_the_event_loop(tmp_path: Path) -> None:
    """However long a log takes, the node goes on meanwhile."""
    shown, home, _ = showing(tmp_path)
    (home.logs / "2026-11-21.jsonl").write_text(line(NOW))
    go = threading.Event()

    def slow() -> bool:
        return go.wait(20)

    async def test() -> None:
        reading = asyncio.create_task(shown._of_logs("timeline", "", 0.0, slow))
        await asyncio.sleep(0)
        go.set()
        assert await reading is True

    asyncio.run(test())
