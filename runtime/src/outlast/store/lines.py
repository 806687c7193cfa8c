"""Files of lines that grow, for what is good to know and not worth a wait for the disk: events, metrics, spans.

Rules kept here: whoever reads finds whole lines: what a full disk cut off is taken back, and where a crash left half a line
the next begins on one of its own; a file stays below its limit; a file that cannot be written stops nobody.

Left to others: what a line holds; what must not be lost (store.appendfile); what becomes of old files (core.retention).
"""

from __future__ import annotations

import os
import stat
from datetime import datetime
from pathlib import Path

from outlast.store import durable

__all__ = ["append", "day_of"]


def day_of(seconds: float) -> str:
    """Which day that is on this machine (``2026-11-21``), of seconds since 1970."""
    return datetime.fromtimestamp(seconds).astimezone().date().isoformat()


def append(path: Path, lines: bytes, limit: int | None = None) -> bool:
    """Add whole lines to a file, all or none, and none where it would hold more than ``limit`` bytes. Are they there?"""
    try:
        # Without waiting: a FIFO in its place would hold us for ever.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC, durable.SHARED_FILE)
        try:
            found = os.fstat(fd)
            size = found.st_size
            if not stat.S_ISREG(found.st_mode):
                return False
            if limit is not None and size + len(lines) > limit:
                return False
            if size and os.pread(fd, 1, size - 1) != b"\n":
                lines = b"\n" + lines
            written = os.write(fd, lines)
            if written < len(lines) and os.fstat(fd).st_size == size + written:
                os.ftruncate(fd, size)
            return written == len(lines)
        finally:
            os.close(fd)
    except OSError:
        return False
