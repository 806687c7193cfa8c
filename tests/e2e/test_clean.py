"""What playbooks/clean-disk.yml shows, frees and leaves, with the runtime alive and dead."""

from __future__ import annotations

import gzip
import os
from datetime import date, timedelta

from .conftest import NODES, Clone

CLEAN = "playbooks/clean-disk.yml"
# Past clean.logs_after, and not yet past observe.keep.
LOG = f"{date.today() - timedelta(days=12)}.jsonl"
TRASH = "20260101T000000Z-ab12-STATE.json"


def test_room_is_made_on_every_node(up: Clone) -> None:
    """Check mode shows what would go and changes nothing. Then old logs are compressed on a node that runs and on one that
    does not, trash stays until it is asked for, and an artifact that no backup holds stays; again there is nothing to do."""
    data = b'{"event":"something"}\n' * 2000
    for node in NODES:
        (up.home(node) / "workspace/logs" / LOG).write_bytes(data)
        (up.home(node) / "var/trash" / TRASH).write_text("old")
    result = up.home("coz") / "workspace/artifacts/thesis/report.md"
    result.parent.mkdir()
    result.write_text("of years\n")
    os.utime(result, (0, 0))
    os.utime(result.parent, (0, 0))
    down = up.play("playbooks/down.yml", "-l", "axiom")
    assert down.code == 0, down.text

    dry = up.play(CLEAN, "--check")
    assert (dry.code, dry.changed()) == (0, 2), dry.text
    assert dry.text.count(f"compress: {LOG}") == 2
    assert all((up.home(node) / "workspace/logs" / LOG).read_bytes() == data for node in NODES)

    done = up.play(CLEAN)
    assert (done.code, done.changed()) == (0, 2), done.text
    for node in NODES:
        logs = up.home(node) / "workspace/logs"
        assert not (logs / LOG).exists() and gzip.decompress((logs / f"{LOG}.gz").read_bytes()) == data
        assert (up.home(node) / "var/trash" / TRASH).exists()
        [row] = [line.split() for line in done.text.splitlines() if line.startswith(f"{node} ") and "(" in line]
        assert row[-4] == "1", row
    assert "coz: stays (no backup): 1" in done.text and result.exists()
    assert "--empty-trash" in done.text.partition("what next:")[2]

    again = up.play(CLEAN)
    assert (again.code, again.changed()) == (0, 0), again.text
    assert again.text.count("nothing is to be cleaned") == 2

    emptied = up.play(CLEAN, "-e", "empty_trash=yes")
    assert (emptied.code, emptied.changed()) == (0, 2), emptied.text
    assert not [node for node in NODES if (up.home(node) / "var/trash" / TRASH).exists()]
    assert "20260101T000000Z-ab12-STATE.json" in emptied.text
    result.unlink()
    result.parent.rmdir()
    assert up.make("up").code == 0


def test_an_artifact_goes_and_comes_back(up: Clone) -> None:
    """What was pushed leaves `outlast clean` as one archive; the command that it prints brings it back, and the doctor counts it."""
    workspace = up.home("coz") / "workspace"
    result = workspace / "artifacts/notes/report.md"
    result.parent.mkdir()
    result.write_text("worth keeping\n")
    script = """
        git init -q --bare "$1.git" && cd "$1" && git init -q && git add artifacts/notes
        git -c user.name=a -c user.email=a@b commit -qm notes && git push -q "$1.git" HEAD:main
        git fetch -q "$1.git" main:refs/remotes/elsewhere/main
        touch -d 2020-01-01 artifacts/notes/report.md artifacts/notes
    """
    assert up.run("sh", "-euc", script, "sh", str(workspace)).code == 0
    assert up.outlast("--node", "coz", "doctor").code == 0
    done = up.outlast("--node", "coz", "clean")
    assert done.code == 0, done.text
    assert not result.exists()
    [archive] = (up.home("coz") / "var/trash").glob("*-notes.tar.gz")
    [line] = [line.strip() for line in done.text.splitlines() if line.strip().startswith("tar xzf")]
    back = line.partition(" && ")[0].replace("NAME.tar.gz", archive.name)
    assert up.run("sh", "-euc", back).code == 0
    assert result.read_text() == "worth keeping\n"
    assert "all well" in up.outlast("--node", "coz", "doctor").text
    assert up.run("rm", "-rf", str(result.parent), str(workspace / ".git"), f"{workspace}.git").code == 0
    assert up.outlast("--node", "coz", "doctor").code == 0
