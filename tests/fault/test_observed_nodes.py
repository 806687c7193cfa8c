"""What two real nodes write down of real work, read by jq, by OpenTelemetry, by promtool and by their own commands."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fault.scenes import hand_over, running_pair, script
from support.live import LiveNode, until
from support.needs import missing
from support.observed import OBSERVE, lines, spans
from unit.test_exposition import check
from unit.test_spans import parse

from outlast.core.exposition import metrics_text
from outlast.core.ids import trace_of
from outlast.net import client

pytestmark = pytest.mark.timeout(180)

JQ = Path(__file__).resolve().parents[2] / "files" / "jq"
AGENT = 'if [ -e "$FAIL" ]; then echo "no such page" >&2; exit 3; fi; echo done > report.md'


@dataclass
class Scene:
    """What happened: hand-offs that were done, one whose agent failed, and requests that were refused."""

    coz: LiveNode
    axiom: LiveNode
    done: list[str]
    failed: str


def handed(node: LiveNode) -> str:
    """A hand-off that is closed; its name."""
    unit = hand_over(node)
    until(lambda: node.order("wait", {"unit": unit, "seconds": 10})["status"] != "open", what=f"{unit} is closed")
    return unit


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = tmp_path_factory.mktemp("observed")
    agent = script(root / "agent.sh", AGENT.replace("$FAIL", str(root / "fail")))
    with running_pair(root, agent, observe=OBSERVE) as (coz, axiom):
        done = [handed(coz) for _ in range(3)]
        (root / "fail").touch()
        failed = handed(coz)
        (root / "fail").unlink()
        for _ in range(4):
            url = f"http://127.0.0.1:{axiom.port}"
            forged = client.request(url, "POST", "/inbox/coz", body=b"{}", connect_s=5, total_s=10)
            assert asyncio.run(forged).status == 401
        axiom.order("emergency", {"reason": "a trial"})
        axiom.order("resume", {"reason": "it is over"})
        for node, last in ((axiom, "result sent"), (coz, "handoff")):
            until(lambda: [one["name"] for one in spans(node)].count(last) == 4, what=f"four spans {last}")  # noqa: B023
        yield Scene(coz, axiom, done, failed)


def test_a_hand_off_is_one_tree_over_both_nodes(scene: Scene) -> None:
    """hand-off → task sent → (taken, task → (agent, result sent → taken)): one trace, every parent there, each inside the
    one above; OpenTelemetry's own definitions read every line."""
    trace = trace_of(scene.done[0])
    found = {one["spanId"]: one for node in (scene.coz, scene.axiom) for one in spans(node) if one["traceId"] == trace}
    names = {one["name"]: found.get(one.get("parentSpanId", ""), {}).get("name", "") for one in found.values()}
    assert names == {
        "handoff": "", "task sent": "handoff", "task accepted": "task sent", "task": "task sent", "agent": "task",
        "result sent": "task", "result accepted": "result sent",
    }  # fmt: skip
    for one in found.values():
        above = found.get(one.get("parentSpanId", ""))
        # By milliseconds, on two nodes with one clock; what was sent may be acknowledged after its sender knows it closed.
        assert above is None or int(one["startTimeUnixNano"]) >= int(above["startTimeUnixNano"]) - 2_000_000
    for node in (scene.coz, scene.axiom):
        for path in node.home.traces.glob("*.jsonl"):
            assert all(parse(line) for line in path.read_bytes().splitlines())


def test_what_failed_is_marked_where_it_failed(scene: Scene) -> None:
    """The agent's exit code is an error in its span, its task's and the hand-off's; what was sent is none."""
    found = [
        one for node in (scene.coz, scene.axiom) for one in spans(node) if one["traceId"] == trace_of(scene.failed)
    ]
    bad = {one["name"] for one in found if one["status"]["code"] == 2}
    assert bad == {"agent", "task", "handoff"}
    assert "no such page" in next(one for one in found if one["name"] == "agent")["status"]["message"]


def test_every_entry_message_and_artifact_has_its_ids(scene: Scene) -> None:
    """Every event has the three fields, every event about a unit its trace, and so has the artifact's manifest."""
    for node in (scene.coz, scene.axiom):
        for event in lines(node.home.logs, "2*.jsonl"):
            assert {"trace_id", "span_id", "correlation_id"} <= event.keys(), event
            if event["correlation_id"] in scene.done:
                assert event["trace_id"] == trace_of(event["correlation_id"]), event
    manifests = [path for path in (scene.axiom.home.artifacts / scene.done[0]).iterdir() if path.suffix == ".json"]
    assert [json.loads(path.read_text())["trace_id"] for path in manifests] == [trace_of(scene.done[0])]


