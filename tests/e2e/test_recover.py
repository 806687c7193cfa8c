"""What playbooks/recover-state.yml does about a STATE.json that is damaged, gone or from the future, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from .conftest import Clone, until

RECOVER = "playbooks/recover-state.yml"


def state_file(clone: Clone) -> Path:
    """Axiom's."""
    return clone.home("axiom") / "workspace/STATE.json"


def known(clone: Clone) -> dict[str, str]:
    """How the tasks that axiom was given ended."""
    units = json.loads(state_file(clone).read_text())["states"]["axiom"]["state"]["units"]
    return {name: unit["status"] for name, unit in units.items()}


def kill_all(clone: Clone, node: str) -> None:
    """kill -9 of a node's supervisor and runtime: a machine that lost its power."""
    pids = [int((clone.home(node) / "run" / name).read_text()) for name in ("supervisord.pid", "daemon.lock")]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids) or sys.platform != "linux")


def test_nothing_is_changed_where_nothing_is_wrong(up: Clone) -> None:
    """STATE is what the journal says, though it may trail it by a record: both nodes are left alone and looked at."""
    assert up.outlast("--node", "coz", "handoff", "axiom", "host report").code == 0
    before = {node: up.status(node)["pid"] for node in ("coz", "axiom")}
    done = up.play(RECOVER)
    assert (done.code, done.changed()) == (0, 0), done.text
    assert {node: up.status(node)["pid"] for node in ("coz", "axiom")} == before


@pytest.mark.parametrize("damage", ["corrupt", "missing", "future"])
def test_state_is_rebuilt(up: Clone, damage: str) -> None:
    """The difference is shown, the broken file kept in the trash, what was done is known again, and the node is well. So with
    the runtime alive, dead, and the sibling dead as well; again there is nothing to do."""
    assert up.outlast("--node", "coz", "handoff", "axiom", "host report").code == 0
    units, path = known(up), state_file(up)
    if damage != "corrupt":
        kill_all(up, "axiom")
    if damage == "future":
        kill_all(up, "coz")
    broken = {"corrupt": b'{"version": 2, "sta', "future": b'{"version": 99, "states": {}}', "missing": b""}[damage]
    path.write_bytes(broken)
    if damage == "missing":
        path.unlink()
    if damage == "corrupt":
        tried = up.play(RECOVER, "-l", "axiom", "--check")
        assert (tried.code, tried.changed(), path.read_bytes()) == (0, 1, broken), tried.text
    done = up.play(RECOVER, "-l", "axiom")
    assert done.code == 0, done.text
    assert "1 of 1 nodes are well" in done.text
    assert "STATE cannot be used" in done.text and '+  "axiom": {' not in done.text, done.text
    assert known(up) == units
    if broken:
        kept = [file.read_bytes() for file in (up.home("axiom") / "var/trash").glob("*STATE.json*")]
        assert broken in kept
    if damage == "future":
        again = up.play(RECOVER, "-l", "axiom")
        assert (again.code, again.changed()) == (0, 0), again.text
        assert "nothing was to be recovered" in again.text


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that nobody can read, not even root")
def test_what_cannot_be_rebuilt_ends_in_an_emergency(up: Clone) -> None:
    """A journal that the disk does not give back: said in one line with the mend, all left as it was, and the node is there,
    in emergency mode, until the cause is mended and a person says so."""
    path = state_file(up)
    kill_all(up, "axiom")
    path.write_text("garbage")
    unreadable = up.home("axiom") / "workspace/memory/2026-01-02.md"
    unreadable.symlink_to("/proc/self/mem")
    done = up.play(RECOVER, "-l", "axiom")
    assert done.code == 2, done.text
    assert "STATE.json could not be rebuilt" in done.text and "outlast resume" in " ".join(done.text.split())
    assert "Traceback" not in done.text
    assert path.read_text() == "garbage"
    assert up.status("axiom")["mode"] == "emergency"
    assert "Outlast: emergency" in (up.home("axiom") / "workspace/HEARTBEAT.md").read_text()
    unreadable.unlink()
    mended = up.play(RECOVER, "-l", "axiom")
    assert "STATE was rebuilt" in mended.text, mended.text
    resumed = up.outlast("--node", "axiom", "resume", "--reason", "the disk was replaced")
    assert resumed.code == 0, resumed.text
    assert up.status("axiom")["mode"] == "normal"
