"""kill -9 at every step of a restore: the node is what it was, or what the backup holds, and never something in between."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.backups import copy_of_openclaw, laid_out, marks, place_of
from support.killing import killed_at

from outlast.backup import activation
from outlast.backup.make import make
from outlast.backup.restore import restore
from outlast.clock import SystemClock
from outlast.home import Home
from outlast.lock import held
from outlast.openclaw import snapshots
from outlast.store.memory import Memory

pytestmark = pytest.mark.timeout(300)


def test_a_node_s_restore(tmp_path: Path) -> None:
    """Killed at its steps: who takes the home next finds all of the old node, or all of that in the backup, and everything that
    was replaced in the trash; the restore can be given again at once, and then it is done."""
    first = laid_out(tmp_path / "first" / "axiom", "new")
    place = place_of(first)
    copy_of_openclaw(place, "new")
    made = make(first, "axiom", place, SystemClock(), to=None, keys=True, progress=lambda *_: None)
    old = laid_out(tmp_path / "old" / "axiom", "old", records=7)
    found: dict[int, str] = {}
    step, stride = 0, 7
    while True:
        home = Home(tmp_path / "now" / "axiom")
        shutil.copytree(old.root, home.root, symlinks=True)
        where = place_of(home)

        def put_back(home: Home = home, where: Any = where) -> None:
            with held(home):
                restore(home, "axiom", where, Path(made.file), SystemClock())

        was_killed = killed_at(step, put_back)
        with held(home):
            said = marks(home)
            assert len(said) == 1, f"step {step}: {said}"
            found[step] = said.pop()
            memory = Memory(home, "axiom", SystemClock())
            assert memory.state.seq == 7 if found[step] == "old" else memory.state.seq > 100_000
            memory.close()
            if found[step] == "new":
                assert "old" in "".join(map(str, (marks(Home(kept)) for kept in home.trash.glob("*-restore"))))
        if was_killed and step % 10 == 0:
            put_back()
            assert marks(home) == {"new"} and not list(home.root.rglob(".restore-*"))
        shutil.rmtree(home.root)
        if not was_killed:
            break
        if found[step] == "new" and stride > 1:
            # Laying out is many steps of one kind; from a little before it counts every one is tried.
            step, stride = step - stride, 1
        step += stride
    told = [found[step] for step in sorted(found)]
    assert told[0] == "old" and told[-1] == "new" and told == sorted(told, reverse=True)
    assert told.count("new") > 20, found


def test_openclaw_s_state_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same of a copy of OpenClaw's state: whoever starts the gateway next finds one state, whole."""
    # Its own verification is tried with the real one.
    monkeypatch.setattr(snapshots, "verify", lambda *_: None)
    old = laid_out(tmp_path / "old" / "axiom", "old")
    found: list[str] = []
    step = 0
    while True:
        home = Home(tmp_path / "now" / "axiom")
        shutil.copytree(old.root, home.root, symlinks=True)
        place = place_of(home)
        file = copy_of_openclaw(place, "new")
        was_killed = killed_at(step, lambda place=place, file=file: snapshots.restore_into(place, file))  # type: ignore[misc]
        snapshots.finish(place)
        found.append((place.state / "state/openclaw.sqlite").read_text())
        assert (place.state / "workspace-scribe/AGENTS.md").read_text() == "old", (
            "an agent's workspace went back in time"
        )
        assert activation.pending(place.snapshots / "restore.json") is None
        if found[-1] == "new":
            assert [path.read_text() for path in home.trash.rglob("openclaw.sqlite")] == ["old"]
        shutil.rmtree(home.root)
        if not was_killed:
            break
        step += 1
    assert found[0] == "old" and found[-1] == "new" and found == sorted(found, reverse=True)
