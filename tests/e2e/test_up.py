"""What a user gets: two nodes from one command, the same again without a change, and a stop that leaves nothing."""

from __future__ import annotations

import base64
import os
import signal
import stat
from pathlib import Path

from .conftest import NODES, Clone, until


def test_check_mode_on_a_clean_machine(clone: Clone) -> None:
    """`--check` before the first run says what would change, changes nothing and does not fail."""
    clone.forget()
    done = clone.make("up", "--check --diff")
    assert done.code == 0, done.text
    assert done.changed() > 0
    assert not (clone.root / ".outlast").exists()


def test_up_shows_every_node_and_again_changes_nothing(clone: Clone) -> None:
    """`make up` ends with a table in which both nodes are ready, and three lines to try; again it changes nothing."""
    clone.forget()
    first = clone.make("up")
    assert first.code == 0, first.text
    rows = [line.split() for line in first.text.splitlines() if line.startswith(NODES) and " ready " in line]
    assert sorted(row[0] for row in rows) == sorted(NODES), first.text
    assert "2 of 2 nodes are well" in first.text
    assert len(first.text.partition("what next:\n")[2].partition("\n\n")[0].splitlines()) == 3
    again = clone.make("up")
    assert (again.code, again.changed()) == (0, 0), again.text


def test_what_is_provisioned_is_private(up: Clone) -> None:
    """Nobody but the user can read or enter anything of a node."""
    for path in [path for node in NODES for path in (up.home(node), *up.home(node).glob("[!cr]*/**/*"))]:
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_site_yml_does_what_make_up_does(up: Clone) -> None:
    """`ansible-playbook site.yml` in the activated environment is the same as `make up`, and may be limited to a node."""
    for arguments in (["site.yml"], ["site.yml", "-l", "coz"], ["site.yml", "--check"]):
        done = up.play(*arguments)
        assert (done.code, done.changed()) == (0, 0), done.text


def test_status_of_nodes_that_run_and_that_do_not(up: Clone) -> None:
    """`make status` shows what is, and does not fail because a node is down."""
    assert "2 of 2 nodes are well" in up.make("status").text
    up.make("down")
    done = up.make("status")
    assert done.code == 0, done.text
    assert all(any(line.split()[:2] == [node, "down"] for line in done.text.splitlines()) for node in NODES), done.text


def test_hand_off_and_kill_nine(up: Clone) -> None:
    """A task handed over is done; a runtime that is killed is back by itself and takes the next one."""
    assert up.outlast("--node", "coz", "handoff", "axiom", "host report").code == 0
    before = up.status("axiom")["pid"]
    os.kill(before, signal.SIGKILL)
    until(lambda: up.status("axiom").get("ready") and up.status("axiom")["pid"] != before)
    assert up.outlast("--node", "coz", "handoff", "axiom", "host report").code == 0


def test_a_changed_setting_restarts_that_node_only(up: Clone) -> None:
    """A change in the inventory reaches the node by one restart; the other node goes on as it was."""
    before = {node: up.status(node)["pid"] for node in NODES}
    host_vars = up.root / "inventory/local/host_vars/axiom.yml"
    host_vars.parent.mkdir(exist_ok=True)
    host_vars.write_text("outlast_health: {interval: 29s}\n")
    try:
        done = up.make("up")
        assert done.code == 0, done.text
        assert up.status("coz")["pid"] == before["coz"]
        assert up.status("axiom")["pid"] != before["axiom"]
    finally:
        host_vars.unlink()


def test_what_a_restart_took_up_by_itself_is_put_right(up: Clone) -> None:
    """A setting that was changed by hand, and taken up when the runtime was restarted, does not stay in force."""
    file = up.home("coz") / "etc/node.yml"
    before, pid = file.read_text(), up.status("coz")["pid"]
    file.write_text(f"{before}\nhealth: {{interval: 28s}}\n")
    restarted(up, pid)
    pid = up.status("coz")["pid"]
    done = up.play("site.yml")
    assert done.code == 0, done.text
    assert "2 of 2 nodes are well" in done.text
    assert file.read_text() == before
    assert up.status("coz")["pid"] != pid
    assert up.make("up").changed() == 0


def test_a_key_that_is_nobodys_does_not_stay(up: Clone) -> None:
    """A peer's key that was changed by hand, and taken up when the runtime was restarted, is refused after the next run, the
    right one is accepted again, and the runtime need not stop for it."""
    file = up.home("coz") / "etc/keys/axiom.key"
    right, pid = live(file), up.status("coz")["pid"]
    file.write_text(other_key())
    strange = live(file)
    restarted(up, pid)
    pid = up.status("coz")["pid"]
    done = up.play("site.yml")
    assert done.code == 0, done.text
    assert "2 of 2 nodes are well" in done.text
    assert live(file) == right != strange
    assert up.status("coz")["pid"] == pid
    assert up.make("up").changed() == 0


def live(file: Path) -> list[str]:
    """The secrets that a key file lets in."""
    return [word for line in file.read_text().splitlines() if (word := line.split()[0]) != "-"]


def restarted(up: Clone, pid: int) -> None:
    """Coz's runtime, which was this process, is killed and there again."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: up.status("coz").get("ready") and up.status("coz")["pid"] != pid)


def other_key() -> str:
    """A key that nobody else has."""
    return f"whsec_{base64.b64encode(os.urandom(32)).decode()}\n"


def test_what_lost_its_supervisor_is_replaced(up: Clone) -> None:
    """After kill -9 of supervisord, `make up` ends the runtime that is left, so that what serves is watched over again; so
    it does where another supervisord was started meanwhile and tries in vain."""
    home = up.home("coz")
    for in_vain in (False, True):
        supervisor = int((home / "run/supervisord.pid").read_text())
        orphan = up.status("coz")["pid"]
        os.kill(supervisor, signal.SIGKILL)
        if in_vain:
            assert up.run(f"{home}/current/bin/supervisord", "-c", f"{home}/etc/supervisord.conf").code == 0
            until(lambda: "another runtime is at work" in (home / "var/log/runtime.err").read_text())
        done = up.make("up")
        assert done.code == 0, done.text
        assert "2 of 2 nodes are well" in done.text
        pid = up.status("coz")["pid"]
        assert pid != orphan
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: up.status("coz").get("ready") and up.status("coz")["pid"] != pid)
        assert up.make("up").changed() == 0


def test_down_leaves_no_process(up: Clone) -> None:
    """`make down` ends everything, even what lost its supervisor, and says so; again it has nothing to do."""
    supervisor = int((up.home("coz") / "run/supervisord.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    done = up.make("down")
    assert done.code == 0, done.text
    assert "no process is left running" in done.text
    assert up.processes() == []
    assert up.make("down").changed() == 0


def test_clean_moves_homes_to_the_trash(up: Clone) -> None:
    """`make clean` stops the nodes and moves their homes where they can be found; without a yes it does nothing."""
    refused = up.make("clean")
    assert refused.code != 0
    assert up.home("coz").exists()
    done = up.run("make", "clean", "YES=1")
    assert done.code == 0, done.text
    assert not up.home("coz").exists()
    assert len(list((up.root / ".trash").glob("*/coz/etc/node.yml"))) == 1
    assert up.processes() == []
