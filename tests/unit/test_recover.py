"""`outlast recover`: STATE.json is rebuilt from the journal and the artifacts, or everything stays as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.artifacts import UNIT, leave, make_home
from support.clock import FixedClock

from outlast.config import load_config
from outlast.core.record import Step
from outlast.errors import OutlastError
from outlast.home import Home
from outlast.local import Local
from outlast.lock import held
from outlast.store import durable
from outlast.store.journal import Journal
from outlast.store.statefile import read_state
from outlast.work.rebuild import recover

NOON = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))
CLOCK = FixedClock(NOON + 60)
OTHER = "coz-d1zkffdmvrmy"


def outlast(home: Home, *words: str) -> tuple[int, str, str]:
    command = [str(Path(sys.executable).parent / "outlast"), "--home", str(home.root), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def started(home: Home) -> None:
    """What a start puts right."""
    Local(load_config(home.config), home, CLOCK).close()


def files(home: Home) -> dict[str, bytes]:
    return {str(path.relative_to(home.root)): path.read_bytes() for path in home.root.rglob("*") if path.is_file()}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A node with a task that is done, one that is open, and an open step; stopped in order."""
    home = make_home(tmp_path, "axiom")
    local = Local(load_config(home.config), home, FixedClock(NOON))
    memory = local.memory
    memory.intent(UNIT, "task", "coz", "host report")
    leave(home, {"report.md": b"done"})
    memory.update(UNIT, "done", f"report.md ({'a long story, ' * 20})", artifact=True)
    memory.confirm(UNIT, "done", "report.md (a long story…")
    memory.intent(OTHER, "task", "coz", "another")
    memory.intent("8", "step", "", "take notes", ("notes.md",))
    memory.flush()
    local.close()
    return home


def test_a_state_that_is_right_stays_as_it_is(home: Home) -> None:
    """Where STATE.json says what the journal and the artifacts say, to the word, nothing is written and nothing shown."""
    before = files(home)
    done = recover(home, "axiom", CLOCK, dry_run=False)
    assert (done.changed, done.diff, done.kept, done.emergency) == (False, "", "", "")
    assert files(home) == before


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:-30], "unreadable: it does not parse"),
        (lambda text: text.replace('"open"', '"done"', 1), "unreadable: its checksum"),
        (lambda text: text.replace('"version": 2', '"version": 9'), "unreadable: it is of version 9"),
        (lambda text: "", "unreadable: it does not parse"),
        (None, "unreadable: it is missing"),
    ],
    ids=["torn", "changed", "from the future", "empty", "missing"],
)
def test_a_broken_state_is_rebuilt_and_the_old_one_kept(home: Home, damage: Any, said: str) -> None:
    """Whatever happened to STATE.json: it is rebuilt with all open work in it, the old one is in the trash, and a diff says
    what changed; with --dry-run only the diff is shown. A second run finds nothing to do."""
    state = read_state(home.state_file, "axiom")
    assert state is not None
    broken = damage(home.state_file.read_text()) if damage else None
    if broken is None:
        home.state_file.unlink()
    else:
        home.state_file.write_text(broken)
    before = files(home)
    tried = recover(home, "axiom", CLOCK, dry_run=True)
    assert tried.changed and f"-{said}" in tried.diff and files(home) == before
    done = recover(home, "axiom", CLOCK, dry_run=False)
    assert done.diff == tried.diff and '+     "' in done.diff
    rebuilt = read_state(home.state_file, "axiom")
    assert rebuilt is not None
    assert [name for name, unit in rebuilt.units.items() if unit.status == "open"] == [OTHER, "8"]
    assert rebuilt.units[UNIT].status == "done" and rebuilt.artifacts == state.artifacts and rebuilt.seq == state.seq
    assert (home.trash / done.kept).read_text() == broken if broken is not None else not done.kept
    assert not recover(home, "axiom", CLOCK, dry_run=False).changed


def test_an_artifact_that_nobody_knew_is_taken_in_and_noted(home: Home) -> None:
    """With STATE and the journal gone, the artifacts alone say what was done; the journal is told, so that the next rebuild
    knows it too."""
    home.state_file.unlink()
    for path in home.memory.glob("*.md"):
        path.unlink()
    done = recover(home, "axiom", CLOCK, dry_run=False)
    assert any(UNIT in finding.about for finding in done.findings)
    state = read_state(home.state_file, "axiom")
    assert state is not None and state.units[UNIT].status == "done" and not state.units[UNIT].confirmed
    assert not recover(home, "axiom", CLOCK, dry_run=False).changed
    assert sum(" RECOVER " in path.read_text() for path in home.memory.glob("*.md")) == 1