def test_metrics_count_what_happened(scene: Scene) -> None:
    """Over the lines of metrics of axiom: four tasks, one of them failed, four refusals; and promtool likes the rest."""
    until(lambda: kinds(scene.axiom).get("message_in", (0, 0))[1] == 4, what="a line about refusals")
    found = kinds(scene.axiom)
    assert found["task"] == (4, 1) and found["agent"] == (4, 1) and found["message_in"] == (8, 4)
    assert kinds(scene.coz)["handoff"] == (4, 1)
    check(metrics_text(scene.axiom.status()))


def kinds(node: LiveNode) -> dict[str, tuple[int, int]]:
    """How many of each kind the metrics have, and how many failed."""
    summed: dict[str, tuple[int, int]] = {}
    for line in lines(node.home.logs, "metrics-*.jsonl"):
        for kind, one in line["kinds"].items():
            before = summed.get(kind, (0, 0))
            summed[kind] = (before[0] + one["n"], before[1] + one["errors"])
    return summed


def jq(name: str, *words: str, files: list[Path], raw: bool = True) -> list[list[str]]:
    """The rows that a script of files/jq prints."""
    if shutil.which("jq") is None:
        missing("jq")
    command = ["jq", *(["-nR"] if raw else []), "-r", "-f", str(JQ / name), *words, *map(str, files)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return [line.split("\t") for line in ran.stdout.splitlines()]


def test_each_jq_script_answers_its_question(scene: Scene) -> None:
    """On the logs of nodes that ran, with half a line in one of them: each script of files/jq finds what happened, and each is
    in its README."""
    logs = {node: sorted(node.home.logs.glob("2*.jsonl")) for node in (scene.coz, scene.axiom)}
    measured = sorted(scene.axiom.home.logs.glob("metrics-*.jsonl"))
    half = scene.axiom.home.root / "half.jsonl"
    half.write_text('{"at":"2026-1')
    here, both = [*logs[scene.axiom], half], [*logs[scene.coz], *logs[scene.axiom]]
    answers = {
        "errors.jq": jq("errors.jq", files=here),
        "slowest.jq": jq("slowest.jq", "--argjson", "most", "2", files=here),
        "refused.jq": jq("refused.jq", files=here),
        "modes.jq": jq("modes.jq", files=here),
        "jobs.jq": jq("jobs.jq", files=here),
        "story.jq": jq("story.jq", "--arg", "id", scene.done[0], files=both),
        "spans.jq": jq("spans.jq", "--arg", "id", trace_of(scene.done[0]), files=traces(scene)),
        "rates.jq": jq("rates.jq", files=measured),
        "usage.jq": jq("usage.jq", files=measured),
        "alerts.jq": jq("alerts.jq", files=here),
        "restarts.jq": jq("restarts.jq", files=here),
        "status.jq": jq("status.jq", files=[scene.axiom.home.load_status], raw=False),
    }
    assert set(answers) == {path.name for path in JQ.glob("*.jq")}
    assert {row[1] for row in answers["errors.jq"]} >= {"agent.ended", "task.closed", "message.refused"}
    assert any("no such page" in row[3] for row in answers["errors.jq"])
    slow = answers["slowest.jq"]
    assert len(slow) == 2 and float(slow[0][0]) >= float(slow[1][0])
    assert sum(int(row[0]) for row in answers["refused.jq"]) >= 1 and "coz: " in answers["refused.jq"][0][1]
    assert [row[3] for row in answers["modes.jq"]][:2] == ["emergency", "normal"] and "a trial" in answers["modes.jq"][
        0
    ][4]
    told = [row[2] for row in answers["story.jq"]]
    assert told[0] == "handoff.made" and {"task.accepted", "agent.ended", "task.closed", "handoff.closed"} <= set(told)
    tree = [row[3] for row in answers["spans.jq"]]
    assert tree[0] == "handoff" and "    task" in tree and "      agent" in tree and len(tree) == 7
    rates = {row[0]: row for row in answers["rates.jq"]}
    assert float(rates["task"][2]) == 25.0 and float(rates["message_in"][1]) > 0
    assert all(float(row[1]) > 5 for row in answers["usage.jq"])
    assert answers["status.jq"][0][0].startswith("axiom: normal, ready")
    readme = (JQ / "README.md").read_text()
    assert all(f"files/jq/{name}" in readme for name in answers)


def traces(scene: Scene) -> list[Path]:
    return [path for node in (scene.coz, scene.axiom) for path in sorted(node.home.traces.glob("*.jsonl"))]


def test_jq_scripts_find_jobs_alerts_and_restarts(tmp_path: Path) -> None:
    """What the nodes of this module did not do: jobs by name, alerts with their end, services that ended."""
    log = tmp_path / "2026-11-21.jsonl"
    events = [
        {"event": "job.ended", "name": "nightly", "verdict": "done", "seconds": 2.5},
        {"event": "job.ended", "name": "nightly", "verdict": "failed", "seconds": 9.0},
        {"event": "alert", "name": "disk", "urgency": "now", "text": "full"},
        {"event": "service.exited", "name": "web", "reason": "killed by SIGKILL"},
        {"event": "alert.over", "name": "disk"},
        {"event": "alert", "name": "keys", "urgency": "soon", "text": "old"},
    ]
    log.write_text(
        "".join(json.dumps({"at": f"2026-11-21T05:00:0{n}.000Z", **one}) + "\n" for n, one in enumerate(events))
    )
    assert jq("jobs.jq", files=[log]) == [["nightly", "2", "1", "9", "failed", "2026-11-21T05:00:01.000Z"]]
    first, second = jq("alerts.jq", files=[log])
    assert first[:3] == ["2026-11-21T05:00:02.000Z", "2026-11-21T05:00:04.000Z", "disk"] and second[1:3] == ["", "keys"]
    assert jq("restarts.jq", files=[log]) == [["web", "1", "killed by SIGKILL", "2026-11-21T05:00:03.000Z"]]
    assert jq("errors.jq", "--argjson", "hours", "1", files=[log]) == []


def test_the_report_tells_what_happened(scene: Scene) -> None:
    """outlast report, for people and as JSON, names the work, the failure, the refusals and the emergency with its why."""
    found = scene.axiom.json("report", "--since", "1h")
    assert found["work"]["tasks"]["verdicts"] == {"done": 3, "failed": 1} and found["starts"] == 1
    assert sum(found["messages"]["refused"].values()) >= 1 and found["messages"]["out"] == 4
    assert [one["mode"] for one in found["modes"]] == ["normal", "emergency", "normal"]
    told = scene.axiom.cli("report").stdout
    for words in ("a trial", "75 %", "no such page", "messages: 4 in, 4 out", "refused"):
        assert words in told, told
    assert scene.axiom.cli("report", "--since", "soon").returncode == 2


def test_load_status_is_for_programs(scene: Scene) -> None:
    """LOAD_STATUS.json is whole, readable for the group, and says what the status says."""
    found = json.loads(scene.coz.home.load_status.read_text())
    status = scene.coz.status()
    assert found["mode"] == status["mode"] and found["services"]["ingress"] == "up" and found["pid"] == status["pid"]
    assert found["queue"] == {"tasks": 0, "handoffs": 0, "messages": 0} and found["memory"]["rss_bytes"] > 5 << 20


def test_top_is_one_plain_picture_where_there_is_no_terminal(scene: Scene) -> None:
    """Piped, it prints once, without a single escape, what is known of both nodes and what failed."""
    shown = scene.coz.cli("top")
    assert shown.returncode == 0 and "\x1b" not in shown.stdout, shown
    assert re.search(r"^coz: mode normal, ready", shown.stdout, re.MULTILINE) and "axiom" in shown.stdout
    assert "no such page" in shown.stdout
    assert scene.coz.json("top")["status"]["node"] == "coz"


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_top_fits_a_small_terminal_and_leaves_it_as_it_was(scene: Scene, key: bytes) -> None:
    """In 80 columns and 24 rows no picture scrolls or wraps; q and Ctrl-C end it with exit code 0, and the terminal's settings,
    its cursor and its screen are back."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(slave)
    command = [str(Path(sys.executable).parent / "outlast"), "--home", str(scene.coz.home.root), "top"]
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=_own
    )
    try:
        shown = b""
        deadline = time.monotonic() + 30
        while b"q or Ctrl-C ends" not in shown and time.monotonic() < deadline:
            if select.select([master], [], [], 0.2)[0]:
                shown += os.read(master, 65536)
        os.write(master, key)
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([master], [], [], 0.1)[0]:
                shown += os.read(master, 65536)
        assert process.wait(10) == 0
        assert termios.tcgetattr(slave) == before
        while select.select([master], [], [], 0.2)[0]:
            shown += os.read(master, 65536)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait(10)
        os.close(master)
        os.close(slave)
    text = shown.decode()
    assert text.count("\x1b[?1049h") == text.count("\x1b[?1049l") == 1 and text.rstrip().endswith("\x1b[?1049l")
    picture = text.split("\x1b[H")[1].split("\x1b[J")[0].replace("\x1b[K", "").split("\r\n")
    assert len(picture) == 24 and max(map(len, picture)) <= 80
    assert picture[1].startswith("coz: mode normal, ready") and picture[-1] == "q or Ctrl-C ends"


def _own() -> None:
    """The terminal is the process's own, so that Ctrl-C in it is a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
