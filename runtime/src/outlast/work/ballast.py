"""The ballast: room on the disk that is set by only to be given up when there is none left (spec.md, F6).

Rules kept here: giving it up needs no room; making it takes real blocks where the file system can promise them, is whole
or not there, and never takes the last room.

Left to others: when (core.cleaning), and what is done with the room (work.cleaning).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from outlast.errors import DurabilityError
from outlast.home import Home
from outlast.store import durable

__all__ = ["first_aid", "give_up", "set_by", "taken"]

# A start needs a few hundred KiB: the ledger's shared memory, a record, what was loaded.
_BREATH = 1 << 20
_PIECE = 1 << 20


def taken(home: Home) -> int:
    """How many bytes are set by; 0 where there is no ballast."""
    try:
        info = os.lstat(home.ballast)
    except OSError:
        return 0
    return info.st_blocks * 512 or info.st_size


def give_up(home: Home) -> int:
    """Free the room; return how many bytes were set by. Raises DurabilityError."""
    size = taken(home)
    try:
        home.ballast.unlink(missing_ok=True)
    except OSError as error:
        raise DurabilityError(f"the ballast could not be given up: {error.strerror or error}") from error
    return size


def first_aid(home: Home) -> int:
    """Free the room where a start or a command would find none at all; return how many bytes that gave. Never fails."""
    with contextlib.suppress(OSError, DurabilityError):
        disk = os.statvfs(home.root)
        if disk.f_bavail * disk.f_frsize < _BREATH and home.ballast.exists():
            return give_up(home)
    return 0


def set_by(home: Home, size: int) -> None:
    """Take ``size`` bytes of the disk. Raises OSError, and then nothing is taken."""
    half = home.ballast.with_name(f".{home.ballast.name}.{'0' * 8}.tmp")
    try:
        half.unlink(missing_ok=True)
        fd = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _fill(fd, size)
            durable.fsync_file(fd)
        finally:
            os.close(fd)
        os.rename(half, home.ballast)
        durable.fsync_dir(home.ballast.parent)
    except OSError:
        _forget(half)
        raise


def _fill(fd: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
        return
    # A Mac has no such call; what is written there takes its blocks.
    piece = bytes(_PIECE)
    for begin in range(0, size, _PIECE):
        durable.write_all(fd, piece[: size - begin])


def _forget(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
