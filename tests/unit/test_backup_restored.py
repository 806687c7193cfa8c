"""What a node is after a backup was put back: what it was then, beyond what others know of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.backups import copy_of_openclaw, laid_out, marks, place_of
from support.live import LiveNode, pair, share_keys, until

from outlast.backup.make import make
from outlast.backup.restore import restore
from outlast.clock import SystemClock
from outlast.errors import BadInput, CorruptError
from outlast.home import Home
from outlast.lock import held
from outlast.openclaw import snapshots

pytestmark = pytest.mark.timeout(120)


def backed_up(home: Home) -> Path:
    """A backup of a home whose node is down."""
    made = make(home, "axiom", None, SystemClock(), to=None, keys=True, progress=lambda *_: None)
    return Path(made.file)


def hand_over(sender: LiveNode) -> str:
    """Have axiom do something, and see it done."""
    done = sender.cli("handoff", "axiom", "host report", "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["unit"])


def test_a_node_goes_back_and_its_peers_believe_it(tmp_path: Path) -> None:
    """A node that lost everything is put back on an empty home: what it knew then it knows, its peer takes its messages and it
    takes its peer's, shared state that it made since comes back from the peer, and no number of a record is given out again."""
    with pair(tmp_path / "first") as (coz, axiom):
        coz.start()
        axiom.start()
        before = hand_over(coz)
        assert axiom.cli("state", "set", "colour", "red").returncode == 0
        file = json.loads(axiom.cli("backup", "now", "--to", str(tmp_path), "--json").stdout)["file"]
        after = hand_over(coz)
        assert axiom.cli("state", "set", "colour", "blue").returncode == 0
        until(lambda: "blue" in coz.cli("state", "get", "colour").stdout, what="coz knows")
        axiom.stop()
        axiom.home.root.rename(tmp_path / "lost")
        empty = LiveNode(tmp_path / "first", "axiom", axiom.port, {"coz": coz.port})
        refused = empty.cli("backup", "restore", file)
        assert refused.returncode == 2 and "--sure" in refused.stderr
        done = empty.cli("backup", "restore", file, "--sure", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["stayed"] == ["etc/node.yml"]
        try:
            empty.start()
            assert empty.status()["ready"]
            assert empty.json("show", before)["status"] == "done"
            assert empty.cli("show", after).returncode == 2
            until(lambda: "blue" in empty.cli("state", "get", "colour").stdout, what="the peer gave back what was lost")
            assert hand_over(coz)
            assert hand_over_back(empty, coz)
            lost, now = numbered(Home(tmp_path / "lost")), numbered(empty.home)
            assert len(lost) >= 4 and {number for number in lost if number in now} == {1, 2}
            assert all(lost[number] == now[number] for number in (1, 2)), "one number names two records"
            assert empty.cli("doctor").returncode == 0
            told = until(lambda: empty.cli("alert", "list").stdout, limit=60, what="a person is told")
            assert "this node went back to a backup" in told and "outlast alert known 'gap 3'" in told
            assert empty.cli("state", "set", "colour", "green").returncode == 0
            until(lambda: "green" in coz.cli("state", "get", "colour").stdout, what="coz takes what is newer")
        finally:
            empty.kill()


def numbered(home: Home) -> dict[int, str]:
    """Axiom's records by their numbers."""
    lines = "".join(path.read_text() for path in home.memory.glob("*.md")).splitlines()
    found = {int(line.split("[axiom:")[1].split()[0]): line for line in lines if "[axiom:" in line}
    assert len(found) == sum("[axiom:" in line for line in lines)
    return found


def hand_over_back(node: LiveNode, peer: LiveNode) -> bool:
    """The other way round."""
    return node.cli("handoff", peer.name, "host report").returncode == 0


def test_what_was_signed_before_is_not_taken_again(tmp_path: Path) -> None:
    """The replay store of a backup knows nothing of what came after it: what was signed before the restore is refused."""
    home = laid_out(tmp_path / "axiom", "old")
    file = backed_up(home)
    restore(home, "axiom", None, file, SystemClock())
    from outlast.store.ledger import Ledger

    ledger = Ledger(home.ledger, home.trash, SystemClock(), begun=True)
    try:
        assert ledger.finding == "" and SystemClock().time() - ledger.floor(SystemClock().time()) < 60
    finally:
        ledger.close()


def test_what_was_there_is_kept_and_what_site_made_stays(tmp_path: Path) -> None:
    """Everything that is replaced is in the trash, byte for byte; the newer configuration stays; a key that cannot be read, and
    one that is missing, come back; OpenClaw's state comes from its own copy, its other agents' workspaces too."""
    home = laid_out(tmp_path / "axiom", "old")
    place = place_of(home)
    (home.keys / "coz.key").write_bytes((home.keys / "axiom.key").read_bytes())
    copy_of_openclaw(place, "old")
    made = make(home, "axiom", place, SystemClock(), to=None, keys=True, progress=lambda *_: None)
    assert made.openclaw == "20261121T220703Z"
    assert [one.path for one in made.left] == ["var/home/.openclaw"] and "newest good copy" in made.left[0].why
    own = (home.keys / "axiom.key").read_bytes()
    laid_out(home.root, "new")
    (home.workspace / "later.md").write_text("made since")
    (home.root / "etc/node.yml").write_text("node: axiom\n# newer\n")
    (home.keys / "axiom.key").write_bytes(b"garbage")
    (home.keys / "coz.key").unlink()
    done = restore(home, "axiom", place, Path(made.file), SystemClock())
    assert marks(home) == {"old"}
    assert not (home.workspace / "later.md").exists()
    kept = Path(done.kept)
    assert (kept / "workspace/later.md").read_text() == "made since"
    assert marks(Home(kept)) == {"new"}
    assert (home.keys / "axiom.key").read_bytes() == own and (kept / "etc/keys/axiom.key").read_bytes() == b"garbage"
    assert (home.keys / "coz.key").read_bytes() == own
    assert (home.root / "etc/node.yml").read_text().endswith("# newer\n")
    assert (place.state / "workspace").resolve() == home.workspace.resolve()
    assert not list(home.root.rglob(".restore-*")) and not home.restoring.exists()


@pytest.mark.parametrize("what", ["cut off", "another node's", "none"])
def test_a_backup_that_will_not_do_changes_nothing(tmp_path: Path, what: str) -> None:
    """One that is not whole, of another node, or not there: one line that says so, and nothing was changed."""
    home = laid_out(tmp_path / "axiom", "old")
    file = backed_up(home)
    if what == "cut off":
        file.write_bytes(file.read_bytes()[:-5])
    elif what == "none":
        file = tmp_path / "nothing.tar.gz"
    else:
        other = laid_out(tmp_path / "coz", "other", node="coz")
        file = Path(make(other, "coz", None, SystemClock(), to=None, keys=True, progress=lambda *_: None).file)
    laid_out(home.root, "new")
    command = [Path(sys.executable).parent / "outlast", "--home", home.root, "backup", "restore", file, "--sure"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert marks(home) == {"new"} and not list(home.root.rglob(".restore-*"))


def test_a_node_that_runs_is_not_touched(tmp_path: Path) -> None:
    """While the node runs, or its gateway's port is open, nothing is put back."""
    with pair(tmp_path) as (coz, axiom):
        axiom.start()
        file = json.loads(axiom.cli("backup", "now", "--json").stdout)["file"]
        refused = axiom.cli("backup", "restore", file, "--sure")
        assert refused.returncode == 2 and "stop it first" in refused.stderr
        axiom.stop()
        coz.start()
        axiom.config["openclaw"] = {"release": "/nowhere", "port": coz.port}
        axiom.configure()
        refused = axiom.cli("backup", "restore", file, "--sure")
        assert refused.returncode == 2 and "something listens on its port" in refused.stderr
        share_keys(coz, axiom)


def test_tasks_that_were_open_are_in_doubt_and_told(tmp_path: Path) -> None:
    """A task that was open when the backup was made may have been done since: after the restore it is in doubt, is not run
    again, and its sender hears so."""
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\necho run >>{tmp_path}/runs\nsleep 60\n")
    slow.chmod(0o755)
    about = {"agent": {"command": [str(slow)], "after_crash": "rerun"}, "stop": {"grace": "1s"}}
    with pair(tmp_path, axiom=about) as (coz, axiom):
        coz.start()
        axiom.start()
        unit = json.loads(coz.cli("handoff", "axiom", "host report", "--no-wait", "--json").stdout)["unit"]
        until(lambda: (tmp_path / "runs").exists(), what="the agent runs")
        file = json.loads(axiom.cli("backup", "now", "--json").stdout)["file"]
        axiom.kill()
        done = axiom.cli("backup", "restore", file, "--sure", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["in_doubt"] == [unit]
        axiom.start()
        until(lambda: coz.json("show", unit)["status"] == "in doubt", what="coz hears of it")
        assert (tmp_path / "runs").read_text() == "run\n"


def test_a_copy_of_another_layout_is_refused(tmp_path: Path) -> None:
    """An archive that is no copy of OpenClaw's state, or leads elsewhere, is one error, and nothing is written outside."""
    home = laid_out(tmp_path / "axiom", "old")
    place = place_of(home)
    (tmp_path / "no").write_bytes(b"no archive")
    with pytest.raises(CorruptError):
        snapshots.unpack_state(tmp_path / "no", tmp_path / "into", place)
    with pytest.raises(CorruptError):
        snapshots.unpack_state(copy_of_openclaw(place, "x", name="../../out"), tmp_path / "into2", place)
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadInput), held(home):
        restore(home, "axiom", place, tmp_path / "no", SystemClock())
