"""The bench of supervision, quick and small: ours is measured for real, and a peer that cannot be had is named with the reason."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from bench import supervision
from bench.processes import BenchError
from bench.supervision import fifty_idle, restarts
from bench.supervisors import Worker, outlast
from bench.table import render


@pytest.fixture
def only_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> None:
        raise BenchError("it is not on this machine")

    monkeypatch.setattr(supervision, "KEEPERS", {"outlast": outlast, "runit": nobody})
    monkeypatch.setattr(supervision, "_LASTS_S", 0.05)
    monkeypatch.setattr(supervision, "_MANY", 5)


def test_a_killed_and_a_hung_worker(tmp_path: Path, only_ours: None) -> None:
    """Both figures are there, in a time that a restart can take, and who is missing is said."""
    rows = restarts(tmp_path, 3, 1, fetch=True)
    assert all(row.ours.value is not None and 0.1 < row.ours.value < 30_000 for row in rows)
    assert "runit not measured: it is not on this machine" in render(rows)


def test_idle_workers(tmp_path: Path, only_ours: None) -> None:
    """What the node takes is counted with its guard, and without its workers."""
    rows = fifty_idle(tmp_path, 1.0, fetch=True)
    resident = rows[0].ours.value
    assert resident is not None and 10 < resident < 100


def test_a_worker_says_when_it_runs(tmp_path: Path) -> None:
    """Its process id comes from itself, and one that does not come is an error in time."""
    worker = Worker(tmp_path)
    pid = os.posix_spawn(worker.script, [str(worker.script)], {})
    try:
        assert worker.runs(30.0) == pid
        with pytest.raises(BenchError, match="did not run"):
            worker.runs(0.05)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        worker.close()
