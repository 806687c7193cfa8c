"""What a node writes down of itself through kills, full disks, and many days; and how little it writes with nothing to do."""

from __future__ import annotations

import contextlib
import gzip
import json
import secrets
import time
from datetime import date, timedelta
from pathlib import Path

import pytest
from fault.scenes import hand_over, running_pair, script
from support.blockdev import small_disk
from support.live import LiveNode, free_port, until
from support.observed import OBSERVE, lines, spans

from outlast.core.ids import trace_of

pytestmark = pytest.mark.timeout(180)


def test_files_are_readable_after_a_kill_and_the_trace_goes_on(tmp_path: Path) -> None:
    """kill -9 in the middle of work: every line of every file is whole; the task that was cut off still gets its span, in the
    same trace, once it is done after the start; and the report says that the runtime was killed."""
    agent = script(tmp_path / "agent.sh", "sleep 30")
    with running_pair(tmp_path, agent, observe=OBSERVE) as (coz, axiom):
        unit = hand_over(coz)
        until(
            lambda: any(event["event"] == "agent.started" for event in lines(axiom.home.logs, "2*.jsonl")),
            what="it began",
        )
        axiom.kill()
        for folder in (axiom.home.logs, axiom.home.traces):
            lines(folder)
        assert json.loads(axiom.home.load_status.read_text())["node"] == "axiom"
        script(tmp_path / "agent.sh", "echo done > report.md")
        axiom.start()
        until(lambda: coz.order("wait", {"unit": unit, "seconds": 5})["status"] == "done", what="it is done")
        until(lambda: any(one["name"] == "task" for one in spans(axiom)), what="its span")
        task = next(one for one in spans(axiom) if one["name"] == "task")
        assert task["traceId"] == trace_of(unit)
        assert {"killed"} == {one["why"] for one in axiom.json("report", "--since", "1h")["down"]}
        assert any(one["what"] == "was killed" for one in axiom.json("report")["incidents"])
        assert axiom.stop() == 0
        last = json.loads(axiom.home.load_status.read_text())
        assert not last["ready"] and last["reasons"] == ["stopped"]
        assert lines(axiom.home.logs, "metrics-*.jsonl")


def test_an_idle_node_writes_next_to_nothing(tmp_path: Path) -> None:
    """With nothing to do: one line of metrics at the start, LOAD_STATUS.json once, no spans."""
    node = LiveNode(
        tmp_path, "solo", free_port(), {}, {"observe": {"metrics_every": "100ms"}, "health": {"interval": "100ms"}}
    )
    assert node.cli("keys", "init").returncode == 0
    try:
        node.start()
        until(node.home.load_status.exists, what="LOAD_STATUS.json")
        first, began = node.home.load_status.stat().st_mtime_ns, time.monotonic()
        until(lambda: time.monotonic() - began > 2.0, what="twenty checks")
        assert len(lines(node.home.logs, "metrics-*.jsonl")) == 1
        assert node.home.load_status.stat().st_mtime_ns == first and not node.home.traces.exists()
    finally:
        node.kill()


def test_a_start_keeps_logs_within_their_time(tmp_path: Path) -> None:
    """Days that are over are packed, old ones go to the trash, what the trash held too long goes for good; nothing that an
    agent wrote is touched, and the packed day is still read."""
    node = LiveNode(tmp_path, "solo", free_port(), {}, {"observe": {"keep": "20d"}})
    assert node.cli("keys", "init").returncode == 0
    days = {back: (date.today() - timedelta(days=back)).isoformat() for back in (1, 10, 30)}
    logs, traces_, old = node.home.logs, node.home.traces, node.home.old_logs
    for folder in (logs, traces_, old):
        folder.mkdir(parents=True, exist_ok=True)
    for day in days.values():
        for path in (logs / f"{day}.jsonl", logs / f"metrics-{day}.jsonl", traces_ / f"{day}.jsonl"):
            path.write_text(f'{{"at":"{day}T12:00:00.000Z","event":"alert","name":"x","text":"kept"}}\n' * 50)
    mine = logs / "notes-2020-01-01.txt"
    mine.write_text("an agent wrote this\n")
    (old / "20200101T000000Z-abcd-2019-01-01.jsonl.gz").write_bytes(gzip.compress(b"x"))
    try:
        node.start()
        gone = [logs / f"{days[30]}.jsonl", logs / f"metrics-{days[30]}.jsonl", traces_ / f"{days[30]}.jsonl"]
        packed = [
            Path(f"{folder / name}.gz")
            for folder, name in ((logs, f"{days[10]}.jsonl"), (traces_, f"{days[10]}.jsonl"))
        ]
        until(
            lambda: not any(path.exists() for path in gone) and all(path.exists() for path in packed),
            what="tidied logs",
        )
        assert (logs / f"{days[1]}.jsonl").exists() and (traces_ / f"{days[1]}.jsonl").exists()
        until(lambda: sorted(path.name[22:] for path in old.iterdir()) == sorted(
            [f"{days[30]}.jsonl", f"metrics-{days[30]}.jsonl", f"{days[30]}.jsonl"]), what="the trash")  # fmt: skip
        assert mine.read_text() == "an agent wrote this\n"
        found = node.json("report", "--since", "15d")
        assert any(alert["text"] == "kept" and alert["at"].startswith(days[10]) for alert in found["alerts"])
    finally:
        node.kill()


def test_a_full_disk_stops_no_work_for_the_sake_of_metrics(tmp_path: Path) -> None:
    """On a disk without a byte left the node answers, counts what it cannot write, and once there is room writes whole lines
    again, beside whole lines."""
    with small_disk(tmp_path) as disk:
        # As full as it may be without an emergency, which only a person ends.
        health = {"interval": "1s", "disk_degraded": 99, "disk_emergency": 100}
        node = LiveNode(disk.path, "solo", free_port(), {}, {"health": health, "observe": {"metrics_every": "1s"}})
        assert node.cli("keys", "init").returncode == 0
        try:
            node.start()
            disk.fill()
            for _ in range(200):
                with contextlib.suppress(Exception):
                    node.order("step/begin", {"unit": f"u{secrets.token_hex(4)}", "artifacts": ["a.md"]})
            assert not node.ended() and node.status()["observer"]["defects"] == 0
            disk.make_room()
            until(lambda: node.status()["ready"], what="it writes again")
            node.order("step/begin", {"unit": "unit-1", "artifacts": ["a.md"]})
            lines(node.home.logs)
            assert any(event.get("correlation_id") == "unit-1" for event in lines(node.home.logs, "2*.jsonl"))
        finally:
            node.kill()
