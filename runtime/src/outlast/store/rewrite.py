"""Replacing a file as a whole that others append to, or rewrite, at any moment.

Rules kept here:

* Compare before replace: what is replaced begins with what the new content was made from, to the moment of the rename.
* What others append to the old file after that (a shell holds it open as long as its command runs) is carried over. To
  that end the old file keeps a second name of its own, ``.NAME.SIZE.INODE.old``, on the disk, so that a crash loses none of
  it; whoever called carries, and finishes after a while. Such lines come after those that went to the new file meanwhile.
* Where the old file was rewritten in that very moment, both versions are kept.

Left to others: what the new content is (store.compact), and when to finish (store.journal).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from outlast.errors import DurabilityError
from outlast.store import durable, regular
from outlast.store.appendfile import AppendFile

__all__ = ["Change", "Replaced", "carry", "finish", "leftovers", "rewrite"]

_LEFT = re.compile(r"\.(?P<name>.+)\.(?P<size>\d+)\.(?P<inode>\d+)\.old", re.ASCII)
_TRIES = 5

Change = Callable[[bytes], bytes | None]


class Replaced(NamedTuple):
    """What became of the old file: its second name, where it must be watched; the name under which a version of somebody
    else is kept, where there is one."""

    left: Path | None = None
    other: Path | None = None


def rewrite(path: Path, change: Change) -> Replaced:
    """Replace the content of the file at ``path`` by what ``change`` makes of it; None: it is to stay as it is.

    Raises DurabilityError, also where others do not stop writing; the file is whole then, old or new.
    """
    for _ in range(_TRIES):
        try:
            old = regular.read(path) if path.exists() else None
            new = change(old or b"")
            if new is None:
                return Replaced()
            if old is None:
                if durable.replace(path, new, mode=durable.SHARED_FILE, still=lambda: not path.exists()):
                    return Replaced()
                continue
            left = _second(path, len(old), path.stat().st_ino)
            if left.exists():
                finish(left, again=True)
            os.link(path, left)
            mode = stat.S_IMODE(left.stat().st_mode)
            if durable.replace(path, new, mode=mode, still=_unchanged(path, left, old)):
                if left.read_bytes().startswith(old):
                    return Replaced(left=carry(left))
                other = path.with_name(f"{path.stem}.other-{left.stat().st_ino}{path.suffix}")
                durable.move(left, other)
                return Replaced(other=other)
            left.unlink()
        except OSError as error:
            raise DurabilityError(f"{path.name} could not be replaced: {error.strerror or error}") from error
    raise DurabilityError(f"{path.name} could not be replaced: others rewrite it all the time")


def leftovers(folder: Path) -> list[Path]:
    """The second names that are left in a folder; after a crash, also of a file that was not replaced. Raises OSError."""
    return sorted(path for path in folder.glob(".*.old") if _LEFT.fullmatch(path.name))


def carry(left: Path, *, rest: bool = False, again: bool = False) -> Path:
    """Append to the new file what whole lines were appended to the old one since; returns its second name from now on.

    ``rest``: a line without an end too. ``again``: somebody may have done so, and not come to the end: what stands in the new
    file is not appended twice. Raises DurabilityError.
    """
    path, size, inode = _origin(left)
    try:
        if not left.exists() or (path.exists() and path.samefile(left)):
            return left  # It was finished, or not replaced.
        more = left.read_bytes()[size:]
        more = more if rest else more[: more.rfind(b"\n") + 1]
        if not more:
            return left
        lines = more if more.endswith(b"\n") else more + b"\n"
        file = AppendFile(path)
        if not (again and lines in file.read()):
            file.append(lines)
            file.close()
        new = _second(path, size + len(more), inode)
        os.rename(left, new)
    except OSError as error:
        raise DurabilityError(f"{path.name} could not be read: {error.strerror or error}") from error
    return new


def finish(left: Path, *, again: bool = False) -> None:
    """Carry over all the rest, and take the second name away. ``again``: as for ``carry``. Raises DurabilityError."""
    left = carry(left, rest=True, again=again)
    try:
        left.unlink(missing_ok=True)
    except OSError as error:
        raise DurabilityError(f"{left.name} could not be removed: {error.strerror or error}") from error


def _second(path: Path, size: int, inode: int) -> Path:
    # The inode is the file's own as long as this name is there: two old files of one size are two names.
    return path.with_name(f".{path.name}.{size}.{inode}.old")


def _origin(left: Path) -> tuple[Path, int, int]:
    match = _LEFT.fullmatch(left.name)
    if match is None:
        raise DurabilityError(f"{left.name} is no second name of a file that was replaced")
    return left.with_name(match["name"]), int(match["size"]), int(match["inode"])


def _unchanged(path: Path, left: Path, old: bytes) -> Callable[[], bool]:
    # What was only appended is carried over.
    return lambda: path.samefile(left) and left.read_bytes().startswith(old)
