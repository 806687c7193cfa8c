"""Writing so that it is still there after a power cut.

Rules kept here (facts.md, "Durability"):

* A file is replaced by temporary file in the same directory, write, fsync, rename, fsync of the directory; a reader sees
  the old content or the new one, never a mixture.
* On macOS fsync leaves data in the drive's cache, so F_FULLFSYNC is used instead.
* A failed write or fsync is never retried as if the data were still there: it raises, and the caller starts again from
  what it reads back.
* What is made is its owner's alone (0600, 0700), but for what a folder's access list lets readers see (`SHARED_FILE`).

Left to others: what is written, who may write at the same time, and access lists (Ansible).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from outlast.errors import DurabilityError

__all__ = [
    "SHARED_FILE",
    "SHARED_FOLDER",
    "fsync_data",
    "fsync_dir",
    "fsync_file",
    "is_disks",
    "make_dir",
    "move",
    "moved",
    "replace",
    "set_aside",
    "settle",
    "sweep",
    "write_all",
]

# For what agents write. Where a folder has a default access list, the group bits of what is made in it become the list's mask
# and the umask is not looked at: with 0600 its readers would see nothing. Elsewhere the umask (077) takes these bits away.
SHARED_FILE, SHARED_FOLDER = 0o640, 0o750

_DISKS = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_HALF = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")

if sys.platform == "darwin":
    import fcntl

    def fsync_file(fd: int) -> None:
        """Bring what was written to ``fd`` to the disk. Raises OSError."""
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)

    fsync_data = fsync_file

else:

    def fsync_file(fd: int) -> None:
        """Bring what was written to ``fd`` to the disk. Raises OSError."""
        os.fsync(fd)

    def fsync_data(fd: int) -> None:
        """Bring content and length of ``fd`` to the disk, not its times: enough for a file that grows. Raises OSError."""
        os.fdatasync(fd)


def is_disks(error: OSError) -> bool:
    """Is this the disk's fault (broken, full, read-only), and not that of who was asked to write or read there?"""
    return error.errno in _DISKS


def fsync_dir(path: Path | str) -> None:
    """Bring the entries of a directory (its names, not its files' content) to the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def settle(path: Path) -> None:
    """Bring a file that is read to the disk: its writer may have been killed before that. Raises OSError.

    Its name as well is left to the next who writes to its folder.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fsync_file(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte of ``data``, however many calls it takes. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def replace(path: Path, data: bytes, *, mode: int = 0o600, still: Callable[[], bool] = lambda: True) -> bool:
    """Replace the file at ``path`` by ``data`` (bytes), durably and at once. Raises DurabilityError; the old file stays.

    ``still`` is asked right before the rename: where it says no, somebody else wrote, nothing is replaced, and False is
    returned.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            write_all(fd, data)
            fsync_file(fd)
        finally:
            os.close(fd)
        if not still():
            os.unlink(temporary)
            return False
        os.rename(temporary, path)
        fsync_dir(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise DurabilityError(f"{path.name} could not be written: {error.strerror or error}") from error
    return True


def sweep(folder: Path) -> list[str]:
    """Remove what ``replace`` left half-written in ``folder`` when its process was killed; says which. Raises OSError."""
    # It makes files alone: a folder of such a name is somebody else's.
    names = sorted(path.name for path in folder.glob(".*.tmp") if _HALF.fullmatch(path.name) and not path.is_dir())
    for name in names:
        (folder / name).unlink(missing_ok=True)
    return names


def make_dir(path: Path, *, mode: int = 0o700) -> None:
    """Make the directory ``path`` and those above it, and their names durable. Those that are there are fine.

    Raises DurabilityError.
    """
    try:
        there = path.is_dir()
        if not there:
            make_dir(path.parent, mode=mode)
            path.mkdir(mode=mode, exist_ok=True)
        # Where it is there as well: whoever made it may have been killed before this. What we may not read we did not make.
        with contextlib.suppress(*[PermissionError] * there):
            fsync_dir(path.parent)
    except OSError as error:
        raise DurabilityError(f"{path.name}/ could not be made: {error.strerror or error}") from error


def move(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target`` on the same file system, durably. Raises DurabilityError."""
    try:
        os.rename(source, target)
    except OSError as error:
        raise DurabilityError(f"{source.name} could not be moved: {error.strerror or error}") from error
    moved(source, target)


def moved(source: Path, target: Path) -> None:
    """Bring a move that was made to the disk, also where that failed before. Raises DurabilityError."""
    try:
        fsync_dir(target.parent)
        if source.parent != target.parent:
            with contextlib.suppress(FileNotFoundError):  # nobody has a name in a folder that is gone
                fsync_dir(source.parent)
    except OSError as error:
        raise DurabilityError(f"{source.name} could not be moved: {error.strerror or error}") from error


def set_aside(path: Path, trash: Path, stamp: str) -> Path:
    """Move a file or folder into ``trash`` under a name that is new there; ``stamp`` (a time) leads it.

    Returns where it is now. Raises DurabilityError.
    """
    make_dir(trash)
    target = trash / f"{stamp}-{secrets.token_hex(2)}-{path.name}"
    move(path, target)
    return target
