"""Who leaves the group and clears its environment is ended all the same, and nobody who is at work is."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

import psutil
import pytest
from fault.scenes import closed_on, hand_over, running_pair
from support.live import LiveNode, until
from support.spawning import lone_node

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")


def escape(tag: str, *, adopted: bool = False) -> str:
    """A line of shell that leaves one behind without a mark; ``adopted``: its parent is gone at once."""
    line = f"setsid env -i /bin/sh -c 'while :; do sleep 1; done; : {tag}' &"
    return f"({line});" if adopted else line


def named(tag: str) -> list[int]:
    """The process ids whose last word is ``tag``, of those that are no service's own."""
    found = {}
    for process in psutil.process_iter(["pid", "ppid", "cmdline"]):
        words = process.info["cmdline"] or []
        if words[:2] == ["/bin/sh", "-c"] and words[-1].startswith("while") and words[-1].endswith(tag):
            found[process.info["pid"]] = process.info["ppid"]
    # Its sleep, in the moment before it is one, has its words.
    return [pid for pid, parent in found.items() if parent not in found]


def zombies(node: LiveNode) -> list[int]:
    assert node.process is not None
    children = psutil.Process(node.process.pid).children()
    return [child.pid for child in children if child.status() == psutil.STATUS_ZOMBIE]


def service(script: str) -> dict[str, Any]:
    return {"command": ["/bin/sh", "-c", f"{script} exec sleep 600"], "base": "1ms", "max": "1ms"}


@pytest.mark.parametrize("adopted", [False, True], ids=["a child", "an orphan"])
def test_a_restart_a_crash_and_a_stop_end_it(adopted: bool) -> None:
    """One is left behind at each start; never more than that of the run that is under way; none after a stop; no zombies."""
    tag = uuid.uuid4().hex
    try:
        with lone_node({"services": {"gw": service(escape(tag, adopted=adopted))}}) as node:
            (first,) = until(lambda: named(tag), what="one that escaped")
            assert node.cli("restart", "gw").returncode == 0
            until(lambda: named(tag) and first not in named(tag) and len(named(tag)) == 1, what="the end of the first")
            (second,) = named(tag)
            os.kill(int(node.order("ps")["services"]["gw"]["pid"]), signal.SIGKILL)
            until(
                lambda: named(tag) and second not in named(tag) and len(named(tag)) == 1, what="the end of the second"
            )
            until(lambda: not zombies(node), what="every dead one is reaped")
            assert node.stop() == 0
            until(lambda: not named(tag), what="the end of the last")
    finally:
        for pid in named(tag):
            os.kill(pid, signal.SIGKILL)


def test_who_may_belong_to_what_runs_is_left_alone(tmp_path: Path) -> None:
    """While a service is restarted and a job ends, an orphan of another service goes on, and so does an agent without a mark."""
    tag, go, going = uuid.uuid4().hex, tmp_path / "go", tmp_path / "going"
    work = f"touch {going}; while [ ! -e {go} ]; do sleep 0.02; done; echo well > found.txt"
    agent = tmp_path / "agent.sh"
    agent.write_text(f'#!/bin/sh\nexec env -i PATH="$PATH" sh -c "{work}"\n')
    agent.chmod(0o755)
    services = {"keeps": service(escape(tag, adopted=True)), "other": service("")}
    jobs = {"quick": {"command": ["/bin/true"], "schedule": "0 0 1 1 *"}}
    try:
        with running_pair(tmp_path, agent, services=services, jobs=jobs) as (coz, axiom):
            before = until(lambda: len(found := named(tag)) == 2 and found, what="the orphans of both nodes")
            unit = hand_over(coz)
            until(going.exists, what="the agent works")
            for _ in range(3):
                assert axiom.cli("restart", "other").returncode == 0
                assert axiom.cli("run", "quick").returncode == 0
            assert named(tag) == before
            go.touch()
            until(lambda: closed_on(coz, unit), what="the end of the task")
            assert closed_on(coz, unit) == "done" and not zombies(axiom)
    finally:
        for pid in named(tag):
            os.kill(pid, signal.SIGKILL)
