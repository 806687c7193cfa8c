"""Copies of OpenClaw's state: which is the newest, that two at once do not meet, and what is unpacked of one."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from pathlib import Path

import pytest
from support.backups import laid_out, place_of
from support.clock import FixedClock

from outlast.clock import SystemClock
from outlast.errors import CorruptError
from outlast.openclaw import snapshots
from outlast.openclaw.place import Place

# Copies a state once it is let, which two files tell each other; a copy that is gone by then is an error.
COPIES = """#!/bin/sh
[ "$2" = verify ] && echo '{"ok":true}' && exit
for last; do :; done
echo copy > "$last"
touch "$TMPDIR/begun"
while [ -e "$TMPDIR/wait" ]; do sleep 0.05; done
[ -e "$last" ] && echo '{"verified":true}'
"""
ROOT = "x-openclaw-backup"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A node's OpenClaw whose program copies nothing in particular."""
    found = place_of(laid_out(tmp_path / "axiom", "old"), str(tmp_path / "release"))
    node = Path(found.command[0])
    node.parent.mkdir(parents=True)
    node.write_text(COPIES)
    node.chmod(0o755)
    return found


def packed(place: Place, *entries: tarfile.TarInfo) -> Path:
    """A copy that holds these; what is a file says so."""
    state = f"{ROOT}/payload/posix{place.state}"
    manifest = tarfile.TarInfo(f"{ROOT}/manifest.json")
    told = json.dumps({"assets": [{"kind": "state", "sourcePath": str(place.state), "archivePath": state}]}).encode()
    path = place.snapshots / "openclaw-20261121T220703Z.tar.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for entry in entries:
            entry.name = f"{state}/{entry.name}"
            entry.size = 4 if entry.isreg() else 0
            tar.addfile(entry, io.BytesIO(b"file") if entry.isreg() else None)
        manifest.size = len(told)
        tar.addfile(manifest, io.BytesIO(told))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, *, mode: int = 0o644, target: str = "") -> tarfile.TarInfo:
    """One member."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname = kind, mode, target
    return entry


def test_the_copy_just_made_is_the_newest_whatever_the_clock_says(place: Place) -> None:
    """With a clock that went back, and several in one second, none is thrown out but the oldest."""
    made = [snapshots.make(place, FixedClock(1_900_000_000.0 + number)) for number in (0, 60, 60)]
    for _ in range(12):
        made.append(snapshots.make(place, FixedClock(1_800_000_000.0)))
        assert snapshots.newest(place) == made[-1] and made[-1].is_file()
    kept = place.settings.snapshots
    assert snapshots.snapshots(place) == made[: -kept - 1 : -1]
    assert len(list(place.home.old_logs.iterdir())) == len(made) - kept


def test_two_that_are_made_at_once_are_both_whole(place: Place) -> None:
    """The second waits for the first, takes nothing from it, and ends when it is told to."""
    scratch = Path(place.environment()["TMPDIR"])
    scratch.mkdir(parents=True)
    (scratch / "wait").touch()
    made: list[Path] = []
    first = threading.Thread(target=lambda: made.append(snapshots.make(place, SystemClock())))
    first.start()
    while not (scratch / "begun").exists():
        first.join(0.05)
        assert first.is_alive()
    halt = threading.Event()
    halt.set()
    with pytest.raises(snapshots.SnapshotError, match="another copy of its state is being made"):
        snapshots.make(place, SystemClock(), halt)
    (scratch / "wait").unlink()
    made.append(snapshots.make(place, SystemClock()))
    first.join()
    assert len(set(made)) == 2 and all(path.is_file() for path in made)


def test_a_program_stays_one_and_everything_is_its_owner_s(place: Place, tmp_path: Path) -> None:
    """What could be executed can be after it was unpacked; nobody else gets a right."""
    file = packed(place, member("tool", mode=0o755), member("note"), member("sealed", mode=0o444))
    snapshots.unpack_state(file, tmp_path / "into", place)
    modes = {path.name: path.lstat().st_mode & 0o777 for path in (tmp_path / "into").iterdir() if not path.is_symlink()}
    assert modes == {"tool": 0o700, "note": 0o600, "sealed": 0o600}


@pytest.mark.parametrize("name", ["a/planted", "a/sub/planted"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.REGTYPE])
def test_nothing_is_put_elsewhere_through_a_link(place: Place, tmp_path: Path, name: str, kind: bytes) -> None:
    """A copy with anything below a link is none, and where the link leads nothing was made."""
    (tmp_path / "victim").mkdir()
    link = member("a", tarfile.SYMTYPE, target=str(tmp_path / "victim"))
    with pytest.raises(CorruptError, match="below a link"):
        snapshots.unpack_state(packed(place, link, member(name, kind, target="/x")), tmp_path / "into", place)
    assert not list((tmp_path / "victim").iterdir())


def test_one_that_cannot_be_unpacked_leaves_nothing(place: Place) -> None:
    """Neither what it had laid out, nor what an earlier one left that was killed; the state is as it was."""
    (place.state.parent / ".restore-of-one-that-was-killed").mkdir()
    file = packed(place, member("big"), member("same", tarfile.LNKTYPE, target="big"))
    with pytest.raises(CorruptError):
        snapshots.restore_into(place, file)
    assert not list(place.state.parent.glob(".restore-*"))
    assert (place.state / "state/openclaw.sqlite").read_text() == "old"
