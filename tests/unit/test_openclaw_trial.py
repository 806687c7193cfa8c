"""A trial of OpenClaw's configuration that is killed somewhere: nothing is told wrong of it later, and nothing of it stays."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.backups import copy_of_openclaw, laid_out, place_of
from support.killing import killed_at
from support.live import until

from outlast.backup import activation
from outlast.openclaw import snapshots, tokens
from outlast.openclaw.applying import Applying
from outlast.openclaw.furnishing import furnish
from outlast.openclaw.place import Place

pytestmark = pytest.mark.timeout(120)
PROGRAM = """#!/bin/sh
for word; do [ "$word" = gateway ] && exec sleep 1000; done
echo '{"valid":true}'
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A node's OpenClaw that takes every configuration."""
    found = place_of(laid_out(tmp_path / "axiom", "old"), str(tmp_path / "release"))
    for path in map(Path, found.command):
        path.parent.mkdir(parents=True)
        path.write_text(PROGRAM)
        path.chmod(0o755)
    return found


def put(place: Place, config: str) -> dict[str, Any]:
    """Put a configuration in place."""
    return Applying(place).apply(config, {}, dry_run=False)


def proved(place: Place) -> None:
    """What is on trial is good, as prove ends it."""
    Applying(place)._over()


def test_killed_anywhere_the_same_again_is_whole(place: Place, tmp_path: Path) -> None:
    """Whatever the step at which a change was killed: after the same again the configuration is the one that was applied, and a
    change after that is no edit by hand."""
    put(place, '{"a":1}')
    proved(place)
    root, before, step = place.home.root, tmp_path / "before", 0
    shutil.copytree(root, before, symlinks=True)
    while killed_at(step, lambda: put(place, '{"a":2}')):
        assert put(place, '{"a":2}')["trial"] or not step
        assert place.applied.read_text().strip() == hashlib.sha256(place.config.read_bytes()).hexdigest(), (
            f"step {step}"
        )
        assert put(place, '{"a":3}')["edited"] == "", f"step {step}"
        shutil.rmtree(root)
        shutil.copytree(before, root, symlinks=True)
        step += 1
    assert step > 10


def test_killed_while_what_was_before_is_removed(place: Place, tmp_path: Path) -> None:
    """The trial is over or it is not: the next proof ends, and what is left of it, secrets too, is removed by the next run."""
    put(place, '{"a":1}')
    proved(place)
    put(place, '{"a":2}')
    root, before, step = place.home.root, tmp_path / "before", 0
    shutil.copytree(root, before, symlinks=True)
    while killed_at(step, lambda: proved(place)):
        put(place, '{"a":2}')
        assert not (place.folder / "before.new").exists()
        assert (place.folder / "before").exists() == (place.folder / "before/since").exists()
        asyncio.run(Applying(place).prove(0.0))
        shutil.rmtree(root)
        shutil.copytree(before, root, symlinks=True)
        step += 1
    assert step > 3


def test_one_that_an_older_release_left_half_is_over(place: Place) -> None:
    """What was on trial, without its time: it had been proven."""
    put(place, '{"a":1}')
    (place.folder / "before/since").unlink()
    assert not put(place, '{"a":1}')["trial"]
    assert asyncio.run(Applying(place).prove(0.0))["ok"]


def test_a_restore_that_was_cut_off_is_ended_first(place: Place) -> None:
    """Between its two renames nothing is made in the place of OpenClaw's state, which comes whole."""
    file, fresh = copy_of_openclaw(place, "new"), place.state.with_name(".restore-x")
    snapshots.unpack_state(file, fresh, place)
    state, new = (path.relative_to(place.home.root).as_posix() for path in (place.state, fresh))
    activation.begin(
        place.snapshots / "restore.json", activation.Pending("x", ((state, "var/trash/x"),), ((new, state),))
    )
    place.home.trash.mkdir(exist_ok=True)
    place.state.rename(place.home.trash / "x")
    put(place, "{}")
    assert (place.state / "state/openclaw.sqlite").read_text() == "new"
    assert not list(place.home.trash.glob("*/var")) and not fresh.exists()


def test_what_was_replaced_is_bounded_and_nothing_of_it_is_lost(place: Place) -> None:
    """The newest twenty stay where they are, also of one second; the others are in the part of the trash that empties itself."""
    for number in range(25):
        put(place, json.dumps({"a": number}))
    kept, older = [
        {path.read_text() for path in folder.iterdir()} for folder in (place.folder / "replaced", place.home.old_logs)
    ]
    assert (len(kept), len(older)) == (20, 4) and json.dumps({"a": 23}) in kept
    assert kept | older == {json.dumps({"a": number}) for number in range(24)}


def test_files_of_one_name_that_are_overwritten_at_once_are_all_kept(place: Place, tmp_path: Path) -> None:
    """Two agents' AGENTS.md in one second: both old ones are in the trash."""
    tokens.ensure(place)

    def bring(text: str) -> None:
        files = {"AGENTS.md": {"content": base64.b64encode(text.encode()).decode(), "runs": False}}
        folders = [{"root": str(tmp_path / name), "files": files} for name in ("one", "two", "three")]
        furnish(place.home, folders, dry_run=False)

    bring("a")
    bring("b")
    assert [path.read_text() for path in place.home.trash.glob("*AGENTS.md")] == ["a"] * 3


def test_the_token_of_a_doctor_that_was_killed_does_not_stay(place: Place) -> None:
    """The next start of the launcher removes what a doctor was given."""
    with place.home.config.open("a") as file:
        file.write(f"openclaw: {{release: {place.settings.release}, port: {place.settings.port}, stop_within: 1s}}\n")
    put(place, "{}")
    scratch = place.launched.parent / "doctor"
    scratch.mkdir(parents=True)
    (scratch / "hooks.json").write_text(tokens.hooks(place))
    command = [sys.executable, "-m", "outlast.openclaw.launch", "--home", str(place.home.root)]
    launcher = subprocess.Popen(command, env={**os.environ}, stderr=subprocess.DEVNULL)
    try:
        until(lambda: not scratch.exists(), what="it is gone")
    finally:
        launcher.terminate()
        assert launcher.wait(30) == 0