def test_a_sibling_s_state_outlives_ours(home: Home) -> None:
    """What git brought of the sibling stays in the rebuilt file, though our own slot was broken."""
    content = json.loads(home.state_file.read_text())
    Local(load_config(make_home(home.root.parent, "coz").config), Home(home.root.parent / "coz"), CLOCK).memory.flush()
    theirs = json.loads((home.root.parent / "coz" / "workspace" / "STATE.json").read_text())["states"]["coz"]
    content["states"] |= {"coz": theirs}
    content["states"]["axiom"]["checksum"] = "0" * 32
    home.state_file.write_text(json.dumps(content))
    assert recover(home, "axiom", CLOCK, dry_run=False).changed
    assert json.loads(home.state_file.read_text())["states"]["coz"] == theirs


@pytest.mark.parametrize("broken", ["journal", "state", "trash"])
def test_a_rebuild_that_fails_changes_nothing_and_leaves_a_mark(
    home: Home, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """A journal that cannot be read, or a disk that takes nothing: why is said on one line and kept in a durable mark for the
    node's next start; all else is as it was, and without the fault the rebuild succeeds."""
    home.state_file.write_text("{")
    before = files(home)

    def fails(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error", str(home.memory / "2026-11-21.md"))

    replace = durable.replace

    def picky(path: Path, data: bytes, **kind: Any) -> bool:
        if path == home.state_file if broken == "state" else path.parent == home.trash:
            raise durable.DurabilityError(f"{path.name} could not be written: No space left on device")
        return replace(path, data, **kind)

    with monkeypatch.context() as patch:
        if broken == "journal":
            patch.setattr(Journal, "since", fails)
        else:
            patch.setattr(durable, "replace", picky)
        assert recover(home, "axiom", CLOCK, dry_run=True).changed is (broken != "journal")
        assert files(home) == before
        done = recover(home, "axiom", CLOCK, dry_run=False)
    why = "Input/output error" if broken == "journal" else "No space left"
    assert why in done.emergency and not done.changed and "\n" not in done.emergency
    after = files(home)
    assert after.pop("var/emergency").decode() == f"{done.emergency}\n"
    assert before.items() <= after.items()
    assert all(name.startswith("var/trash/") for name in set(after) - set(before))
    assert recover(home, "axiom", CLOCK, dry_run=False).changed


def test_a_failure_that_cannot_be_marked_is_said(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even the mark can be written, the error says both."""
    home.state_file.write_text("{")

    def full(path: Path, *_: object, **__: object) -> None:
        raise durable.DurabilityError(f"{path.name} could not be written: No space left on device")

    monkeypatch.setattr(durable, "replace", full)
    with pytest.raises(OutlastError, match="nor could that be marked"):
        recover(home, "axiom", CLOCK, dry_run=False)


def test_the_command(home: Home) -> None:
    """At the command line: the difference and an ending line, JSON for playbooks, 2 with the mend while the node runs, 1 with
    one line and the mark where it fails."""
    home.state_file.write_text("{")
    with held(home):
        code, _, err = outlast(home, "recover")
        assert code == 2 and "recover-state.yml" in err and err.count("\n") == 1
    code, out, _ = outlast(home, "recover", "--dry-run")
    assert code == 0 and "would change" in out and "+++ STATE.json" in out
    code, out, _ = outlast(home, "recover", "--json")
    told = json.loads(out)
    assert code == 0 and told["changed"] and told["kept"] and told["emergency"] == ""
    code, out, _ = outlast(home, "recover")
    assert code == 0 and out == "axiom: STATE.json says what the journal and the artifacts say\n"
    home.memory.rename(home.root / "days")
    home.memory.write_text("no folder")
    home.state_file.unlink()
    code, out, err = outlast(home, "recover")
    assert code == 1 and err.count("\n") == 1 and "emergency mode" in err
    assert home.emergency.exists() and not home.state_file.exists()


def test_a_unit_of_which_only_the_end_is_known_comes_from_its_artifact(home: Home) -> None:
    """A day is lost, and with it the INTENT of what a later CONFIRM says is done: the artifact tells the rest, once."""
    [day] = home.memory.glob("*.md")
    day.unlink()
    Journal(home.memory, "axiom", FixedClock(NOON + 86_400)).append(Step.CONFIRM, UNIT, "done: report.md")
    done = recover(home, "axiom", CLOCK, dry_run=False)
    assert [(one.about, one.done) for one in done.findings] == [(UNIT, "STATE.json was corrected: done")]
    rebuilt = read_state(home.state_file, "axiom")
    assert rebuilt is not None and rebuilt.units[UNIT].status == "done" and rebuilt.closed == {"task done": 1}
    assert not recover(home, "axiom", CLOCK, dry_run=False).changed


def test_what_is_no_file_in_the_place_of_state_makes_nobody_wait(home: Home) -> None:
    """A FIFO in the place of STATE.json is set aside, by a rebuilding and by a start."""
    state = read_state(home.state_file, "axiom")
    for again in (lambda: recover(home, "axiom", CLOCK, dry_run=False), lambda: started(home)):
        home.state_file.unlink()
        os.mkfifo(home.state_file)
        again()
        assert state is not None and home.state_file.is_file()
        assert read_state(home.state_file, "axiom").units.keys() == state.units.keys()  # type: ignore[union-attr]
