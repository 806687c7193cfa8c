"""Disks that fail: injected I/O errors, torn and corrupt files, a read-only workspace, and two daemons in one home."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from fault.scenes import (
    CountingAgent,
    assert_once,
    attached,
    capture,
    closed_on,
    envelope,
    events,
    hand_over,
    injected,
    key,
    read_only,
    running_pair,
    settled,
    trace_or_skip,
    traceable,
)
from support.live import LiveNode, until

from outlast.errors import OutlastError

pytestmark = pytest.mark.timeout(120)

_RERUN = {"after_crash": "rerun", "attempts": 1000}
# A call, and how it fails: from the first time after the hand-off, or from a later one, which is in the middle of the task.
_FAULTS = [
    ("fsync", "error=EIO"),
    ("fsync", "error=EIO:when=3+"),
    ("fsync", "error=EIO:when=5+"),
    ("fsync", "error=EIO:when=9+"),
    ("fdatasync", "error=EIO"),
    ("fdatasync", "error=EIO:when=3+"),
    ("write", "error=ENOSPC"),
    ("write", "error=ENOSPC:when=3+"),
    ("write", "error=ENOSPC:when=7+"),
    ("rename", "error=EIO"),
    ("rename", "error=EIO:when=3+"),
    ("rename", "error=EIO:when=5+"),
    ("rename", "error=EIO:when=6+"),
    ("pwrite64", "error=ENOSPC"),
    ("fdatasync", "error=EIO"),
    ("fdatasync", "error=EIO:when=2+"),
]


def _forget_patience(sender: LiveNode) -> None:
    """A node that cannot write asks its peers to wait; a sender that starts anew has not heard that, and need not be sat out."""
    sender.kill()
    sender.start()


@pytest.mark.parametrize("mended_by", ["itself", "a restart"])
def test_a_failing_disk_of_the_worker_loses_no_task(tmp_path: Path, mended_by: str) -> None:
    """Whatever kind of write of axiom's begins to fail with EIO or ENOSPC, at the first or in the middle of a task: it stays
    up, coz takes the task for done only if it is, and once the disk works again the task is done once."""
    trace_or_skip()
    agent, log = CountingAgent(tmp_path / "agent"), tmp_path / "calls"
    with running_pair(tmp_path, agent.path, agent=_RERUN) as (coz, axiom):
        axiom.kill()
        axiom.start(wrapper=traceable())
        for call, what in _FAULTS:
            log.write_text("")
            with attached(axiom, *injected(call, what), output=log):
                unit = hand_over(coz)
                until(
                    lambda: log.read_text().count("(INJECTED)") or closed_on(coz, unit),  # noqa: B023
                    what=f"{call} {what}",
                )
                assert not axiom.ended(), axiom.log()
                assert closed_on(coz, unit) in {"", closed_on(axiom, unit)}
            if mended_by == "a restart":
                axiom.kill()
                axiom.start(wrapper=traceable())
            _forget_patience(coz)
            settled(coz, axiom)
            try:
                assert_once(coz, axiom, [unit], strict=False)
            except AssertionError as error:
                raise AssertionError(f"after {call} {what}: {error}") from error
        assert "Traceback" not in axiom.log()


@pytest.mark.parametrize("nth", [3, 4, 5, 6, 7])
def test_a_task_waits_for_as_long_as_the_disk_fails(tmp_path: Path, nth: int) -> None:
    """A task that was accepted, and whose manifest, result, publication, UPDATE or clearing away fails again and again, is
    carried through when the disk works again, without a restart; its agent may have run more than once, its artifact is one.
    """
    trace_or_skip()
    agent = CountingAgent(tmp_path / "agent")
    with running_pair(tmp_path, agent.path, agent=_RERUN) as (coz, axiom):
        axiom.kill()
        axiom.start(wrapper=traceable())
        with attached(axiom, *injected("rename", f"error=EIO:when={nth}+")):
            unit = hand_over(coz)
            until(lambda: len(events(axiom, "task.stuck", unit)) > 2, what="axiom has tried more than once")
        settled(coz, axiom)
        assert_once(coz, axiom, [unit])


@pytest.mark.parametrize(("call", "error"), [("fsync", "EIO"), ("write", "ENOSPC"), ("fdatasync", "EIO")])
def test_a_failing_disk_of_the_sender_acknowledges_nothing(tmp_path: Path, call: str, error: str) -> None:
    """While coz cannot write, ``outlast handoff`` ends with 1 and one line, and axiom is not asked; asking again for the same
    unit once the disk works makes one hand-off; after a restart nothing is open."""
    trace_or_skip()
    agent = CountingAgent(tmp_path / "agent")
    with running_pair(tmp_path, agent.path, agent=_RERUN) as (coz, axiom):
        coz.kill()
        coz.start(wrapper=traceable())
        again = {"unit": "coz-d1zjz7qv76sw", "peer": "axiom", "task": "host report"}
        with attached(coz, *injected(call, f"error={error}")):
            said = coz.cli("handoff", "axiom", "host report", "--no-wait")
            assert said.returncode == 1, said
            assert said.stderr.startswith("outlast: ") and said.stderr.count("\n") == 1
            with pytest.raises(OutlastError, match="could not be"):
                coz.order("handoff", again)
            with pytest.raises(OutlastError, match="could not be"):
                coz.order("handoff", again)
            assert not axiom.journal().count("INTENT")
        coz.order("handoff", again)
        until(lambda: closed_on(coz, again["unit"]), what="the second asking is done")
        coz.kill()
        coz.start()
        settled(coz, axiom)
        assert_once(coz, axiom, [again["unit"]], strict=False)
        assert "Traceback" not in coz.log()


def test_a_result_that_cannot_be_kept_is_not_lost(tmp_path: Path) -> None:
    """While coz cannot write, the result of a task waits in axiom's outbox; afterwards the hand-off is closed, once."""
    trace_or_skip()
    go = tmp_path / "go"
    agent = CountingAgent(tmp_path / "agent", work=f"while [ ! -e {go} ]; do sleep 0.02; done")
    with running_pair(tmp_path, agent.path, agent=_RERUN) as (coz, axiom):
        for call, error in [("fsync", "EIO"), ("write", "ENOSPC"), ("rename", "EIO"), ("fdatasync", "EIO")]:
            go.unlink(missing_ok=True)
            coz.kill()
            coz.start(wrapper=traceable())
            unit = hand_over(coz)
            until(lambda: agent.runs(unit), what="the agent runs")  # noqa: B023
            with attached(coz, *injected(call, f"error={error}")):
                go.touch()
                until(lambda: axiom.status()["channels"]["coz"]["last_error"], what=f"{call} {error} shows")
                assert axiom.status()["channels"]["coz"]["queued"] == 1
            _forget_patience(axiom)
            settled(coz, axiom)
            assert_once(coz, axiom, [unit], strict=False)


