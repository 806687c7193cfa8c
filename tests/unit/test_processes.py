"""Ending what is left of a home: in the order in which its parts would end themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from support.live import until

from plugins.module_utils import processes

# What a runtime does: it lets its agent finish, and says what became of it.
RUNTIME = """
import os, signal, subprocess, sys
home = sys.argv[1]
agent = subprocess.Popen(["sh", "-c", f"echo > {home}/working; until [ -e {home}/enough ]; do sleep 0.05; done"],
                         env={**os.environ, "OUTLAST_WORK": f"{home}/var/tasks/x"})
def stop(*_):
    open(f"{home}/enough", "w").close()
    with open(f"{home}/ended", "w") as file:
        file.write(str(agent.wait()))
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
signal.pause()
"""


def test_an_agent_is_left_to_its_runtime(tmp_path: Path) -> None:
    """A runtime that lost its supervisor is asked to stop, and its agent is not, so that work in hand is not cut off."""
    mark = f"unix://{tmp_path}/run/supervisor.sock"
    command = [sys.executable, "-c", RUNTIME, str(tmp_path)]
    with subprocess.Popen(command, env={**os.environ, "SUPERVISOR_SERVER_URL": mark}) as runtime:
        until((tmp_path / "working").exists, what="the agent at work")
        assert {process.agent for process in processes.of_home(str(tmp_path))} == {True, False}
        found = processes.end(str(tmp_path))
    assert runtime.pid in {process.pid for process in found}
    assert (tmp_path / "ended").read_text() == "0"
    assert processes.of_home(str(tmp_path)) == []


def test_an_agent_without_a_runtime_is_ended(tmp_path: Path) -> None:
    """What works on a task for nobody is ended, even where it does not listen."""
    script = f"trap '' TERM; echo > {tmp_path}/working; while :; do sleep 0.05; done"
    with subprocess.Popen(["sh", "-c", script], env={**os.environ, "OUTLAST_WORK": f"{tmp_path}/x"}) as agent:
        until((tmp_path / "working").exists, what="the agent at work")
        processes.end(str(tmp_path))
        assert agent.wait(30) == -signal.SIGKILL
