"""Sees to it that no program outlives the runtime, or its own leader: the one who knows of every process that was started.

Rules kept here:

* Each end of a process is noticed at once (SIGCHLD), whatever else waits for others of ours; what is left of its group has
  been killed by then, and whoever left the group is killed by the mark, or as an orphan (work.descent).
* A shell of some hundred kilobytes knows every group; when the runtime is gone, however it went, it kills them all, and all
  that carries a mark of that runtime. A guard that is killed itself is started anew.
* A node that starts nothing has no guard.

Left to others: starting and ending (work.process); what an earlier runtime and its guard left (work.marks.end_leftovers).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import time
from typing import Protocol
from weakref import WeakSet

from outlast.work.descent import Orphans
from outlast.work.marks import RUN, kill_marked

__all__ = ["Guard", "Guarded"]

_KILL_S = 5.0
_APART_S = 1.0
_SOON_S = 0.01
# The token is no argument: where there is no /proc, arguments and environment are looked for in the same place.
_SHELL = f"""\
trap '' HUP INT QUIT TERM
read -r token
groups=' '
while read -r word; do
    id=${{word#?}}
    case $word in
    +*) groups="$groups$id " ;;
    -*) case $groups in *" $id "*) groups="${{groups%%" $id "*}} ${{groups#*" $id "}}" ;; esac ;;
    esac
done
for id in $groups; do kill -s KILL -- "-$id"; done
[ "$token" ] || exit
# Twice at least: a program that was just being started had its mark not yet.
for round in 1 2 3 4 5 6 7 8 9 10; do
    found=
    if [ -r /proc/self/environ ]; then
        for file in $(grep -als "{RUN}=$token" /proc/[0-9]*/environ); do
            pid=${{file#/proc/}} found=yes
            kill -s KILL "${{pid%/environ}}"
        done
    else
        while read -r pid rest; do
            case $rest in *"{RUN}=$token"*) found=yes; kill -s KILL "$pid" ;; esac
        done <<END
$(ps -axwwE -o pid=,command=)
END
    fi
    [ "$round" = 1 ] || [ "$found" ] || break
    sleep 0.1
done
"""


class Guarded(Protocol):
    """A process, as its guard sees it."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def pid(self) -> int:
        """The process id, and that of its group."""

    @property
    def since(self) -> float:
        """When it was started, in seconds since 1970."""

    @property
    def run(self) -> str:
        """Its mark."""

    def look(self) -> bool:
        """Is its leader gone? Then the rest of its group is being killed as well."""


# Of every event loop of this process, for there is one SIGCHLD.
_GUARDS: WeakSet[Guard] = WeakSet()


def _child_ended() -> None:
    for guard in list(_GUARDS):
        guard.look()


class Guard:
    """What runs now, and what ends it should we be ended."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(8)
        self._count = 0
        self._guarded: dict[int, Guarded] = {}
        self._shell: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._strays: set[str] = set()
        self._sweeping: asyncio.Task[None] | None = None
        self._orphans = Orphans()
        self._again: asyncio.TimerHandle | None = None
        _GUARDS.add(self)

    @property
    def running(self) -> list[Guarded]:
        """What runs now, oldest first."""
        return list(self._guarded.values())

    def mark(self) -> str:
        """A mark for one more run."""
        self._count += 1
        return f"{self._token}.{self._count}"

    def prepare(self) -> None:
        """Be there before anything is started. Raises OSError."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, _child_ended)
        self._orphans.adopt()
        if self._shell is None:
            self._begin()

    def add(self, process: Guarded) -> None:
        """Look after one more process, which was just started."""
        self._guarded[process.pid] = process
        self._tell(f"+{process.pid}\n")

    def look(self) -> None:
        """Let go of who is gone, and have its strays killed; be there again where the shell is gone."""
        for process in self.running:
            if process.look():
                del self._guarded[process.pid]
                self._tell(f"-{process.pid}\n")
                self._strays.add(process.run)
        if self._strays and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = asyncio.get_running_loop().create_task(self._kill_strays())
        if self._shell is not None and self._shell.poll() is not None:
            self._begin_again()
        shell = {self._shell.pid} if self._shell else set()
        if (wait := self._orphans.reap({*self._guarded, *shell})) and self._again is None:
            self._again = asyncio.get_running_loop().call_later(wait, self._look_again)

    def _look_again(self) -> None:
        self._again = None
        self.look()

    async def swept(self) -> None:
        """Wait until no stray is left of those that are gone."""
        while self._sweeping is not None and not self._sweeping.done():
            await asyncio.wait({self._sweeping})

    async def _kill_strays(self) -> None:
        """One look at all processes for as many runs as are over by then: two hundred that end together cost two looks."""
        while self._strays:
            # What is started in the place of what ended goes first, and others may end meanwhile.
            await asyncio.sleep(_SOON_S)
            runs, self._strays = frozenset(self._strays), set()
            deadline = time.monotonic() + _KILL_S
            while (await asyncio.to_thread(_kill_runs, runs) or self._end_orphans()) and time.monotonic() < deadline:
                await asyncio.sleep(0.01)

    def _end_orphans(self) -> bool:
        shell = {self._shell.pid} if self._shell else set()
        return self._orphans.end(self._guarded, shell)

    def _begin(self) -> None:
        """Start the shell, and tell it of all that runs. Raises OSError."""
        self._began = time.monotonic()
        shell = subprocess.Popen(
            ["/bin/sh", "-c", _SHELL, "outlast-guard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            # Who ends the runtime's group or session must not end it with them.
            start_new_session=True,
        )
        assert shell.stdin is not None
        os.set_blocking(shell.stdin.fileno(), False)
        self._shell = shell
        self._tell("".join([f"{self._token}\n", *(f"+{pid}\n" for pid in self._guarded)]))

    def _begin_again(self) -> None:
        """Once a second at most: where one ends at once, so will the next."""
        wait = self._began + _APART_S - time.monotonic()
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self.look)
            return
        # Where there is no room for a process now, there may be when the next one ends.
        with contextlib.suppress(OSError):
            self._begin()

    def _tell(self, words: str) -> None:
        assert self._shell is not None and self._shell.stdin is not None
        try:
            os.write(self._shell.stdin.fileno(), words.encode())
        except BrokenPipeError:
            # It is gone; the next is told of all that runs then.
            return
        except BlockingIOError:
            # It does not read, so it would not kill either.
            self._shell.kill()


def _kill_runs(runs: frozenset[str]) -> set[int]:
    return kill_marked(lambda _, run: run in runs)
