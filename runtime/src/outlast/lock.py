"""The lock of a home: one process at a time touches what is in it.

Rules kept here: the lock dies with its process. Left to others: what is done while it is held.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from outlast.errors import HeldError
from outlast.home import Home
from outlast.store import durable
from outlast.work import ballast

__all__ = ["held"]

_LOOK_S = 0.05


@contextlib.contextmanager
def held(home: Home, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the home's lock; another process may take up to ``wait_s`` seconds to let go of it.

    Raises HeldError that says who holds it, CorruptError, DurabilityError, OSError.
    """
    durable.make_dir(home.lock.parent)
    fd = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + wait_s
        while not _try(fd):
            if time.monotonic() >= deadline:
                raise HeldError("--home", f"another runtime is at work in {home.root}{_who(fd)}", "stop it first")
            time.sleep(_LOOK_S)
        # Whoever takes a home writes into it, and that must work on a full disk as well.
        ballast.first_aid(home)
        if home.restoring.exists():
            # A restore that was cut off: nobody works with half of it.
            from outlast.backup.activation import carry_on

            carry_on(home.root, home.restoring)
        # For people who look for who holds it; the lock itself is what counts.
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _who(fd: int) -> str:
    pid = os.pread(fd, 16, 0).decode(errors="replace").strip()
    return f" (pid {pid})" if pid.isdecimal() else ""
