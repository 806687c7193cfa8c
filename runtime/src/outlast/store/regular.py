"""Reading files in folders where agents and people write as well.

Rules kept here: what stands in a file's place and is none is an error, and is never waited for: a FIFO that nobody writes to
would hold whoever opens it for ever.

Left to others: what the content means, and what becomes of what is no file.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

__all__ = ["NotRegularError", "opened", "read"]


class NotRegularError(OSError):
    """It is there, and no regular file."""


def opened(path: Path) -> BufferedReader:
    """Open a file for reading. Raises OSError; NotRegularError for what is none."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotRegularError(errno.EINVAL, "it is no regular file", str(path))
    return open(fd, "rb")


def read(path: Path) -> bytes:
    """All that is in a file. Raises OSError; NotRegularError for what is none."""
    with opened(path) as file:
        return file.read()
