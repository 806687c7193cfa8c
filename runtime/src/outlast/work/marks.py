"""Finding what was started here by its mark, wherever it has gone: two variables of its environment that its children inherit.

Rules kept here: ``OUTLAST_WORK`` is the folder that a program works in, below the node's home; ``OUTLAST_RUN`` tells one run
of one program from every other. Only processes of this very user are looked at, and nothing is killed but by its mark.

Left to others: who marks what (work.runner, work.process), process groups, and when to look.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["RUN", "WORK", "end_leftovers", "group_lives", "is_marked", "kill_marked", "pids"]

WORK, RUN = "OUTLAST_WORK", "OUTLAST_RUN"
_KILL_S = 5.0

if sys.platform == "linux":

    def pids() -> frozenset[int]:
        """Every process that there is."""
        return frozenset(int(name) for name in os.listdir("/proc") if name.isdigit())

    def _marks(pid: int) -> tuple[str, str]:
        """The marks of a process, empty where it has none or is not ours. Raises OSError.

        Read here and not by psutil, which takes five times as long, and a megabyte of memory.
        """
        if os.stat(f"/proc/{pid}").st_uid != os.getuid():
            return "", ""
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as stream:
            data = b"\0" + (stream.readall() or b"")
        return _value(data, WORK), _value(data, RUN)

    def _value(data: bytes, name: str) -> str:
        _, _, rest = data.partition(f"\0{name}=".encode())
        return os.fsdecode(rest.partition(b"\0")[0])

    def group_lives(group: int) -> bool:
        """Is anybody of this process group alive, and not merely waiting to be reaped?"""
        for pid in pids():
            with contextlib.suppress(OSError, IndexError):
                # The name, which comes first, may hold anything.
                words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
                if words[2] == b"%d" % group and words[0] not in (b"Z", b"X"):
                    return True
        return False

else:

    def group_lives(group: int) -> bool:
        """Is anybody of this process group alive? Where launchd reaps, all that are there are."""
        return True

    def pids() -> frozenset[int]:
        """Every process that there is."""
        import psutil

        return frozenset(psutil.pids())

    def _marks(pid: int) -> tuple[str, str]:
        """The marks of a process, empty where it has none or is not ours. Raises OSError."""
        import psutil

        try:
            process = psutil.Process(pid)
            if process.uids().real != os.getuid():
                return "", ""
            environment = process.environ()
        except psutil.Error as error:
            raise ProcessLookupError(str(error)) from error
        return environment.get(WORK, ""), environment.get(RUN, "")


def is_marked(pid: int) -> bool | None:
    """Does a process carry a mark, whosever? None where that cannot be known."""
    try:
        return any(_marks(pid))
    except OSError:
        return None


def kill_marked(is_meant: Callable[[str, str], bool], older: Iterable[int] = ()) -> set[int]:
    """SIGKILL every process of this user whose marks (work, run) are meant, whatever group it moved to; say which.

    ``older`` are not looked at. What has no mark is never asked for.
    """
    killed = set()
    for pid in pids().difference(older, (os.getpid(),)):
        # It may be gone by now, or be somebody else's.
        with contextlib.suppress(OSError):
            work, run = _marks(pid)
            if (work or run) and is_meant(work, run):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
    return killed


def end_leftovers(folder: Path, *, started: bool = False) -> list[int]:
    """Kill what an earlier runtime left running that works below ``folder``; return the process ids, once they are gone.

    Where there is nothing in ``folder``, nothing works there. ``started``: only what was started as a Process (work.process),
    not the agents of tasks.
    """
    try:
        with os.scandir(folder) as entries:
            if next(entries, None) is None:
                return []
    except OSError:
        return []
    below = f"{folder.resolve()}{os.sep}"

    def is_meant(work: str, run: str) -> bool:
        return f"{work}{os.sep}".startswith(below) and (bool(run) or not started)

    killed: set[int] = set()
    deadline = time.monotonic() + _KILL_S
    while (found := kill_marked(is_meant)) and time.monotonic() < deadline:
        killed |= found
        time.sleep(0.01)
    return sorted(killed)
