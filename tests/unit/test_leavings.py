"""What is to be deleted: out of the way at once, and gone without anybody waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from outlast.work import leavings
from outlast.work.leavings import GONE, Leavings


async def gone(place: Path) -> None:
    """Wait until nothing is there."""
    async with asyncio.timeout(10):
        while list(place.iterdir()):
            await asyncio.sleep(0.001)


def test_what_is_put_is_away_at_once_and_deleted_later(tmp_path: Path) -> None:
    """Under a name that says so; what a stop left is deleted by the next start, what is no leaving stays."""
    place, other = tmp_path / "place", tmp_path / "other"
    (place / f"{GONE}before" / "in").mkdir(parents=True)
    (other / "in").mkdir(parents=True)
    other.chmod(0o500)

    async def scene() -> None:
        ours = Leavings(place)
        ours.put(other)
        ours.put(tmp_path / "missing")
        assert not other.exists() and len([path for path in place.iterdir() if path.name.startswith(GONE)]) == 2
        running = asyncio.create_task(ours.run())
        await gone(place)
        (tmp_path / "later").mkdir()
        ours.put(tmp_path / "later")
        await gone(place)
        running.cancel()

    asyncio.run(scene())
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_nobody_waits_while_it_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes: the event loop goes on, and a stop ends it."""
    began, stopped = threading.Event(), threading.Event()

    def slow(_: Path, going: Callable[[], bool]) -> bool:
        began.set()
        while going():
            pass
        stopped.set()
        return False

    monkeypatch.setattr(leavings, "remove", slow)
    (tmp_path / f"{GONE}1").mkdir()

    async def scene() -> None:
        running = asyncio.create_task(Leavings(tmp_path).run())
        async with asyncio.timeout(10):
            while not began.is_set():
                await asyncio.sleep(0.001)
        assert not stopped.is_set()
        running.cancel()

    asyncio.run(scene())
    assert stopped.is_set()
