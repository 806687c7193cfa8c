"""Keeps what a program prints, in a file that never grows beyond its limit, with one older part beside it.

Rules kept here: ``NAME.log`` and ``NAME.1.log`` hold the last of it, together never more than twice the limit; a disk that
takes nothing never stops the program or the node; who removes a file loses what was in it and nothing else.

Left to others: reading the pipes (work.process), and showing it (cli.ps).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from outlast.store.durable import write_all

__all__ = ["Output"]


class Output:
    """What is printed, in ``path`` (``NAME.log``): at most ``limit`` bytes, and as many in the older part, ``NAME.1.log``."""

    def __init__(self, path: Path, limit: int) -> None:
        self.limit = max(limit, 1)
        self._path = path
        self._older = path.with_suffix(f".1{path.suffix}")
        self._fd = -1

    def write(self, data: bytes) -> None:
        """Keep it. What cannot be written is lost: raises nothing."""
        data = data[-self.limit :]
        try:
            known = os.fstat(self._fd) if self._fd >= 0 else None
            if known is None or not known.st_nlink:
                known = self._open()
            if known.st_size and known.st_size + len(data) > self.limit:
                os.replace(self._path, self._older)
                self._open()
            write_all(self._fd, data)
        except OSError:
            self.close()

    def close(self) -> None:
        """Let the file go; the next write opens it again."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def _open(self) -> os.stat_result:
        self.close()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not through a link, and not waiting for whoever may read a FIFO in its place.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o600)
        return os.fstat(self._fd)
