"""What a restore does with folders that resist, with what appears meanwhile, and with what a backup should not bring back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.backups import copy_of_openclaw, laid_out, marks, place_of

from outlast.backup import activation, collect
from outlast.backup.archive import read
from outlast.backup.make import make
from outlast.backup.restore import restore
from outlast.clock import SystemClock
from outlast.home import Home
from outlast.lock import held
from outlast.openclaw import tokens


def backed_up(home: Home, place: Any = None) -> Path:
    """A backup of a home whose node is down."""
    return Path(make(home, "axiom", place, SystemClock(), to=None, keys=True, progress=lambda *_: None).file)


def put_back(home: Home, file: Path) -> subprocess.CompletedProcess[str]:
    """Type the command as somebody whom modes and owners stop, also where the test is root's."""
    command = [str(Path(sys.executable).parent / "outlast"), "--home", str(home.root), "backup", "restore", str(file)]
    if not os.geteuid():
        # Of what root may do, only this: it is an owner like any other.
        command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner", *command]
    return subprocess.run([*command, "--sure", "--json"], capture_output=True, text=True, timeout=60, check=False)


def test_a_folder_that_may_not_be_written_to_goes_aside_and_comes_back(tmp_path: Path) -> None:
    """Read-only folders of ours, in the node and in its backup, are moved like all others and keep their mode."""
    home = laid_out(tmp_path / "axiom", "old")
    sealed = home.workspace / "sealed"
    sealed.mkdir()
    (sealed / "x").write_text("old")
    sealed.chmod(0o555)
    file = backed_up(home)
    late = home.workspace / "late"
    late.mkdir()
    late.chmod(0o555)
    done = put_back(home, file)
    assert done.returncode == 0, done.stderr
    kept = Path(json.loads(done.stdout)["kept"]) / "workspace"
    modes = [path.stat().st_mode & 0o777 for path in (sealed, kept / "sealed", kept / "late")]
    assert modes == [0o555] * 3 and (sealed / "x").read_text() == "old" and not late.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder to somebody else")
def test_what_cannot_be_moved_is_said_before_anything_is(tmp_path: Path) -> None:
    """A folder of somebody else's: one line with the folder and the command, nothing was changed, and the node starts."""
    home = laid_out(tmp_path / "axiom", "old")
    file = backed_up(home)
    laid_out(home.root, "new")
    theirs = home.workspace / "theirs"
    theirs.mkdir(mode=0o555)
    os.chown(theirs, 65534, 65534)
    done = put_back(home, file)
    told = f"nothing was changed; sudo chown -R 0 {theirs}, or move it away, then again"
    assert done.stderr == f"outlast: workspace/theirs: it is another user's, and cannot be moved; {told}\n"
    assert done.returncode == 2
    with held(home):
        assert marks(home) == {"new"} and not list(home.root.rglob(".restore-*"))


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_appears_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Somebody puts something where the backup's is to come, once the list of what is moved was made: it is in the trash."""
    home = laid_out(tmp_path / "axiom", "old")
    file = backed_up(home)
    (home.workspace / "note.md").unlink()
    shutil.rmtree(home.workspace / "deep")
    real = activation.begin

    def begin(*given: Any) -> None:
        real(*given)
        if what == "file":
            (home.workspace / "note.md").write_text("mine")
        else:
            (home.workspace / "deep").mkdir()
            (home.workspace / "deep/note").write_text("mine")

    monkeypatch.setattr(activation, "begin", begin)
    with held(home):
        done = restore(home, "axiom", None, file, SystemClock())
    assert marks(home) == {"old"} and not home.restoring.exists()
    assert (Path(done.kept) / "workspace" / ("note.md" if what == "file" else "deep/note")).read_text() == "mine"


def test_a_change_that_was_under_way_does_not_begin_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written ahead of a rotation or a trial is not in a backup, and out of an older one that has it not put back."""
    home = laid_out(tmp_path / "axiom", "old")
    place = place_of(home)
    tokens.ensure(place)
    passing = ("rotation.json", "before/since", "before.new/since", "proving", "candidate.json")
    for name in passing:
        (place.folder / name).parent.mkdir(exist_ok=True)
        (place.folder / name).write_text("{}")
    assert not [one for one in read(backed_up(home)).members if one.path.startswith("etc/openclaw/") and one.size <= 2]
    with monkeypatch.context() as older:
        older.setattr(collect, "PASSING", collect.re.compile("never"))
        file = backed_up(home)
    assert "etc/openclaw/before/since" in {one.path for one in read(file).members}
    shutil.rmtree(place.folder)
    with held(home):
        restore(home, "axiom", None, file, SystemClock())
    assert place.tokens.exists() and not [name for name in passing if (place.folder / name).exists()]


@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize("has_openclaw", [True, False])
def test_workspaces_of_other_agents_come_back_whatever_became_of_the_state(
    tmp_path: Path, copied: bool, has_openclaw: bool
) -> None:
    """They come to their place with or without a copy of OpenClaw's state, the old one goes aside, and what is not put back is
    named."""
    home = laid_out(tmp_path / "axiom", "old")
    place = place_of(home)
    if copied:
        copy_of_openclaw(place, "old")
    file = backed_up(home, place)
    laid_out(home.root, "new")
    with held(home):
        done = restore(home, "axiom", place if has_openclaw else None, file, SystemClock())
    name, state = "var/home/.openclaw/workspace-scribe/AGENTS.md", "var/home/.openclaw/state/openclaw.sqlite"
    assert (home.root / name).read_text() == "old" and (Path(done.kept) / name).read_text() == "new"
    assert (home.root / state).read_text() == ("old" if copied and has_openclaw else "new")
    assert ("openclaw.tar.gz" in done.stayed) == (copied and not has_openclaw), json.dumps(done.stayed)
