"""Replace a small file so that a reader, or a power cut, sees either the old one or the new one.

Keeps: the new file has its mode from the first moment; the directory entry is on the disk before this returns.
"""

from __future__ import annotations

import contextlib
import os


def replace(path: str, content: bytes, mode: int = 0o600, owner: tuple[int, int] = (-1, -1)) -> None:
    """Write content beside path and rename it over path; raises OSError and leaves no temporary file behind.

    owner is user and group by number, -1 for who runs this.
    """
    temporary = f"{path}.new.{os.getpid()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path))


def switch_link(path: str, target: str) -> None:
    """Point the symbolic link at path to target in one step; raises OSError."""
    temporary = f"{path}.new.{os.getpid()}"
    os.symlink(target, temporary)
    os.rename(temporary, path)
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Bring a directory's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
