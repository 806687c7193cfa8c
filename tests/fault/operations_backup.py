"""What is cut at every I/O step, and what must hold afterwards: a backup, putting one back, new tokens. See fault.powercut."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fault.operations import NOON
from fault.powercut import Operation, Said, Voice
from support.backups import laid_out, place_of
from support.clock import FixedClock

from outlast.backup import activation, archive
from outlast.backup.make import make
from outlast.home import Home
from outlast.openclaw import rotating, tokens

__all__ = ["BACKUP"]


def _home(disk: Path) -> Home:
    return Home(disk / "axiom")


# A backup.


def _prepare_backup(disk: Path) -> None:
    laid_out(disk / "axiom", "kept")
    (disk / "elsewhere").mkdir()


def _act_backup(disk: Path, voice: Voice) -> None:
    with voice("made"):
        make(_home(disk), "axiom", None, FixedClock(NOON), to=disk / "elsewhere", keys=True, progress=lambda *_: None)


def _check_backup(disk: Path, said: Said) -> None:
    found = list((disk / "elsewhere").glob("outlast-axiom-*.tar.gz"))
    assert found or "made" not in said.done, "a backup that was made is gone"
    for file in found:
        archive.read(file)


# Putting what was laid out in the place of what was there.

_PLACES = ("workspace", "var/jobs.json")


def _lay_out(folder: Path, mark: str) -> None:
    (folder / "workspace/deep").mkdir(parents=True)
    (folder / "var").mkdir()
    for name in ("workspace/deep/note.md", "var/jobs.json"):
        (folder / name).write_text(mark)


def _prepare_putting(disk: Path) -> None:
    _lay_out(disk / "axiom", "old")


def _act_putting(disk: Path, voice: Voice) -> None:
    home = _home(disk)
    with voice("put back"):
        _lay_out(home.root / ".beside", "new")
        activation.settle(home.root / ".beside")
        aside = tuple((name, f"var/trash/then/{name}") for name in _PLACES)
        put = tuple((f".beside/{name}", name) for name in _PLACES)
        activation.begin(home.restoring, activation.Pending("a backup", aside, put, (".beside",)))
        activation.carry_on(home.root, home.restoring)


def _putting_later(disk: Path, voice: Voice) -> None:
    home = _home(disk)
    begun = activation.pending(home.restoring) is not None
    with voice("put back" if begun else "nothing"):
        activation.carry_on(home.root, home.restoring)


def _check_putting(disk: Path, said: Said) -> None:
    home = _home(disk)
    # What was told to be over is not begun again: a person may have changed what is there meanwhile.
    assert "put back" not in said.done or activation.pending(home.restoring) is None
    activation.carry_on(home.root, home.restoring)
    names = ("workspace/deep/note.md", "var/jobs.json")
    found = {(home.root / name).read_text() for name in names}
    assert found == {"new"} or (found == {"old"} and "put back" not in said.done), found
    assert found == {"old"} or {(home.trash / "then" / name).read_text() for name in names} == {"old"}


# New tokens of a gateway that does not run.


def _prepare_tokens(disk: Path) -> None:
    place = place_of(Home(disk / "axiom"))
    tokens.ensure(place)
    (disk / "old").write_text(f"{tokens.gateway(place)} {tokens.hooks(place)}")


def _act_tokens(disk: Path, voice: Voice) -> None:
    with voice("changed"):
        asyncio.run(rotating.rotate(place_of(_home(disk))))


def _check_tokens(disk: Path, said: Said) -> None:
    place, old = place_of(_home(disk)), (disk / "old").read_text().split()
    # The disk that forgets knows no modes.
    for path in place.folder.iterdir():
        path.chmod(0o600)
    begun = place.rotation.exists()
    assert not begun or "changed" not in said.done, "a change that is over is begun again"
    if begun:
        asyncio.run(rotating.rotate(place))
    now = {tokens.gateway(place), tokens.hooks(place)}
    assert now == set(old) or not now & set(old), "half of them are old"
    assert now != set(old) or not (begun or "changed" in said.done)


BACKUP = [
    Operation("backup", _act_backup, _check_backup, _prepare_backup, most=12),
    Operation("putting back", _act_putting, _check_putting, _prepare_putting, _putting_later, most=12),
    Operation("tokens", _act_tokens, _check_tokens, _prepare_tokens),
]
