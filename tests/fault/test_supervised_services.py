"""Services of a real node under kill -9, hangs and crash loops: they run again, and nothing of them outlives the node."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.live import LiveNode, free_port, until

from outlast.home import Home

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="setsid is a Linux program")

AT_ONCE = {"base": "1ms", "max": "1ms", "most": 1000}


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    made = Keeper(tmp_path)
    try:
        yield made
    finally:
        made.node.kill()
        until(lambda: not of_home(made.node.home), what="the end of all that the node started")


class Keeper:
    """A node with services."""

    def __init__(self, root: Path) -> None:
        self.node = LiveNode(root, "coz", free_port(), {})
        assert self.node.cli("keys", "init").returncode == 0

    def start(self, services: dict[str, Any], **more: Any) -> None:
        self.node.config |= {"services": services, **more}
        self.node.configure()
        self.node.start()

    def all(self) -> dict[str, Any]:
        told: dict[str, Any] = self.node.order("ps")["services"]
        return told

    def pid(self, name: str, *, but: int | None = None) -> int:
        """Its process, once it runs, and is another than ``but``."""
        until(lambda: self.all()[name]["pid"] not in (None, but), what=f"{name} runs")
        return int(self.all()[name]["pid"])

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = [line for log in self.node.home.logs.glob("[0-9]*.jsonl") for line in log.read_text().splitlines()]
        return [event for event in map(json.loads, lines) if event["event"] == kind]


def of_home(home: Home) -> list[int]:
    """All that runs with a mark of this home, found by means of our own."""
    mark = f"OUTLAST_WORK={home.root}/".encode()
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_killed_service_runs_again_and_no_other_is_touched(keeper: Keeper) -> None:
    """kill -9 of one, again and again: it runs again each time, with its children gone, and its neighbour does not notice."""
    script = "sleep 600 & setsid sleep 600 & echo started; wait"
    keeper.start({"one": {"command": ["sh", "-c", script], **AT_ONCE}, "two": {"command": ["sleep", "600"]}})
    two, pid = keeper.pid("two"), keeper.pid("one")
    for _ in range(10):
        until(lambda: len(of_home(keeper.node.home)) == 4, what="it and its children")
        family = frozenset(of_home(keeper.node.home)) - {two}
        os.kill(pid, signal.SIGKILL)
        pid = keeper.pid("one", but=pid)
        until(lambda family=family: all(map(gone, family)), what="the end of its old children")
    assert keeper.pid("two") == two
    told = keeper.all()["one"]
    assert told["restarts"] == 10 and told["last_reason"] == "killed by SIGKILL"


def test_one_that_cannot_live_rests_and_is_told(keeper: Keeper) -> None:
    """A crash loop ends: after ``most`` restarts it rests, a person is told with the mend, and it is tried again then."""
    keeper.start(
        {
            "bad": {
                "command": ["sh", "-c", "echo oops; exit 3"],
                "base": "1ms",
                "max": "5ms",
                "most": 3,
                "within": "3s",
                "rest": "1s",
            }
        }
    )
    until(lambda: keeper.all()["bad"]["state"] == "resting", what="a rest")
    assert len(keeper.events("service.started")) == 4
    alert = next(alert for alert in keeper.node.status()["alerts"] if alert["name"] == "service bad")
    assert "exit code 3" in alert["text"] and "outlast logs bad" in alert["text"]
    assert keeper.node.cli("ps").returncode == 1
    until(lambda: len(keeper.events("service.started")) > 4, what="the try after the rest")
    starts = keeper.events("service.started")
    assert 4 <= len(starts) <= 6


def test_the_runtime_killed_leaves_nothing(keeper: Keeper) -> None:
    """kill -9 of the runtime at any moment of a busy life: every process of every service is gone, though no runtime comes."""
    tree = "sh -c 'sleep 600 & setsid sleep 600 & wait' & setsid sh -c 'sleep 600' & wait"
    services: dict[str, Any] = {f"tree{number}": {"command": ["sh", "-c", tree]} for number in range(5)}
    services |= {
        f"flap{number}": {"command": ["sh", "-c", "setsid sleep 600 & exit 1"], **AT_ONCE} for number in range(3)
    }
    chance = random.Random(6)
    for _ in range(5):
        keeper.start(services)
        until(lambda: len(of_home(keeper.node.home)) > 20, what="a busy node")
        time.sleep(chance.uniform(0.0, 0.3))
        keeper.node.kill()
        until(lambda: not of_home(keeper.node.home), limit=20, what="the end of all of it")


def test_a_start_ends_what_even_the_guard_left(keeper: Keeper) -> None:
    """Runtime and guard killed together: the next start ends what they left, before it starts anything of its own."""
    keeper.start({"web": {"command": ["sh", "-c", "setsid sleep 600 & exec sleep 600"]}})
    until(lambda: len(of_home(keeper.node.home)) == 2, what="it and its daemon")
    left = of_home(keeper.node.home)
    assert keeper.node.process is not None
    guards = [
        child for child in psutil.Process(keeper.node.process.pid).children() if "outlast-guard" in child.cmdline()
    ]
    assert len(guards) == 1
    os.kill(guards[0].pid, signal.SIGSTOP)
    keeper.node.kill()
    guards[0].kill()
    assert not any(map(gone, left))
    keeper.node.start()
    assert all(map(gone, left))
    assert set(keeper.events("leftovers.ended")[0]["pids"]) == set(left)
    assert keeper.pid("web") not in left


def test_a_hung_service_is_started_anew(keeper: Keeper) -> None:
    """SIGSTOP, then `outlast restart`: it runs again at once, without waiting for a grace that it cannot use."""
    keeper.start({"web": {"command": ["sleep", "600"], "grace": "10m"}}, stop={"within": "11m"})
    pid = keeper.pid("web")
    os.kill(pid, signal.SIGSTOP)
    done = keeper.node.cli("restart", "web", "--json", timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["before"] == pid != json.loads(done.stdout)["pid"]
    assert gone(pid)


def test_a_hung_service_is_noticed_by_its_probe(keeper: Keeper) -> None:
    """One that listens and does not answer is found by its probe and started anew, with the probe's words as the reason."""
    port = free_port()
    up = {"http": f"http://127.0.0.1:{port}/", "every": "1s", "timeout": "500ms", "failures": 1, "then": "restart"}
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    keeper.start({"web": {"command": command, "probes": {"up": up}, "most": 100, "max": "1s"}})
    until(lambda: keeper.node.status()["probes"]["working"]["web"]["state"] == "working", what="a service that works")
    pid = keeper.pid("web")
    os.kill(pid, signal.SIGSTOP)
    assert keeper.pid("web", but=pid) != pid and gone(pid)
    assert "up" in keeper.all()["web"]["last_reason"]
    until(
        lambda: keeper.node.status()["probes"]["working"]["web"]["state"] == "working",
        what="a service that works again",
    )


