"""Agents that misbehave, on a real pair: coz is told how it ended, in words that a person understands."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from fault.scenes import CountingAgent, assert_once, closed_on, hand_over, running_pair, script, settled
from support.live import LiveNode, until

pytestmark = pytest.mark.timeout(60)

_GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "config", "reason"),
    [
        ("exec sleep 600", {"timeout": "300ms"}, "hung"),
        ('trap "" TERM; while :; do sleep 1; done', {"timeout": "300ms"}, "hung"),
        ('echo "no such disk: /dev/nowhere" >&2; exit 1', {}, "exit 1: no such disk: /dev/nowhere"),
        ("echo hello", {}, "left no artifact"),
        ("kill -9 $$", {}, "killed by SIGKILL"),
        ("head -c 200000 /dev/zero > big", {"artifact_limit": "64KiB"}, "output too big"),
        ("ln -s /etc/passwd report.md", {}, "symbolic link"),
    ],
    ids=["hangs", "ignores SIGTERM", "exits 1", "no artifact", "is killed", "too much", "a link"],
)
def test_a_failed_agent_is_a_failed_handoff(tmp_path: Path, text: str, config: dict[str, str], reason: str) -> None:
    """The command on coz ends with 1 and the reason, both nodes tell ``failed``, nothing is published, and the agent's
    processes are gone; the next task is worked on."""
    agent = script(tmp_path / "agent.sh", text)
    with running_pair(tmp_path, agent, agent=config) as (coz, axiom):
        said = coz.cli("handoff", "axiom", "host report", "--json")
        told = json.loads(said.stdout)
        assert (said.returncode, told["status"]) == (1, "failed"), said
        assert reason in told["detail"] and "\n" not in told["detail"]
        settled(coz, axiom)
        assert_once(coz, axiom, [told["unit"]], verdicts=("failed",))
        assert not psutil.Process(axiom.status()["pid"]).children(recursive=True)
        CountingAgent(tmp_path / "good").path.rename(agent)
        unit = hand_over(coz)
        settled(coz, axiom)
        assert_once(coz, axiom, [unit])


def test_a_gigabyte_of_output_is_not_kept(tmp_path: Path) -> None:
    """An agent that prints a gigabyte costs axiom neither memory nor disk; its verdict is that of its exit and its files."""
    agent = script(tmp_path / "agent.sh", f"head -c {_GIB} /dev/zero | tr '\\0' 'x'")
    with running_pair(tmp_path, agent, agent={"stdout_limit": "64KiB"}) as (coz, axiom):
        said = coz.cli("handoff", "axiom", "host report", "--json")
        assert said.returncode == 1
        assert "left no artifact" in json.loads(said.stdout)["detail"]
        kept = [path for path in axiom.home.ended.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in kept) < 1 << 20
        assert psutil.Process(axiom.status()["pid"]).memory_info().rss < 100 << 20


def _ready(node: LiveNode) -> tuple[int, list[str]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{node.port}/readyz", timeout=30) as answer:
            return answer.status, json.loads(answer.read())["reasons"]
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["reasons"]


def test_work_waits_for_a_missing_agent(tmp_path: Path) -> None:
    """While axiom's agent command is not there, /readyz says so, and so does coz of what waits in its outbox; once it is
    there the task is done, with nothing restarted."""
    agent = CountingAgent(tmp_path / "agent")
    away = agent.path.rename(tmp_path / "away.sh")
    with running_pair(tmp_path, agent.path) as (coz, axiom):
        assert _ready(axiom) == (503, ["agent command missing"])
        assert axiom.json("status")["services"]["agent"] == "missing"
        unit = hand_over(coz)
        until(lambda: coz.status()["channels"]["axiom"]["last_error"], what="coz says why it waits")
        channel = coz.json("status")["channels"]["axiom"]
        assert channel["queued"] == 1 and "agent command missing" in channel["last_error"]
        assert channel["breaker"] == "closed", "an answer is no failure of the channel"
        assert not axiom.records("INTENT", unit)
        away.rename(agent.path)
        settled(coz, axiom)
        assert_once(coz, axiom, [unit])


def test_a_stop_hands_long_work_back(tmp_path: Path) -> None:
    """SIGTERM while an agent works longer than ``stop.grace``: exit 0, the agent is gone, and coz is told ``returned``."""
    agent = CountingAgent(tmp_path / "agent", work="exec sleep 600")
    with running_pair(tmp_path, agent.path, stop={"grace": "200ms"}) as (coz, axiom):
        running, waiting = hand_over(coz), hand_over(coz)
        until(lambda: agent.runs(running) and axiom.records("INTENT", waiting), what="one runs, one waits")
        assert axiom.stop() == 0
        until(lambda: closed_on(coz, running) and closed_on(coz, waiting), what="coz is told")
        assert not any(psutil.pid_exists(pid) for pid in agent.pids())
        assert agent.runs(waiting) == 0
        assert not axiom.home.socket.exists()
        axiom.start()
        settled(coz, axiom)
        assert_once(coz, axiom, [running, waiting], verdicts=("returned",))
        assert not axiom.json("status")["recovered"], "a stop in order leaves nothing to recover"


def test_a_stop_finishes_short_work(tmp_path: Path) -> None:
    """SIGTERM while an agent is about to be done: its task is finished and told, then the node stops with exit 0."""
    go = tmp_path / "go"
    agent = CountingAgent(tmp_path / "agent", work=f"while [ ! -e {go} ]; do sleep 0.02; done")
    with running_pair(tmp_path, agent.path, stop={"grace": "20s"}) as (coz, axiom):
        unit = hand_over(coz)
        until(lambda: agent.runs(unit), what="the agent runs")
        assert axiom.process is not None
        os.kill(axiom.process.pid, 15)
        until(lambda: _ready(axiom) == (503, ["stopping"]), what="axiom takes nothing new")
        go.touch()
        assert axiom.process.wait(30) == 0
        until(lambda: closed_on(coz, unit), what="coz is told")
        axiom.start()
        assert_once(coz, axiom, [unit])
        assert not axiom.json("status")["recovered"]
