"""kill -9 of either node at any moment of a load of hand-offs (issue 2, promise 6)."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault.scenes import CountingAgent, assert_once, closed_on, running_pair, settled
from support.live import LiveNode, until

from outlast.core.ids import new_unit
from outlast.errors import OutlastError

_MOST = 170
_AT_ONCE = 4


@contextmanager
def _load(coz: LiveNode) -> Iterator[list[str]]:
    """Hand over work all the while; yields the units that were acknowledged, complete once the block is left.

    Every fifth is typed at the command line; the others are the same order without the time that its process takes.
    """
    acknowledged: list[str] = []
    over = threading.Event()

    def typed(number: int) -> None:
        said = coz.cli("handoff", "axiom", f"unit {number}", "--no-wait", "--json")
        assert "Traceback" not in said.stderr
        if said.returncode == 0:
            acknowledged.append(json.loads(said.stdout)["unit"])

    def ordered(number: int) -> None:
        unit = new_unit("coz", time.time(), number)
        try:
            coz.order("handoff", {"unit": unit, "peer": "axiom", "task": f"unit {number}"})
        except OutlastError:
            return
        acknowledged.append(unit)

    def run() -> None:
        for number in range(_MOST):
            (ordered if number % 5 else typed)(number)
            while not over.is_set() and _open(coz) >= _AT_ONCE:
                over.wait(0.005)
            if over.is_set():
                return

    worker = threading.Thread(target=run)
    worker.start()
    try:
        yield acknowledged
    finally:
        over.set()
        worker.join()


def _open(node: LiveNode) -> int:
    found = node.status()
    return int(found["handoffs"]["open"]) if found else 0


def _kill_at_random(nodes: list[LiveNode], kills: int, seed: int) -> None:
    """SIGKILL one of the nodes at a random moment, and start it again as a service manager does; so many times.

    Some starts are not waited for, so that the next kill may hit a node that is still recovering from the last.
    """
    dice = random.Random(seed)
    for _ in range(kills):
        node = dice.choice(nodes)
        time.sleep(dice.uniform(0.0, 0.25))  # the moment is what is random here, nothing is waited for
        node.kill()
        node.start(wait=dice.random() < 0.6)


@pytest.mark.timeout(180)
def test_what_was_acknowledged_is_done_once_however_often_the_nodes_are_killed(tmp_path: Path) -> None:
    """25 kills of either node under load: every acknowledged hand-off is done once, confirmed once in each journal, has one
    artifact that is what the agent left, and ``outlast status`` lists what was recovered."""
    agent = CountingAgent(tmp_path / "agent", work="sleep 0.03")
    once_more = {"after_crash": "rerun", "attempts": 1000}
    with running_pair(tmp_path, agent.path, agent=once_more) as (coz, axiom):
        with _load(coz) as acknowledged:
            _kill_at_random([coz, axiom], 25, seed=6)
            until(lambda: len(acknowledged) > 25, what="work is handed over")
        settled(coz, axiom)
        assert_once(coz, axiom, acknowledged)
        # What was refused or cut off before its acknowledgement is closed too, and told alike where both know it.
        others = [unit for unit in coz.state()["units"] if unit not in acknowledged]
        assert all(closed_on(coz, unit) in {"done", "in doubt"} for unit in others)
        assert all(closed_on(axiom, unit) in {"", closed_on(coz, unit)} for unit in others)
        assert axiom.json("status")["recovered"], "nothing was recovered: the kills missed all the work"
        assert all({"unit", "what", "at"} == set(entry) for entry in axiom.json("status")["recovered"])


@pytest.mark.timeout(180)
def test_an_agent_that_may_not_run_again_never_does(tmp_path: Path) -> None:
    """With ``agent.after_crash: report`` a task whose agent was cut off ends ``in doubt`` on both sides, and no agent is ever
    started twice for one unit."""
    agent = CountingAgent(tmp_path / "agent", work="sleep 0.1")
    with running_pair(tmp_path, agent.path, agent={"after_crash": "report"}) as (coz, axiom):
        with _load(coz) as acknowledged:
            _kill_at_random([axiom, axiom, coz], 10, seed=9)
            until(lambda: len(acknowledged) > 10, what="work is handed over")
        settled(coz, axiom)
        assert_once(coz, axiom, acknowledged, verdicts=("done", "in doubt"))
        assert max(agent.runs(unit) for unit in acknowledged) == 1
        assert any(closed_on(coz, unit) == "in doubt" for unit in acknowledged)
        told = [entry["what"] for entry in axiom.json("status")["recovered"]]
        assert any("cut off" in what for what in told), told


@pytest.mark.timeout(60)
def test_an_agent_that_was_left_running_is_ended_before_its_task_is_reported(tmp_path: Path) -> None:
    """A runtime that is killed leaves its agent running; the next start ends that agent, says ``in doubt``, and coz's command
    ends with 1 and the reason."""
    agent = CountingAgent(tmp_path / "agent", work="exec sleep 600")
    with running_pair(tmp_path, agent.path, agent={"after_crash": "report"}) as (coz, axiom):
        unit = coz.json("handoff", "axiom", "a long one", "--no-wait")["unit"]
        until(lambda: agent.runs(unit), what="the agent runs")
        axiom.kill()
        assert _running(agent.pids()[0]), "the agent ended by itself: this test shows nothing"
        axiom.start()
        settled(coz, axiom)
        assert not _running(agent.pids()[0])
        assert_once(coz, axiom, [unit], verdicts=("in doubt",))
        assert agent.runs(unit) == 1
        assert "cut off" in coz.state()["units"][unit]["detail"]


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if Path("/proc/self").exists() else True


@pytest.mark.timeout(60)
def test_a_waiting_command_outlives_its_node(tmp_path: Path) -> None:
    """``outlast handoff`` that waits while its own node is killed and started again still ends with the confirmation."""
    go = tmp_path / "go"
    agent = CountingAgent(tmp_path / "agent", work=f"while [ ! -e {go} ]; do sleep 0.02; done")
    with running_pair(tmp_path, agent.path) as (coz, axiom):
        said: list[tuple[int, str]] = []

        def hand_over() -> None:
            done = coz.cli("handoff", "axiom", "a slow one")
            said.append((done.returncode, done.stdout + done.stderr))

        waiting = threading.Thread(target=hand_over)
        waiting.start()
        until(lambda: agent.log.read_text(), what="the agent runs")
        coz.kill()
        coz.start()
        go.touch()
        waiting.join()
        assert said[0][0] == 0, said
        assert "result.md" in said[0][1]
        settled(coz, axiom)
        assert_once(coz, axiom, list(coz.state()["units"]))
