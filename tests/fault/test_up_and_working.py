"""Real services that are up and do not work, on a real node: what is noticed, what is done, and what a person sees."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scenes import closed_on, events, hand_over, running_pair, script
from support.live import LiveNode, free_port, until

# Answers 200 whatever its database does, as OpenClaw's gateway does; listens and answers nothing where it is told to.
_GATEWAY = """
import http.server, os, pathlib, sys, time
port, folder = int(sys.argv[1]), pathlib.Path(sys.argv[2])
class Gateway(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        while (folder / "mute").exists():
            time.sleep(0.05)
        body = b'{"live": true, "database": "%s"}' % (b"broken" if (folder / "broken").exists() else b"fine")
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Gateway).serve_forever()
"""


class Scene:
    """A node with a gateway, looked at five times a second."""

    def __init__(self, root: Path) -> None:
        self.folder, port = root / "gateway", free_port()
        self.folder.mkdir()
        (self.folder / "gateway.py").write_text(_GATEWAY)
        # A new process has two seconds to begin to answer.
        quick = {"every": "200ms", "timeout": "400ms", "failures": 10}
        live = {"http": f"http://127.0.0.1:{port}/healthz", "then": "restart", **quick}
        database = {"http": f"http://127.0.0.1:{port}/", "contains": '"database": "fine"', "then": "degrade", **quick}
        truth = script(
            self.folder / "rpc", f'test ! -e {self.folder}/broken || {{ echo "the database is broken"; exit 1; }}'
        )
        command = [sys.executable, str(self.folder / "gateway.py"), str(port), str(self.folder)]
        service = {"command": command, "base": "10ms", "grace": "1s", "most": 50}
        config: dict[str, Any] = {
            "health": {"interval": "200ms", "alive": "100ms"},
            "services": {"gateway": {**service, "probes": {"live": live, "database": database}}},
            "probes": {"rpc": {"command": [str(truth)], **quick}},
        }
        self.node = LiveNode(root, "coz", free_port(), {}, config)
        self.node.cli("keys", "init")

    def probes(self) -> dict[str, Any]:
        """What the status says of the probes."""
        found: dict[str, Any] = self.node.status()["probes"]
        return found

    def state(self, subject: str = "gateway") -> str:
        """Does it work?"""
        return str(self.probes()["working"][subject]["state"])

    def works(self) -> None:
        """Wait until everything does."""
        until(lambda: self.state() == "working" and self.node.status()["mode"] == "normal", what="all works")

    def pid(self) -> int:
        """The gateway's process; 0 while there is none."""
        return int(self.node.status()["supervised"]["gateway"]["pid"] or 0)

    def new_pid(self, old: int) -> int:
        """Wait for another process."""
        return int(until(lambda: (pid := self.pid()) != old and pid, what="another process"))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A gateway that works."""
    made = Scene(tmp_path)
    made.node.start()
    try:
        made.works()
        yield made
    finally:
        if not made.node.ended():
            made.node.stop()


def test_two_hundred_with_a_broken_database_is_up_and_not_working(scene: Scene) -> None:
    """The process runs, /healthz says 200: level 1 is well and level 2 failed, the node is degraded and says why, and nothing
    is restarted; all of it is over once the database is back."""
    pid = scene.pid()
    (scene.folder / "broken").touch()
    until(lambda: scene.node.status()["mode"] == "degraded", what="degraded")
    until(lambda: scene.state("rpc") == "not working", what="the command fails")
    levels = scene.probes()["health"]["gateway"]
    assert (levels["alive"]["ok"], levels["responding"]["ok"]) == (True, False)
    assert scene.state() == "up, not working"
    shown = scene.node.cli("health")
    assert shown.returncode == 1
    [line] = [line for line in shown.stdout.splitlines() if "gateway" in line and "up, not working" in line]
    assert "is not in the answer" in line
    status = scene.node.cli("status").stdout
    assert "mode degraded (gateway database (responding) fails: HTTP 200" in status
    assert "shed now: memory compaction (P3, off)" in status
    assert "gateway: up, not working, since" in status
    assert [alert["name"] for alert in scene.node.status()["alerts"]] == ["probe rpc"]
    assert scene.pid() == pid
    (scene.folder / "broken").unlink()
    scene.works()
    until(lambda: scene.node.status()["alerts"] == [], what="the alert is over")
    assert scene.node.cli("health", "--now").returncode == 0
    assert len(events(scene.node, "mode.changed")) == 2


@pytest.mark.parametrize("how", ["stopped", "mute"])
def test_a_hung_service_is_restarted(scene: Scene, how: str) -> None:
    """One that is stopped (SIGSTOP), and one that accepts connections and answers nothing: up, not working, restarted, well."""
    pid = scene.pid()
    if how == "stopped":
        os.kill(pid, signal.SIGSTOP)
    else:
        (scene.folder / "mute").touch()
    new = scene.new_pid(pid)
    (scene.folder / "mute").unlink(missing_ok=True)
    scene.works()
    assert scene.pid() == new
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert len(events(scene.node, "probe.failed", "gateway live")) == 1
    [reason] = {event["reason"] for event in events(scene.node, "service.exited")}
    assert "its probe live (responding) fails" in reason and "did not answer within 0.4 s" in reason


def test_a_gateway_that_is_down_while_skills_run(scene: Scene) -> None:
    """Degraded and no emergency: the cause is named, the skills' last status shown; it ends when the gateway is back."""
    node = scene.node
    node.home.skills.mkdir()
    now = until(lambda: node.cli("status", "--json").stdout and node.status()["since"])
    (node.home.skills / "mail.json").write_text(f'{{"at": "{now}", "ok": false, "text": "2 of 3 mails sent"}}')
    (scene.folder / "gateway.py").rename(scene.folder / "away")
    os.kill(scene.pid(), signal.SIGKILL)
    until(lambda: any("while skills run: mail" in why for why in node.status()["mode_reasons"]), what="the cause")
    assert node.status()["mode"] == "degraded"
    shown = node.cli("health").stdout
    assert "2 of 3 mails sent" in shown and "NOT WELL" in shown
    assert "skill mail: NOT WELL" in node.cli("status").stdout
    (scene.folder / "away").rename(scene.folder / "gateway.py")
    node.cli("restart", "gateway")
    scene.works()


