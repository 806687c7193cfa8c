"""Keeps what an agent prints, within bounds.

Rules kept here: memory is bounded whatever is printed; the first and the last of a stream are kept and what lies between
is counted; what is shown of it to a person holds no control characters.

Left to others: reading the pipes (work.runner).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from outlast.core.record import one_line
from outlast.store.durable import write_all

__all__ = ["Capture", "keep_file"]

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_LINE_BYTES = 8192


class Capture:
    """One stream: its first and last bytes, ``limit`` bytes together; twice that is held in memory at most."""

    def __init__(self, limit: int) -> None:
        self._half = max(limit // 2, 1)
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0

    def add(self, data: bytes) -> None:
        """Take in what was read."""
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * self._half:  # not at every chunk: dropping moves memory
            self._trim()

    def kept(self) -> bytes:
        """What is kept, with a note where bytes were dropped."""
        self._trim()
        note = b"\n[... %d bytes dropped ...]\n" % self._dropped if self._dropped else b""
        return bytes(self._head) + note + bytes(self._tail)

    def last_line(self, limit: int) -> str:
        """The last line with anything in it, at most ``limit`` characters, escape sequences and control characters gone."""
        end = (self._head if not self._tail else self._tail)[-_LINE_BYTES:]
        text = _ESCAPES.sub("", end.decode(errors="replace"))
        lines = (one_line(line, limit) for line in reversed(text.splitlines()))
        return next(filter(None, lines), "")

    def _trim(self) -> None:
        excess = max(len(self._tail) - self._half, 0)
        del self._tail[:excess]
        self._dropped += excess


def keep_file(path: Path, data: bytes) -> None:
    """Write a file for people (0600, not durable) in place of what may be there, never through a link. Raises OSError."""
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)
