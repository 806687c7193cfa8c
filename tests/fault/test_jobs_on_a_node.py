"""Jobs and external services of a real node: what hangs, overlaps, is killed, sleeps, and whose owner is gone."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from fault.scenes import events, script
from support.live import LiveNode, free_port, pair, share_keys, until
from support.outsider import outsider

pytestmark = pytest.mark.timeout(120)

# The clock brings it once in the life of a test, at most.
_RARELY = "0 0 29 2 *"
_EVERY_SECOND = "* * * * * *"


@contextmanager
def _node(root: Path, **extra: Any) -> Iterator[LiveNode]:
    """coz alone, started."""
    node = LiveNode(root, "coz", free_port(), {}, {"health": {"interval": "1s"}, **extra})
    share_keys(node)
    try:
        node.start()
        yield node
    finally:
        node.kill()


def _job(path: Path, text: str, **settings: Any) -> dict[str, Any]:
    return {"schedule": _RARELY, "zone": "UTC", "command": [str(script(path, text))], **settings}


def _alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def _noted(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def test_a_job_runs_by_the_clock(tmp_path: Path) -> None:
    """Every second, once each; its output, its events and `outlast jobs` tell of it."""
    log = tmp_path / "seconds"
    job = _job(tmp_path / "job.sh", f"date +%s.%N >> {log}; echo said something", schedule=_EVERY_SECOND, priority="P0")
    with _node(tmp_path, jobs={"tick": job}) as node:
        ended = until(lambda: len(found := events(node, "job.ended")) >= 4 and found, what="four runs")
        times = [float(line) for line in log.read_text().split()]
        assert len(times) <= times[-1] - times[0] + 2
        assert all(one["verdict"] == "done" and one["detail"] == "" for one in ended)
        told = node.status()["jobs"]["tick"]
        assert told["failures"] == 0 and told["runs"] >= 4
        assert (node.home.outputs / "tick.log").read_text().count("said something") >= 4
        shown = node.cli("jobs")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert re.search(
            r"^tick +every second, UTC time +in [01] s +\d s ago +(done in \d\.\d s|running)$",
            shown.stdout,
            re.MULTILINE,
        )


def test_outlast_run_says_what_came_of_it(tmp_path: Path) -> None:
    """Exit code 0 for what went well, whose output is in its log alone; 1 and the reason for what did not; 2 for what is no job, or runs."""
    jobs = {
        "fine": _job(tmp_path / "fine.sh", "echo one; echo 'three files copied'"),
        "bad": _job(tmp_path / "bad.sh", "echo 'no such disk' >&2; exit 7"),
        "missing": {**_job(tmp_path / "x.sh", ""), "command": [str(tmp_path / "nowhere")]},
        "long": _job(tmp_path / "long.sh", "exec sleep 100"),
    }
    with _node(tmp_path, jobs=jobs) as node:
        fine = node.cli("run", "fine")
        assert fine.returncode == 0
        assert re.fullmatch(r"fine: done in \d+\.\d s\n", fine.stdout)
        assert "three files copied" in node.cli("logs", "fine").stdout
        bad = node.cli("run", "bad")
        assert bad.returncode == 1
        assert re.fullmatch(r"bad: failed in \d+\.\d s: exit 7: no such disk\n", bad.stdout)
        missing = node.cli("run", "missing", "--json")
        assert (missing.returncode, json.loads(missing.stdout)["verdict"]) == (1, "failed")
        assert "does not exist; correct it in the inventory" in missing.stdout
        assert node.cli("run", "long", "--no-wait").returncode == 0
        twice = node.cli("run", "long")
        assert twice.returncode == 2 and "long runs already, since 20" in twice.stderr
        unknown = node.cli("run", "fin")
        assert (unknown.returncode, unknown.stderr) == (2, "outlast: JOB: coz has no job fin; did you mean fine?\n")
        assert node.cli("run", "no job").returncode == 2
        assert "Traceback" not in node.log() and node.cli("jobs").returncode == 1
        assert node.stop() == 0
        stopped = node.cli("run", "fine")
        assert stopped.returncode == 3 and "coz is not running" in stopped.stderr
        assert node.cli("jobs").returncode == 3


def test_a_job_that_hangs_is_ended_with_all_its_children(tmp_path: Path) -> None:
    """It ignores SIGTERM, and has a child in a session of its own: after its time-out nothing of it is left."""
    pids = tmp_path / "pids"
    text = f"trap '' TERM\necho $$ >> {pids}\nsetsid sleep 1000 & echo $! >> {pids}\nsleep 1000 & echo $! >> {pids}\nwait; wait"
    with _node(tmp_path, jobs={"hang": _job(tmp_path / "hang.sh", text, timeout="1s")}) as node:
        done = node.cli("run", "hang")
        assert done.returncode == 1 and "hung: not done after 1s" in done.stdout
        assert len(_noted(pids)) == 3 and _alive(_noted(pids)) == []


def test_what_a_job_leaves_behind_is_ended(tmp_path: Path) -> None:
    """One that exits and leaves children, in its group and out of it: they are gone when it is told as done."""
    pids = tmp_path / "pids"
    text = f"setsid sleep 1000 & echo $! >> {pids}\nsleep 1000 & echo $! >> {pids}\nexit 0"
    with _node(tmp_path, jobs={"leaves": _job(tmp_path / "leaves.sh", text)}) as node:
        assert node.cli("run", "leaves").returncode == 0
        assert len(_noted(pids)) == 2 and _alive(_noted(pids)) == []


def test_runs_never_overlap(tmp_path: Path) -> None:
    """Due every second and at work for two and a half: the cycles between are skipped, counted, and told why."""
    log = tmp_path / "log"
    text = f"echo begin >> {log}; sleep 2.5; echo end >> {log}"
    with _node(
        tmp_path, jobs={"slow": _job(tmp_path / "slow.sh", text, schedule=_EVERY_SECOND, priority="P0")}
    ) as node:
        until(lambda: log.exists() and log.read_text().count("end") >= 2, what="two runs")
        words = log.read_text().split()
        assert words[:4] == ["begin", "end", "begin", "end"]
        until(lambda: node.status()["jobs"]["slow"]["skips"].get("running", 0) >= 4, what="four skipped cycles")
        assert "still running" in node.cli("jobs").stdout


def test_a_job_dies_with_its_node_and_is_told_in_doubt(tmp_path: Path) -> None:
    """kill -9 of the runtime: nothing of the job goes on; the next start tells it as in doubt, does not run it again, and it
    can be run by hand."""
    pids = tmp_path / "pids"
    text = f"echo $$ >> {pids}\nsetsid sleep 1000 & echo $! >> {pids}\nwait"
    with _node(tmp_path, jobs={"work": _job(tmp_path / "work.sh", text)}) as node:
        assert node.cli("run", "work", "--no-wait").returncode == 0
        until(lambda: len(_noted(pids)) == 2, what="the job is at work")
        node.kill()
        until(lambda: _alive(_noted(pids)) == [], limit=10, what="nothing of the job is left")
        node.start()
        told = node.status()["jobs"]["work"]
        assert (told["state"], told["since"], told["runs"]) == ("in doubt", "", 1)
        assert "killed while it ran" in node.cli("jobs").stdout
        assert [one["verdict"] for one in events(node, "job.ended")] == ["in doubt"]
        assert len(_noted(pids)) == 2
        assert node.cli("run", "work", "--no-wait").returncode == 0
        until(lambda: len(_noted(pids)) == 4, what="it runs again")


def test_a_stop_ends_jobs_in_order(tmp_path: Path) -> None:
    """SIGTERM to the runtime: the job is asked to end, does so in its own time, and the record says what happened."""
    log = tmp_path / "log"
    text = f"trap 'sleep 0.3; echo tidied >> {log}; exit 0' TERM\necho began >> {log}\nwhile :; do sleep 0.1; done"
    with _node(tmp_path, jobs={"work": _job(tmp_path / "work.sh", text)}) as node:
        assert node.cli("run", "work", "--no-wait").returncode == 0
        until(lambda: log.exists(), what="the job is at work")
        assert node.stop() == 0
        assert log.read_text().split() == ["began", "tidied"]
        last = json.loads(node.home.jobs.read_text())["jobs"]["work"]["last"]
        assert (last["verdict"], last["detail"]) == ("in doubt", "the node was stopped while it ran")


def test_a_node_that_was_asleep_catches_up_with_nothing(tmp_path: Path) -> None:
    """The runtime stands still for five seconds of a job that is due in each: one run when it wakes, the others are counted."""
    log = tmp_path / "log"
    job = _job(tmp_path / "job.sh", f"date +%s.%N >> {log}", schedule=_EVERY_SECOND, priority="P0")
    with _node(tmp_path, jobs={"tick": job}) as node:
        until(lambda: log.exists() and len(log.read_text().split()) >= 2, what="two runs")
        assert node.process is not None
        os.kill(node.process.pid, signal.SIGSTOP)
        try:
            slept = time.time()
            time.sleep(5)
        finally:
            woke = time.time()
            os.kill(node.process.pid, signal.SIGCONT)
        until(lambda: float(log.read_text().split()[-1]) > woke + 1, what="runs after the sleep")
        times = [float(line) for line in log.read_text().split()]
        assert not [at for at in times if slept + 1.5 < at < woke]
        assert len([at for at in times if woke <= at < woke + 0.9]) <= 2
        assert node.status()["jobs"]["tick"]["skips"]["missed"] >= 3
        assert "asleep" in node.cli("jobs").stdout


def test_a_survivor_takes_over_what_is_safe(tmp_path: Path) -> None:
    """axiom is killed: coz runs the job that is marked safe, and not the other; axiom is back: it runs there, and not here."""

    def laid(name: str) -> dict[str, Any]:
        jobs = {
            job: _job(
                tmp_path / f"{job}.sh", f"echo $1 >> {tmp_path}/{job}.log", schedule=_EVERY_SECOND, owner="axiom",
                takeover=job == "safe", priority="P0",
            )
            for job in ("safe", "mail")
        }  # fmt: skip
        for job in jobs.values():
            job["command"] = [*job["command"], name]
        return {"health": {"interval": "1s", "sibling_silent": "3s"}, "jobs": jobs}

    def who(job: str) -> list[str]:
        path = tmp_path / f"{job}.log"
        return path.read_text().split() if path.exists() else []

    with pair(tmp_path, laid("coz"), laid("axiom")) as (coz, axiom):
        coz.start()
        axiom.start()
        until(lambda: len(who("safe")) >= 2, what="the owner runs it")
        assert coz.status()["jobs"]["safe"]["state"] == "elsewhere"
        assert "runs on axiom" in coz.cli("jobs").stdout
        axiom.kill()
        until(lambda: "coz" in who("safe"), what="the survivor runs it")
        assert "coz" not in who("mail") and [one["owner"] for one in events(coz, "job.taken_over")] == ["axiom"]
        axiom.start()
        until(lambda: events(coz, "job.given_back"), what="it is given back")
        until(lambda: coz.status()["jobs"]["safe"]["since"] == "", what="the last run here is over")
        before = who("safe").count("coz")
        until(lambda: who("safe")[-3:] == ["axiom"] * 3, what="the owner alone runs it")
        assert who("safe").count("coz") == before


def test_a_service_that_limits_us_degrades_the_node(tmp_path: Path) -> None:
    """429: degraded with its name, a P3 job is shed; over: normal again, and the job runs. A breaker that opens is an alert."""
    log = tmp_path / "log"
    job = _job(tmp_path / "job.sh", f"echo ran >> {log}", schedule=_EVERY_SECOND, priority="P3")
    with outsider() as service:
        external = {"models": {"url": f"{service.url}/v1", "every": "200ms", "cooldown": "200ms"}}
        with _node(tmp_path, jobs={"extra": job}, external=external) as node:
            until(lambda: log.exists(), what="the job runs in mode normal")
            service.status = 429
            until(lambda: node.status()["mode"] == "degraded", what="the node is degraded")
            assert node.status()["mode_reasons"] == ["models rate-limits us"]
            until(lambda: node.status()["jobs"]["extra"]["skips"].get("shed"), what="the job is shed")
            assert "P3 is off in mode degraded" in node.cli("jobs").stdout
            service.status = 200
            until(lambda: node.status()["mode"] == "normal", what="the node is normal again")
            before = len(log.read_text().split())
            until(lambda: len(log.read_text().split()) > before, what="the job runs again")
            service.status = 500
            until(lambda: any(one["name"] == "external models" for one in node.status()["alerts"]), what="the alert")
            assert node.status()["mode"] == "normal"
            service.status = 200
            until(lambda: node.status()["external"]["models"]["state"] == "closed", what="the breaker closes")
