"""What an earlier runtime left running is found by its mark, and ended."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import psutil
import pytest

from outlast.work import marks
from outlast.work.marks import end_leftovers


def test_leftovers_of_a_killed_runtime_are_ended(tmp_path: Path) -> None:
    """At a start, what an earlier runtime left running below its tasks is killed, and nothing else."""
    tasks = tmp_path / "tasks"
    mine, other = tasks / "coz-1" / "work", tmp_path / "tasks-of-another" / "work"
    mine.mkdir(parents=True)
    children = [
        subprocess.Popen(["/bin/sleep", "600"], env={"OUTLAST_WORK": str(folder.resolve())}, start_new_session=True)
        for folder in (mine, other)
    ]
    try:
        assert end_leftovers(tasks) == [children[0].pid]
        assert children[0].wait(60.0) == -9
        assert psutil.pid_exists(children[1].pid)
        assert end_leftovers(tasks) == []
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            child.wait(60.0)


def test_no_leftovers_where_there_are_no_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tasks no process is looked at."""
    monkeypatch.setattr(marks, "pids", lambda: pytest.fail("looked"))
    assert end_leftovers(tmp_path) == end_leftovers(tmp_path / "missing") == []
