"""What playbooks/restore.yml does on an empty machine and on a broken one, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

from .conftest import Clone

RESTORE = "playbooks/restore.yml"


def handed(clone: Clone) -> str:
    """A task that axiom did for coz."""
    done = clone.outlast("--node", "coz", "handoff", "axiom", "host report", "--json")
    assert done.code == 0, done.text
    return str(json.loads(done.text)["unit"])


def backed_up(clone: Clone, to: Path) -> str:
    """A backup of axiom on the controller, where restore.yml looks for it."""
    done = clone.outlast("--node", "axiom", "backup", "now", "--to", str(to), "--json")
    assert done.code == 0, done.text
    return str(json.loads(done.text)["file"])


def knows(clone: Clone, unit: str) -> bool:
    """Does axiom know of this task?"""
    return clone.outlast("--node", "axiom", "show", unit).code == 0


def test_what_nobody_may_mean_is_refused(up: Clone, tmp_path: Path) -> None:
    """No node named, no file, another node's backup, one that is none, no yes: one line each with the mend, nothing changed."""
    file = backed_up(up, tmp_path)
    (tmp_path / "none.tar.gz").write_bytes(b"nothing")
    for arguments, told in (
        (["-e", f"from={file}", "-e", "sure=yes"], "-l: a backup is of one node"),
        (["-l", "axiom", "-e", "sure=yes"], "from: no backup is named"),
        (["-l", "axiom", "-e", f"from={tmp_path}/nowhere", "-e", "sure=yes"], "No such file"),
        (["-l", "axiom", "-e", f"from={tmp_path}/none.tar.gz", "-e", "sure=yes"], "it is no whole backup"),
        (["-l", "coz", "-e", f"from={file}", "-e", "sure=yes"], "it is a backup of axiom, not of coz"),
        (["-l", "axiom", "-e", f"from={file}"], "sure: it was not said, and nothing was changed"),
        (["-l", "axiom", "-e", f"form={file}"], "did you mean from?"),
    ):
        before = up.status("axiom")["pid"]
        done = up.play(RESTORE, *arguments)
        assert done.code != 0 and told in " ".join(done.text.split()) and "Traceback" not in done.text, done.text
        assert done.changed() == 0 and up.status("axiom")["pid"] == before


def test_an_empty_machine_becomes_the_node_again(up: Clone, tmp_path: Path) -> None:
    """Its home is gone, whole: one command, and the node runs as it was when the backup was made; its peer takes its messages,
    for it has its key again, and hands it work at once."""
    before = handed(up)
    file = backed_up(up, tmp_path)
    after = handed(up)
    assert up.play("playbooks/down.yml", "-l", "axiom").code == 0
    up.home("axiom").rename(tmp_path / "lost")
    tried = up.play(RESTORE, "-l", "axiom", "-e", f"from={file}", "--check")
    assert tried.code == 0 and "would go back to" in tried.text, tried.text
    assert not (up.home("axiom") / "workspace").exists()
    done = up.play(RESTORE, "-l", "axiom", "-e", f"from={file}", "-e", "sure=yes")
    assert done.code == 0, done.text
    assert "1 of 1 nodes are well" in done.text and "there was nothing before" in done.text
    assert knows(up, before) and not knows(up, after)
    assert up.outlast("--node", "axiom", "ping", "coz").code == 0
    assert knows(up, handed(up))
    assert (tmp_path / "lost/etc/keys/axiom.key").read_bytes() == (up.home("axiom") / "etc/keys/axiom.key").read_bytes()


def test_a_broken_node_goes_back(up: Clone, tmp_path: Path) -> None:
    """Killed, its memory garbage, its ledger too, a key and the release gone: one command, and it runs as it was when
    the backup was made. What was there is kept, and where is said; again it is the same."""
    before = handed(up)
    file = backed_up(up, tmp_path)
    home = up.home("axiom")
    for name in ("supervisord.pid", "daemon.lock"):
        os.kill(int((home / "run" / name).read_text()), signal.SIGKILL)
    (home / "workspace/STATE.json").write_text("garbage")
    for path in home.glob("workspace/memory/*.md"):
        path.write_bytes(b"\xff" * 5000)
    (home / "var/outlast.db").write_bytes(b"no database" * 999)
    (home / "etc/keys/coz.key").unlink()
    shutil.rmtree((home / "current").resolve())
    done = up.play(RESTORE, "-l", "axiom", "-e", f"from={file}", "-e", "sure=yes")
    assert done.code == 0, done.text
    assert "1 of 1 nodes are well" in done.text and "what was there is on it in" in done.text
    assert knows(up, before) and knows(up, handed(up))
    kept = [path.read_text() for path in home.glob("var/trash/*-restore/workspace/STATE.json")]
    assert kept == ["garbage"]
    again = up.play(RESTORE, "-l", "axiom", "-e", f"from={file}", "-e", "sure=yes")
    assert again.code == 0 and "1 of 1 nodes are well" in again.text, again.text
