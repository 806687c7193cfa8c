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
import os
import re
import secrets
import sys
from pathlib import Path

from outlast.errors import DurabilityError

__all__ = [
    "SHARED_FILE",
    "SHARED_FOLDER",
    "fsync_dir",
    "fsync_file",
    "make_dir",
    "move",
    "replace",
    "set_aside",
    "sweep",
    "write_all",
]

# For what agents write. Where a folder has a default access list, the group bits of what is made in it become the list's mask
# and the umask is not looked at: with 0600 its readers would see nothing. Elsewhere the umask (077) takes these bits away.
SHARED_FILE, SHARED_FOLDER = 0o640, 0o750

_HALF = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")

if sys.platform == "darwin":
    import fcntl

    def fsync_file(fd: int) -> None:
        """Bring what was written to ``fd`` to the disk. Raises OSError."""
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)

else:

    def fsync_file(fd: int) -> None:
        """Bring what was written to ``fd`` to the disk. Raises OSError."""
        os.fsync(fd)


def fsync_dir(path: Path | str) -> None:
    """Bring the entries of a directory (its names, not its files' content) to the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte of ``data``, however many calls it takes. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def replace(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace the file at ``path`` by ``data`` (bytes), durably and at once. Raises DurabilityError; the old file stays."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            write_all(fd, data)
            fsync_file(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
        fsync_dir(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise DurabilityError(f"{path.name} could not be written: {error.strerror or error}") from error


def sweep(folder: Path) -> None:
    """Remove what ``replace`` left half-written in ``folder`` when its process was killed. Raises OSError."""
    for path in folder.glob(".*.tmp"):
        if _HALF.fullmatch(path.name):
            path.unlink(missing_ok=True)


def make_dir(path: Path, *, mode: int = 0o700) -> None:
    """Make the directory ``path``, and its name durable. One that is there already is fine. Raises DurabilityError."""
    try:
        if not path.is_dir():
            path.mkdir(mode=mode, parents=True, exist_ok=True)
            fsync_dir(path.parent)
    except OSError as error:
        raise DurabilityError(f"{path.name}/ could not be made: {error.strerror or error}") from error


def move(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target`` on the same file system, durably. Raises DurabilityError."""
    try:
        os.rename(source, target)
        fsync_dir(target.parent)
        if source.parent != target.parent:
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
