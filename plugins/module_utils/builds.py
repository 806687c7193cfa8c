"""What building a release on a node has in common, whatever is built.

Keeps: standard library only; one build at a time in a folder of releases (an interrupted playbook may leave its build
running); what goes wrong is one line. Leaves to others: what is built (plugins/modules/release.py, openclaw_release.py).
"""

from __future__ import annotations

import fcntl
import os
import time

LOCK_PATIENCE_S = 600
_UNREACHABLE = ("NewConnectionError", "Temporary failure in name resolution", "Max retries exceeded", "Read timed out")


class BuildError(Exception):
    """A release cannot be built. Holds field, wrong and mend."""

    def __init__(self, field: str, wrong: str, mend: str) -> None:
        super().__init__(f"{field}: {wrong}; mend: {mend}")


def linked(link: str) -> str:
    """The name of the release that a link points to; empty where there is none."""
    return os.path.basename(os.readlink(link)) if os.path.islink(link) else ""


def unreachable(output: str) -> bool:
    """Whether pip says that it reaches nobody."""
    return any(sign in output for sign in _UNREACHABLE)


def disk_full(home: str) -> BuildError:
    """The one line for a full disk."""
    return BuildError("disk", f"full at {home}", "make room there and run the same command again")


def lock(folder: str) -> int:
    """Wait until no other build runs in this folder of releases; raises BuildError."""
    descriptor = os.open(os.path.join(folder, ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                wrong = f"another build in {folder} has not ended in {LOCK_PATIENCE_S} s"
                raise BuildError("release", wrong, "end it, then run the same command again") from None
            time.sleep(0.2)
