"""A file that grows by whole lines, which other processes append to, rewrite, or replace at the same time.

Agents and people append with O_APPEND, editors and ``sed -i`` put a new file at the path, git does both. Rules kept here:

* What ``append`` was given is on the disk when it returns, in the file that is at the path then, each line on a line of its
  own; the file's name is on the disk as well.
* A line that somebody else left torn is closed, never removed. Where ours was glued to one it is written again.
* What was written to a file that is no longer at the path is written again into the one that is.
* After a failed write or fsync nothing is believed: the file is let go of, and the next append begins on a fresh line,
  because the bytes before it may be lost.

So a line may stand in the file twice: readers must take the second one for the same. Left to others: what the lines mean,
and putting back what a rewrite took away later (store.journal).
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from outlast.errors import DurabilityError
from outlast.store import durable, regular

__all__ = ["AppendFile"]

_TRIES = 8


class AppendFile:
    """The file at ``path``; made, with ``header`` and ``mode``, when something is appended and it is not there.

    Every method raises DurabilityError.
    """

    def __init__(self, path: Path, header: bytes = b"", mode: int = durable.SHARED_FILE) -> None:
        self.path = path
        # How often a file at the path was opened: a new one may lack what was written before.
        self.opened = 0
        self._header = header
        self._mode = mode
        self._fd = -1
        self._known = (-1, -1)
        # The name of the open file may not be on the disk yet.
        self._named = False
        self._failed = False

    def append(self, data: bytes) -> int:
        """Append whole lines (bytes that end in a line's end), durably. Returns the offset at which they lie."""
        try:
            for attempt in range(_TRIES):
                lead = self._settle()
                # Whoever replaced the file may have read ours before.
                offset = self._find(data) if attempt else -1
                if offset < 0:
                    offset = self._write(lead, data)
                if self._named:
                    durable.fsync_data(self._fd)
                else:
                    durable.fsync_file(self._fd)
                    durable.fsync_dir(self.path.parent)
                    self._named = True
                if self._is_there():
                    return offset
            raise OSError(errno.ESTALE, "it is replaced again and again")
        except OSError as error:
            self.close()
            self._failed = True
            raise DurabilityError(f"{self.path.name} could not be written: {error.strerror or error}") from error

    def holds(self, data: bytes, offset: int) -> bool:
        """Whether the file that was appended to is still at the path, with ``data`` at ``offset``. Cheap."""
        try:
            return self._fd >= 0 and self._is_there() and os.pread(self._fd, len(data), offset) == data
        except OSError as error:
            raise DurabilityError(f"{self.path.name} could not be read: {error.strerror or error}") from error

    def read(self) -> bytes:
        """All that is in the file at the path; nothing where there is none."""
        try:
            return regular.read(self.path)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise DurabilityError(f"{self.path.name} could not be read: {error.strerror or error}") from error

    def close(self) -> None:
        """Let go of the open file. Appending opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _is_there(self) -> bool:
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._known

    def _settle(self) -> bytes:
        """Have the file at the path open. Returns what must be written before a new line."""
        if self._fd >= 0 and self._is_there():
            return b""
        self.close()
        durable.make_dir(self.path.parent, mode=durable.SHARED_FOLDER)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, self._mode)
        self._fd, self._named = fd, False
        self.opened += 1
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file: move it away")
        self._known = (found.st_dev, found.st_ino)
        if not found.st_size:
            return self._header
        torn = self._failed or os.pread(fd, 1, found.st_size - 1) != b"\n"
        return b"\n" if torn else b""

    def _write(self, lead: bytes, data: bytes) -> int:
        for _ in range(_TRIES):
            durable.write_all(self._fd, lead + data)
            # With O_APPEND the position tells where it landed, whoever else appended meanwhile.
            offset = os.lseek(self._fd, 0, os.SEEK_CUR) - len(data)
            before = min(offset, 1)
            if offset >= 0 and os.pread(self._fd, len(data) + before, offset - before) == b"\n"[:before] + data:
                self._failed = False
                return offset
            lead = b"\n"
        raise OSError(errno.EBUSY, "it is written by somebody else all the time")

    def _find(self, data: bytes) -> int:
        content = self.read()
        if content.startswith(data):
            return 0
        found = content.find(b"\n" + data)
        return found + 1 if found >= 0 else -1