def test_a_stop_is_in_order(keeper: Keeper) -> None:
    """At a stop the least important goes first, each has its grace, and nothing is left."""
    script = "trap 'sleep 0.2; date +%s.%N > ../NAME; exit 0' TERM; touch ../NAME.ready; while :; do sleep 0.02; done"
    keeper.start(
        {
            name.lower(): {"command": ["sh", "-c", script.replace("NAME", name)], "priority": name, "directory": "x"}
            for name in ("P0", "P1", "P2", "P3")
        }
    )
    folder = keeper.node.home.workspace
    until(lambda: len(list(folder.glob("P?.ready"))) == 4, what="all four")
    assert keeper.node.stop() == 0
    ended = [float((folder / name).read_text()) for name in ("P3", "P2", "P1", "P0")]
    assert ended == sorted(ended)
    assert not of_home(keeper.node.home)


def test_maintenance_stops_all_but_what_answers_people(keeper: Keeper) -> None:
    """In maintenance only P0 runs; when it is over the others are there again, and none of this is a failure of theirs."""
    services = {name: {"command": ["sleep", "600"], "priority": name.upper()} for name in ("p0", "p1", "p3")}
    keeper.start(services, health={"interval": "100ms"})
    first = {name: keeper.pid(name) for name in services}
    heartbeat = keeper.node.home.heartbeat
    text = heartbeat.read_text() if heartbeat.exists() else ""
    heartbeat.write_text(text + "\nMAINTENANCE_MODE\n")
    until(lambda: [one["state"] for one in keeper.all().values()] == ["running", "shed", "shed"], what="maintenance")
    assert keeper.pid("p0") == first["p0"] and gone(first["p1"]) and gone(first["p3"])
    heartbeat.write_text(heartbeat.read_text().replace("MAINTENANCE_MODE", ""))
    assert keeper.pid("p1") != first["p1"]
    assert all(one["restarts"] == 0 for one in keeper.all().values())


def test_two_hundred(keeper: Keeper) -> None:
    """Two hundred services: all run, all run again when all are killed at once, and all end when the runtime is killed."""
    keeper.start({f"w{number}": {"command": ["sleep", "600"], **AT_ONCE} for number in range(200)})

    def pids() -> set[int]:
        return {one["pid"] for one in keeper.all().values() if one["pid"] is not None}

    until(lambda: len(pids()) == 200, limit=60, what="two hundred")
    first = pids()
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(pids()) == 200 and not pids() & first, limit=60, what="two hundred others")
    assert all(one["restarts"] == 1 for one in keeper.all().values())
    assert keeper.node.process is not None
    assert psutil.Process(keeper.node.process.pid).num_threads() < 20
    keeper.node.kill()
    until(lambda: not of_home(keeper.node.home), limit=30, what="the end of two hundred")


def test_logs_are_followed_and_names_are_mended(keeper: Keeper) -> None:
    """`outlast logs -f` goes on over a rotation without losing a line; a misspelt name gets the right one proposed."""
    script = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.002; done"
    keeper.start({"talker": {"command": ["sh", "-c", script], "log_limit": "4KiB"}})
    keeper.pid("talker")
    command = [
        str(Path(sys.executable).parent / "outlast"),
        "--home",
        str(keeper.node.home.root),
        "logs",
        "talker",
        "-f",
        "-n",
        "0",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        numbers = [int(follower.stdout.readline().split()[1]) for _ in range(600)]
        follower.terminate()
    assert numbers == list(range(numbers[0], numbers[0] + 600))
    outputs = keeper.node.home.outputs
    assert sum(file.stat().st_size for file in outputs.iterdir()) <= 8192
    for words in (("logs", "talkre"), ("restart", "talkre")):
        refused = keeper.node.cli(*words)
        assert refused.returncode == 2 and "did you mean talker?" in refused.stderr
    keeper.node.stop()
    shown = keeper.node.cli("logs", "talker", "-n", "3", "--json")
    assert [json.loads(line)["name"] for line in shown.stdout.splitlines()] == ["talker"] * 3
