"""``outlast backup``: makes a backup of the node, verifies one, lists them, and puts one back."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import table, tell
from outlast.core.record import one_line
from outlast.errors import BadInput, CorruptError, OutlastError
from outlast.home import Home
from outlast.quantity import readable

if TYPE_CHECKING:
    from outlast.backup.archive import Manifest
    from outlast.openclaw.place import Place
    from outlast.settings import Config

__all__ = ["backup"]

_EVERY_S = 10.0
_DRAW_S = 0.2
_SHOWN = 20


@click.group()
def backup() -> None:
    """Make, verify and restore backups of the node."""


@backup.command("now")
@click.option("--to", type=click.Path(path_type=Path), metavar="DIR", help="Another folder than var/backups.")
@click.option(
    "--without-keys",
    is_flag=True,
    help="Leave out the node's keys and tokens: it cannot be the same node again elsewhere.",
)
@as_json
@click.pass_obj
def now(where: Where, to: Path | None, without_keys: bool, as_json: bool) -> int:
    """Make a backup: one file, verified.

    Works while the node runs and while it is down, and stops nothing. The node's keys are in the file: keep it as a secret.
    Exit code 1 where something was left out that should be in it.
    """
    from outlast.backup.make import make
    from outlast.clock import SystemClock

    home, config = where.home, where.config
    shown = _Shown(quiet=as_json)
    try:
        made = make(
            home, config.node, _place(home, config), SystemClock(),
            to=to, keys=not without_keys, progress=shown.step, keep=config.clean.backups,
        )  # fmt: skip
    finally:
        shown.end()
    if as_json:
        emit(made)
        return 1 if made.left else 0
    for path, size in made.large[:_SHOWN]:
        tell(f"large: {one_line(path, 200)}, {readable(size)}", err=True)
    for one in made.left[:_SHOWN]:
        tell(f"left out: {one_line(one.path, 200)}: {one_line(one.why, 400)}", err=True)
    if len(made.left) > _SHOWN:
        tell(f"left out: and {len(made.left) - _SHOWN} more: --json shows all", err=True)
    state = f"; OpenClaw's state of {made.openclaw}" if made.openclaw else ""
    tell(f"{made.file}")
    tell(
        f"{made.node}: {made.files} files and folders, {readable(made.bytes)}, packed {readable(made.size)}, verified{state}"
    )
    if made.aside:
        tell(f"older ones are in {home.old_logs}: {', '.join(made.aside)}")
    if made.keys:
        tell("it holds the node's keys: keep it as a secret, and on another machine")
    elif made.openclaw:
        tell("it holds none of the node's keys, but OpenClaw's state with its sign-ins: keep it as a secret")
    else:
        tell("it holds no keys")
    return 1 if made.left else 0


@backup.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@as_json
@click.pass_obj
def verify(where: Where, file: Path, as_json: bool) -> int:
    """Read all of FILE: is it whole?

    Every member is compared with the manifest; on a node with OpenClaw, its own copy is verified by OpenClaw too. Needs no
    node: works on any machine with this command. Exit code 1 when it is not whole.
    """
    from outlast.backup.archive import read

    shown = _Shown(quiet=as_json)
    whole, done = _size(file), 0

    def seen(count: int) -> None:
        nonlocal done
        done += count
        shown.step("reading", min(done, whole), whole)

    try:
        manifest = read(file, seen=seen)
        checked = _openclaws_word(where, file, manifest)
    except (CorruptError, OutlastError) as error:
        raise OutlastError(f"{file}: {error}; take another backup") from error
    finally:
        shown.end()
    if as_json:
        emit({"ok": True, "file": str(file), "openclaw_verified": checked, **_about(manifest)})
    else:
        by = ", verified by OpenClaw" if checked else ", read to its end" if manifest.openclaw else ""
        state = f"; OpenClaw's state of {manifest.openclaw}{by}" if manifest.openclaw else ""
        tell(f"whole: {manifest.node} as of {manifest.made}, {len(manifest.members)} files and folders{state}")
        for one in manifest.left[:_SHOWN]:
            tell(f"was left out: {one_line(one.path, 200)}: {one_line(one.why, 400)}")
    return 0


@backup.command("list")
@as_json
@click.pass_obj
def listed(where: Where, as_json: bool) -> int:
    """List the backups in var/backups, newest first.

    It does not read them: `outlast backup verify FILE` does.
    """
    from outlast.backup.naming import newest_first

    home = where.home
    found = newest_first(home.backups, f"outlast-{home.node}")
    found += sorted(set(home.backups.glob("outlast-*.tar.gz")) - set(found))
    rows = [(path, path.stat()) for path in found]
    if as_json:
        emit({"backups": [{"file": str(path), "size": about.st_size, "at": about.st_mtime} for path, about in rows]})
        return 0
    if not rows:
        tell(f"{home.node} has no backup in {home.backups}; outlast backup now makes one")
        return 0
    shown = [["file", "size", "age"]]
    shown += [[path.name, readable(about.st_size), _age(time.time() - about.st_mtime)] for path, about in rows]
    tell("\n".join(table(shown)))
    tell(
        f"in {home.backups}, {readable(sum(about.st_size for _, about in rows))}; the newest {where.config.clean.backups} stay"
    )
    return 0


@backup.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--sure", is_flag=True, help="Do not ask.")
@as_json
@click.pass_obj
def restored(where: Where, file: Path, sure: bool, as_json: bool) -> int:
    """Put FILE back: the node is as it was then.

    Only while neither the node nor its gateway runs; `ansible-playbook playbooks/restore.yml -l NODE -e from=FILE` stops and
    starts them. What was there goes to var/trash. Configuration, keys and tokens that are there stay.
    """
    from outlast.backup.archive import read
    from outlast.backup.restore import restore
    from outlast.cli.talk import do
    from outlast.clock import SystemClock
    from outlast.lock import held

    home, config = where.home, where.config
    whole = _size(file)
    if not sure:
        if as_json or not sys.stdin.isatty():
            raise BadInput(
                "--sure", "it puts the node back in time, and was not said", "say --sure; nothing was changed"
            )
        manifest = read(file)
        click.confirm(
            f"{config.node} goes back to {manifest.made}; what is there now is kept. Go on?", abort=True, err=True
        )
    shown, done = _Shown(quiet=as_json), 0

    def seen(count: int) -> None:
        nonlocal done
        done += count
        shown.step("laying out", min(done, whole), whole)

    try:
        with held(home):
            answer = restore(home, config.node, _place(home, config), file, SystemClock(), seen)
    finally:
        shown.end()
    examined = do(home, "doctor", {})
    wrong = [one for one in examined["findings"] if not one["ok"]]
    if as_json:
        emit({**msgspec.to_builtins(answer), "changed": True, "findings": wrong})
        return 0
    tell(f"{answer.node} is as of {answer.made}: {answer.files} files and folders, {readable(answer.bytes)}")
    if answer.openclaw:
        tell(f"OpenClaw's state of {answer.openclaw} is in its place")
    if answer.kept:
        tell(f"what was there is in {answer.kept}")
    if answer.stayed:
        tell(f"not put back, what is here stays: {one_line(', '.join(answer.stayed), 300)}")
    for unit in answer.in_doubt:
        tell(f"in doubt: {unit}, which was open then; its sender is told")
    for one in wrong:
        tell(f"{one['about']}: {one['found']}; {one['done']}", err=True)
    tell("what next:\n  ansible-playbook site.yml    starts it, and hands out what its peers lack")
    return 0


def _place(home: Home, config: Config) -> Place | None:
    if config.openclaw is None:
        return None
    from outlast.openclaw.place import Place

    return Place(home, config.openclaw)


def _openclaws_word(where: Where, file: Path, manifest: Manifest) -> bool:
    """Have the OpenClaw of the node that is meant verify its own copy, where there are both. Raises OutlastError."""
    if not manifest.openclaw:
        return False
    import tempfile

    from outlast.backup.archive import OPENCLAW, extract
    from outlast.openclaw import snapshots

    try:
        place = _place(where.home, where.config)
    except OutlastError:
        place = None
    scratch = str(where.home.root / "var") if place is not None else None
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".verify-") as folder:
        copy = extract(file, OPENCLAW, Path(folder) / OPENCLAW)
        if place is not None and Path(place.command[0]).exists():
            snapshots.verify(place, copy)
            return True
        snapshots.read_through(copy)
    return False


def _about(manifest: Manifest) -> dict[str, object]:
    about = {name: getattr(manifest, name) for name in ("node", "home", "made", "outlast", "keys", "openclaw", "left")}
    return {**about, "files": len(manifest.members), "bytes": manifest.size}


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise BadInput(
            "FILE", f"{file}: {error.strerror or error}", "outlast backup list shows those of this node"
        ) from error


def _age(seconds: float) -> str:
    days, hours, minutes = int(seconds // 86400), int(seconds // 3600 % 24), int(seconds // 60 % 60)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min" if hours else f"{minutes} min"


class _Shown:
    """How far long work is, on standard error: drawn over itself for a person, a line now and then for a log."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet, self._live = quiet, sys.stderr.isatty()
        self._next = time.monotonic() + (_DRAW_S if self._live else _EVERY_S)
        self._drawn = False

    def step(self, what: str, done: int, whole: int) -> None:
        if self._quiet or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + (_DRAW_S if self._live else _EVERY_S)
        told = f"{what}: {100 * done // whole} % of {readable(whole)}" if whole else what
        click.echo(f"\r\x1b[K{told}" if self._live else told, nl=not self._live, err=True)
        self._drawn = self._live

    def end(self) -> None:
        if self._drawn:
            click.echo("\r\x1b[K", nl=False, err=True)
            self._drawn = False
