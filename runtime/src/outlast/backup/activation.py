"""Putting what was laid out beside into its place, so that a crash at any moment leaves the old or the new, whole.

Rules kept here: what is to be done is a list of renames, written down durably before the first of them; each is done or not,
which is seen by what is where, so that doing it all again after any crash goes on where it stopped; nothing is deleted: what
was there is moved aside first, also what appeared there since the list was made. Until the list is written everything is as it
was, and it is not written where something of it cannot be moved (``check``); from then on it is only carried through.

Left to others: laying out (restore, openclaw.snapshots), and carrying on before anybody uses the home (outlast.lock).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import msgspec

from outlast.core.plainjson import from_json
from outlast.errors import BadInput, CorruptError, DurabilityError
from outlast.store import durable, regular
from outlast.work.trees import remove

__all__ = ["Pending", "begin", "carry_on", "check", "pending", "settle"]


class Pending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Renames, as paths below ``root``: first everything that was there ``aside``, then what is new ``put`` in its place.

    ``drop``: folders that it was laid out in, empty by then. ``told``: what it is, for people. ``trash``: where that goes which
    is at a place by then that was empty.
    """

    told: str
    aside: tuple[tuple[str, str], ...]
    put: tuple[tuple[str, str], ...]
    drop: tuple[str, ...] = ()
    trash: str = "var/trash/restore"


def settle(folder: Path) -> None:
    """Bring all that was laid out in a folder to the disk. Raises OSError."""
    for here, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(here, name)
            if not os.path.islink(path):
                durable.settle(Path(path))
        durable.fsync_dir(here)


def check(root: Path, todo: Pending) -> None:
    """Can all of it be moved? Raises BadInput with what cannot, and nothing was changed; OSError."""
    was = {f"{target}/": f"{source}/" for source, target in todo.aside}
    disk = os.stat(root / "var").st_dev
    for name, _ in (*todo.aside, *todo.put):
        # Some of what is put comes out of what went aside before.
        above = next((one for one in was if name.startswith(one)), "")
        path = root / (was[above] + name.removeprefix(above) if above else name)
        try:
            about = os.lstat(path)
        except FileNotFoundError:
            continue
        wrong, mend = "", f"nothing was changed; sudo chown -R {os.geteuid()} {path}, or move it away, then again"
        if about.st_dev != disk:
            wrong, mend = "it lies on another disk", f"nothing was changed; unmount {path}, or move it away, then again"
        elif not os.access(path.parent, os.W_OK | os.X_OK):
            wrong = f"you may not write to {path.parent}"
        elif stat.S_ISDIR(about.st_mode) and about.st_uid != os.geteuid() and not os.access(path, os.W_OK):
            # Which its entry ``..`` takes.
            wrong = "it is another user's, and cannot be moved"
        if wrong:
            raise BadInput(path.relative_to(root).as_posix(), wrong, mend)


def begin(record: Path, pending: Pending) -> None:
    """Write down what is to be done; from now on it will be. Raises DurabilityError."""
    durable.make_dir(record.parent)
    durable.replace(record, msgspec.json.format(msgspec.json.encode(pending), indent=1) + b"\n")


def pending(record: Path) -> Pending | None:
    """What is still to be done; None where nothing is. Raises CorruptError."""
    try:
        return from_json(regular.read(record), Pending)
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        mend = "put what lies in var/.restore-* and var/trash/*-restore where it belongs, then move it away"
        raise CorruptError(f"{record}: it cannot be read ({error}); {mend}") from error


def carry_on(root: Path, record: Path) -> Pending | None:
    """Do what is written down, or the rest of it; what that was. Raises CorruptError, DurabilityError."""
    todo = pending(record)
    if todo is None:
        return None
    for source, target in todo.aside:
        # Once something is aside, what is at its place is new.
        if os.path.lexists(root / source) and not os.path.lexists(root / target):
            _move(root / source, root / target)
    _keep(root, todo.aside)
    for source, target in todo.put:
        if os.path.lexists(root / source):
            if os.path.lexists(root / target):
                _move(root / target, _free(root / todo.trash / target))
            _move(root / source, root / target)
    _keep(root, todo.put)
    for name in todo.drop:
        remove(root / name)
    try:
        record.unlink()
        durable.fsync_dir(record.parent)
    except OSError as error:
        raise DurabilityError(f"{record.name} could not be removed: {error.strerror or error}") from error
    return todo


def _keep(root: Path, moves: Iterable[tuple[str, str]]) -> None:
    """Bring all names that changed to the disk: who was killed may have moved something and no more."""
    for folder in sorted({(root / name).parent for pair in moves for name in pair}):
        try:
            durable.fsync_dir(folder)
        except FileNotFoundError:
            # What was laid out in it is in its place.
            continue
        except OSError as error:
            raise DurabilityError(f"{folder.name} could not be kept: {error.strerror or error}") from error


def _move(source: Path, target: Path) -> None:
    """A folder can be moved elsewhere by who may write to it: where it is ours, that is so for a moment."""
    durable.make_dir(target.parent)
    mode = None
    with contextlib.suppress(OSError):
        about = os.lstat(source)
        if stat.S_ISDIR(about.st_mode) and not os.access(source, os.W_OK):
            os.chmod(source, about.st_mode | stat.S_IWUSR)
            mode = stat.S_IMODE(about.st_mode)
    durable.move(source, target)
    if mode is not None:
        with contextlib.suppress(OSError):
            os.chmod(target, mode)


def _free(path: Path) -> Path:
    """A name like this one that nothing has."""
    names = itertools.chain([path], (path.with_name(f"{path.name}-{number}") for number in itertools.count(1)))
    return next(one for one in names if not os.path.lexists(one))