@pytest.mark.parametrize(
    ("call", "error"), [("fsync", "EIO"), ("write", "ENOSPC"), ("pwrite64", "EIO"), ("mkdir", "EIO")]
)
def test_a_start_on_a_failing_disk_says_so_in_one_line(tmp_path: Path, call: str, error: str) -> None:
    """A daemon that cannot write while it starts ends with 1 and one line, and starts as ever once the disk works."""
    trace_or_skip()
    agent = CountingAgent(tmp_path / "agent")
    with running_pair(tmp_path, agent.path) as (coz, axiom):
        unit = hand_over(coz)
        settled(coz, axiom)
        axiom.kill()
        (axiom.home.workspace / "logs").rename(axiom.home.workspace / "logs.old")  # a folder to be made
        faults = [word for one in injected(call, f"error={error}") for word in ("-e", one)]
        axiom.start(wait=False, wrapper=["strace", "-D", "-qq", "-o", "/dev/null", *faults])
        assert axiom.process is not None
        said = axiom.process.wait(30), axiom.log()
        if call == "pwrite64" and said[0] == -9:
            pytest.skip("strace -D is not usable here")
        assert said[0] == 1, said
        # What cannot be written to the log is not there to be read.
        assert call == "write" or (said[1].startswith("outlast: ") and said[1].count("\n") == 1), said
        axiom.start()
        assert_once(coz, axiom, [unit])