def test_maintenance_by_command_and_by_hand(scene: Scene) -> None:
    """The command takes effect at once, a line of a person's within one check; the gateway (P1) rests, and is not called broken."""
    node = scene.node
    node.home.heartbeat.write_text("- look at the mail\n")
    assert node.cli("maintenance", "on").returncode == 0
    assert node.status()["mode"] == "maintenance"
    until(lambda: node.status()["supervised"]["gateway"]["state"] == "shed", what="the gateway rests")
    until(lambda: scene.state() == "not looked at", what="it is not called broken")
    assert "gateway (P1, off)" in node.cli("status").stdout
    off = node.cli("maintenance", "off")
    assert (off.returncode, off.stdout.splitlines()[0]) == (0, "coz: maintenance is off; mode normal")
    scene.works()
    assert node.home.heartbeat.read_text() == "- look at the mail\n"
    with node.home.heartbeat.open("a") as file:
        file.write("MAINTENANCE_MODE\n")
    until(lambda: node.status()["mode"] == "maintenance", what="it is seen")
    refused = node.cli("maintenance", "off")
    assert refused.returncode == 1 and "line" in refused.stderr
    node.home.heartbeat.write_text("- look at the mail\n")
    scene.works()
    assert "NOTE mode shed: memory compaction, heartbeat monitoring" in _journal(node)
    told = [event["name"] for event in events(node, "alert")]
    assert told == ["mode maintenance"] * 2


def test_a_bad_artifact_is_told(tmp_path: Path) -> None:
    """What an agent left is validated when it is done; a bad one is level 4 failed, and noted in the journal."""
    check = script(tmp_path / "check", 'grep -q "^# " "$1/report.md" || { echo "it has no heading"; exit 1; }')
    agent = script(tmp_path / "agent", "echo nothing > report.md")
    config = {"agent": {"command": [str(agent)]}, "probes": {"reports": {"artifacts": [str(check)]}}}
    node = LiveNode(tmp_path, "coz", free_port(), {}, config)
    node.cli("keys", "init")
    node.start()
    try:
        done = node.cli("step", "run", "--unit", "write-report", "--artifact", "report.md", "--", str(agent))
        assert done.returncode == 0, done.stderr
        until(lambda: node.status()["probes"]["working"]["reports"]["state"] == "not working", what="it is validated")
        assert "what its command printed: outlast logs probe.reports" in node.cli("health").stdout
        assert "it has no heading" in node.cli("logs", "probe.reports").stdout
        assert [alert["name"] for alert in node.status()["alerts"]] == ["probe reports"]
    finally:
        node.stop()


def test_in_maintenance_direct_messages_alone_are_taken(tmp_path: Path) -> None:
    """A note of the sibling's is taken; a task waits with its sender, and is done once the node goes on."""
    agent = script(tmp_path / "agent", "echo done > result.md")
    with running_pair(tmp_path, agent) as (coz, axiom):
        assert axiom.cli("maintenance", "on").returncode == 0
        note = coz.cli("note", "axiom", "the human asks: are you there?")
        assert note.returncode == 0, note.stderr
        until(lambda: "are you there?" in _journal(axiom), what="the note is taken")
        unit = hand_over(coz)
        until(lambda: "maintenance" in coz.status()["channels"]["axiom"]["last_error"], what="the task is put off")
        assert axiom.status()["tasks"]["open"] == 0 and closed_on(coz, unit) == ""
        assert axiom.cli("maintenance", "off").returncode == 0
        until(lambda: closed_on(coz, unit) == "done", what="the task is done")


def _journal(node: LiveNode) -> str:
    return "".join(path.read_text() for path in node.home.memory.glob("*.md"))
