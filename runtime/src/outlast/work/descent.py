"""Finding what was started here by descent: who cleared its environment carries no mark, and who left its group is in none.

Rules kept here:

* What descends from a program is known while the program lives; it is killed with it, by process id and moment of birth.
* On Linux the runtime adopts whoever loses its parent (a subreaper). Such an orphan carries no word of whom it belongs to. It
  is killed once every program that runs was started after it: it can belong to none of them then. One that may belong to a
  program that runs is left alone.
* Who was adopted and is dead is reaped, and nobody else's child: what the runtime starts and waits for by itself is in the
  runtime's own session, or is guarded, or its starter says so here (``starting``, ``led``).

Left to others: marks (work.marks), groups (work.process), and when to look (work.guard). Where there is no /proc with
``children`` there are no orphans of ours; descent is found by psutil there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from outlast.work.marks import is_marked

__all__ = ["Orphans", "descendants", "kill", "led", "left", "may_adopt", "starting"]

_PR_SET_CHILD_SUBREAPER = 36
_SOON_S = 0.1
_allowed = False
_starting = 0
_led: set[int] = set()


def may_adopt() -> None:
    """This process is a runtime and nothing else: who loses its parent below it may become its child."""
    global _allowed
    _allowed = True


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Meanwhile one is started who leads a session of its own, without a guard: ``led`` when its process id is known."""
    global _starting
    _starting += 1
    try:
        yield
    finally:
        _starting -= 1


def led(pid: int) -> None:
    """It leads a session of its own, and its starter waits for it: it is no orphan, whatever its environment says."""
    _led.add(pid)


def left(pid: int) -> None:
    """Its starter has waited for it."""
    _led.discard(pid)


class _Kin(NamedTuple):
    """A process. ``born``: in ticks since the machine started."""

    pid: int
    dead: bool
    session: int
    born: float


if sys.platform == "linux":

    def _children(pid: int) -> list[int]:
        found = []
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(OSError):
                    found += Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split()
        return [int(child) for child in found]

    def _kin(pid: int) -> _Kin | None:
        try:
            # The name, which comes first, may hold anything.
            words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            return _Kin(pid, words[0] in (b"Z", b"X"), int(words[3]), float(words[19]))
        except (OSError, IndexError, ValueError):
            return None

    def descendants(pid: int) -> dict[int, float]:
        """Who descends from a process that lives: process ids, and when each was born."""
        found: dict[int, float] = {}
        left = _children(pid)
        while left:
            if (kin := _kin(left.pop())) and kin.pid not in found:
                found[kin.pid] = kin.born
                left += _children(kin.pid)
        return found

    def _born(pid: int) -> float | None:
        kin = _kin(pid)
        return kin.born if kin else None

    def _become_subreaper() -> bool:
        if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
            return False
        # Where no memory may be made executable, some versions of it cannot be imported.
        with contextlib.suppress(Exception):
            import ctypes

            return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
        return False

else:

    def _children(pid: int) -> list[int]:
        return []

    def _kin(pid: int) -> _Kin | None:
        return None

    def descendants(pid: int) -> dict[int, float]:
        """Who descends from a process that lives: process ids, and when each was born."""
        import psutil

        with contextlib.suppress(psutil.Error):
            return {one.pid: one.create_time() for one in psutil.Process(pid).children(recursive=True)}
        return {}

    def _born(pid: int) -> float | None:
        import psutil

        with contextlib.suppress(psutil.Error):
            return psutil.Process(pid).create_time()
        return None

    def _become_subreaper() -> bool:
        return False


def kill(found: dict[int, float]) -> None:
    """SIGKILL those that are still the same."""
    for pid, born in found.items():
        if _born(pid) == born:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


class Orphans:
    """Those whom this process adopted. All of it on the event loop's thread: what that starts is never seen half-started."""

    def __init__(self) -> None:
        self._adopting: bool | None = None

    def adopt(self) -> None:
        """From now on, where that is allowed and can be done."""
        if self._adopting is None:
            self._adopting = _allowed and _become_subreaper()

    def end(self, guarded: Collection[int], others: Collection[int]) -> bool:
        """SIGKILL those that can belong to no program that runs; whether there were any.

        ``guarded`` are the leaders of the programs that run, ``others`` children of ours that are no program.
        """
        if not self._adopting or _starting:
            return False
        leaders = _led.union(guarded)
        oldest, orphans = float("inf"), []
        for kin in self._apart():
            if kin.dead or kin.pid in others:
                continue
            if kin.pid in leaders or is_marked(kin.pid) is not False:
                oldest = min(oldest, kin.born)
            elif kin.session not in leaders:
                orphans.append(kin)
        killed = False
        for kin in orphans:
            if kin.born < oldest:
                with contextlib.suppress(OSError):
                    os.kill(kin.pid, signal.SIGKILL)
                    killed = True
        return killed

    def reap(self, known: Collection[int]) -> float | None:
        """Reap those that are dead, but for ``known``; seconds after which to look again, None where that need not be."""
        if not self._adopting:
            return None
        if _starting:
            return _SOON_S
        for kin in self._apart():
            if kin.dead and kin.pid not in known and kin.pid not in _led:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(kin.pid, os.WNOHANG)
        return None

    def _apart(self) -> list[_Kin]:
        """Our children in sessions other than ours."""
        session = os.getsid(0)
        found = (_kin(pid) for pid in _children(os.getpid()))
        return [kin for kin in found if kin is not None and kin.session != session]