def test_a_torn_record_costs_nothing_but_itself(tmp_path: Path) -> None:
    """The last line of the daily file is cut in its middle (a power cut): the next start closes the line, and carries on; the
    unit whose CONFIRM it was is confirmed again, and no agent runs for it."""
    agent = CountingAgent(tmp_path / "agent")
    with running_pair(tmp_path, agent.path) as (coz, axiom):
        unit = hand_over(coz)
        settled(coz, axiom)
        for node in (coz, axiom):
            node.kill()
            daily = max(node.home.memory.glob("*.md"))
            lines = daily.read_text()
            last = lines.splitlines()[-1]
            assert " CONFIRM " in last
            daily.write_text(lines[: -len(last) // 2])
            node.start()
        other = hand_over(coz)
        settled(coz, axiom)
        assert agent.runs(unit) == agent.runs(other) == 1
        for node in (coz, axiom):
            whole = [line for line in node.records("CONFIRM", unit) if line.endswith("]")]
            assert len(whole) == 1, node.journal()
        assert_once(coz, axiom, [other])


def _rebuilt(node: LiveNode, why: str) -> None:
    """STATE.json is rebuilt, the old one is in the trash, and ``outlast status`` says so."""
    told = [entry["what"] for entry in node.json("status")["recovered"] if entry["unit"] == "node"]
    assert any("STATE.json" in what and "rebuilt" in what and why in what for what in told), told
    assert [path for path in node.home.trash.iterdir() if path.name.endswith("STATE.json")]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda data: data[:-40], "does not parse"),
        (lambda data: b"", "does not parse"),
        (lambda data: data.replace(b'"done"', b'"open"', 1), "checksum"),
        (lambda data: data.replace(b'"version": 2', b'"version": 9'), "version 9"),
    ],
    ids=["torn", "empty", "changed", "from the future"],
)
def test_a_corrupt_state_is_rebuilt_from_the_journal(tmp_path: Path, damage: Any, why: str) -> None:
    """STATE.json that is torn, empty, changed or from the future is set aside and rebuilt, said in the status, and the node
    goes on; what was done stays done."""
    agent = CountingAgent(tmp_path / "agent")
    with running_pair(tmp_path, agent.path) as (coz, axiom):
        unit = hand_over(coz)
        settled(coz, axiom)
        before = {node.name: node.state()["units"][unit] for node in (coz, axiom)}
        for node in (coz, axiom):
            node.kill()
            changed = damage(node.home.state_file.read_bytes())
            assert changed != node.home.state_file.read_bytes()
            node.home.state_file.write_bytes(changed)
            node.start()
            _rebuilt(node, why)
            # The file may trail the last CONFIRM, which may be a second later than the UPDATE.
            trailing = {"confirmed": True, "ended": ""}
            assert node.state()["units"][unit] | trailing == before[node.name] | trailing
        other = hand_over(coz)
        settled(coz, axiom)
        assert_once(coz, axiom, [unit, other])
        assert agent.runs(unit) == 1


def _get(node: LiveNode, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{node.port}{path}", timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_read_only_workspace_is_said_and_takes_no_task(tmp_path: Path) -> None:
    """A node whose workspace cannot be written is alive and not ready, with the reason; a task is refused with 503 and waits
    with its sender; a start ends with one line; once it can be written again the task is done."""
    agent = CountingAgent(tmp_path / "agent")
    with running_pair(tmp_path, agent.path) as (coz, axiom):
        with read_only(axiom.home.workspace):
            assert _get(axiom, "/healthz")[0] == 200
            status, ready = _get(axiom, "/readyz")
            assert (status, ready["ready"]) == (503, False) and "workspace read-only" in ready["reasons"]
            assert axiom.cli("status").returncode == 1
            message = capture(key(axiom, "coz"), "task_refused", envelope("coz-d1zjz7qv76sw"))
            code, headers, _ = message.send(axiom)
            assert code == 503 and int(headers["retry-after"]) > 0
            unit = hand_over(coz)
            until(lambda: "read-only" in coz.status()["channels"]["axiom"]["last_error"], what="coz says why it waits")
            assert not closed_on(coz, unit)
            axiom.kill()
            axiom.start(wait=False)
            assert axiom.process is not None
            until(lambda: axiom.ended() or axiom.status(), what="the start's end")
            if axiom.ended():
                assert axiom.process.returncode == 1
                assert axiom.log().startswith("outlast: ") and axiom.log().count("\n") == 1
            else:
                assert not axiom.status()["ready"]
            assert "Traceback" not in axiom.log()
        axiom.kill()
        axiom.start()
        settled(coz, axiom)
        assert_once(coz, axiom, [unit])


def test_a_second_daemon_in_a_home_ends_with_one_line(tmp_path: Path) -> None:
    """Two runtimes in one home would tear its files: the second says so in one line and ends, the first goes on."""
    agent = CountingAgent(tmp_path / "agent")
    with running_pair(tmp_path, agent.path) as (coz, axiom):
        command = [sys.executable, "-m", "outlast.daemon", "--home", str(axiom.home.root)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode == 1
        assert second.stderr.startswith("outlast: ") and second.stderr.count("\n") == 1
        assert "another runtime" in second.stderr
        unit = hand_over(coz)
        settled(coz, axiom)
        assert_once(coz, axiom, [unit])
