"""Starts a program, and ends it with all that it started: services, jobs and sub-agents alike.

Rules kept here:

* A program runs in a session and process group of its own, marked (work.marks), with its output captured; it inherits no
  environment but a few harmless variables and what the operator configured.
* ``wait`` returns as soon as its leader is gone, whoever holds its pipes; the rest of its group has been killed by then, and
  who left the group is killed a moment later.
* ``stop`` and ``end`` ask first (the stop signal, to the whole group, also where it hangs by SIGSTOP), wait for the grace, and
  then insist; all that descended from it when it was asked goes with it (work.descent).
* One that prints more than its output's limit in a second waits: it cannot make the node busy.

Left to others: what happens when the runtime itself is killed (work.guard), and whether a program is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from outlast.errors import AgentError
from outlast.work import descent
from outlast.work.guard import Guard
from outlast.work.marks import RUN, WORK, group_lives
from outlast.work.output import Output

__all__ = ["Guard", "Output", "Process", "Program", "find", "in_words", "surroundings", "within"]

_INHERITED = ("PATH", "HOME", "LANG", "TZ")
_KILL_S = 5.0
# Killed already: one with gigabytes takes a moment to go.
_VANISH_S, _SEEN_S = 2.0, 0.002
_CHUNK = 64 << 10


@dataclass(frozen=True, slots=True)
class Program:
    """What is started. ``directory`` is where it works, ``grace_s`` (seconds) how long it may take to stop."""

    name: str
    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    stop_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 10.0


class Process:
    """One running program, and its whole process group."""

    def __init__(self, program: Program, started: subprocess.Popen[bytes], run: str, guard: Guard) -> None:
        """Use ``start``."""
        self.name = program.name
        self.pid = started.pid
        self.since = time.time()
        self.run = run
        self.code: int | None = None
        self._program = program
        self._started = started
        self._guard = guard
        self._gone = asyncio.Event()
        self._ending: asyncio.Task[int] | None = None
        self._told: Callable[[], None] | None = None
        self._output: Output | None = None
        self._pipe = -1
        self._family: dict[int, float] = {}
        self._second, self._read_in_it = 0.0, 0

    @classmethod
    async def start(
        cls,
        program: Program,
        output: Output | None,
        guard: Guard,
        wrapper: Sequence[str] = (),
        *,
        told: Callable[[], None] | None = None,
    ) -> Process:
        """Start ``program``, behind the words of ``wrapper``; ``told()`` is called when its leader is gone.

        Raises AgentError, whose text names the command and the mend.
        """
        run = guard.mark()
        environment = {**surroundings(program.environment), WORK: str(program.directory), RUN: run}
        command = [*wrapper, find(program.command, environment["PATH"]), *program.command[1:]]
        reading, writing = os.pipe() if output else (-1, -1)
        try:
            guard.prepare()
            started = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writing if output else subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
                cwd=program.directory,
                env=environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            if reading >= 0:
                os.close(reading)
            raise AgentError(f"the command {command[0]} could not be started: {in_words(error)}") from error
        finally:
            if writing >= 0:
                os.close(writing)
        process = cls(program, started, run, guard)
        process._told = told
        if output is not None:
            process._capture(reading, output)
        guard.add(process)
        return process

    async def wait(self) -> int:
        """Wait for the leader's end: its exit code, negative for a signal."""
        await self._gone.wait()
        return self._exit_code()

    async def stop(self) -> int:
        """End its group: ask, wait for the grace, insist. Returns the exit code as ``wait`` does, once the group is gone.

        Whoever is cancelled while it waits for this cuts nothing short: it goes on.
        """
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())
        return await asyncio.shield(self._ending)

    async def end(self) -> int:
        """The same, and wait until those are gone as well who left the group."""
        code = await self.stop()
        await self._guard.swept()
        return code

    def look(self) -> bool:
        """Is the leader gone? Then the rest of its group is being killed. For the guard."""
        if self.code is not None:
            return True
        self.code = self._started.poll()
        if self.code is None:
            return False
        self._signal(signal.SIGKILL)
        self._drain()
        self._gone.set()
        if self._told is not None:
            self._told()
        return True

    async def _end(self) -> int:
        try:
            if self.code is None:
                self._family = descent.descendants(self.pid)
                self._signal(self._program.stop_signal)
                # One that is stopped would not hear of it.
                self._signal(signal.SIGCONT)
                await within(self._program.grace_s, self._gone)
        finally:  # an event loop that ends cuts the grace short, not the end
            if self.code is None:
                self._family |= descent.descendants(self.pid)
                self._signal(signal.SIGKILL)
        await within(_KILL_S, self._gone)
        # Who left the group, and whatever its environment says.
        descent.kill(self._family)
        await self.vanished()
        return self._exit_code()

    async def vanished(self) -> None:
        """Once the leader is gone: wait until its group is as well, and what it held (a port) is free; some seconds at most."""
        deadline = time.monotonic() + _VANISH_S
        pause = 0.001
        with contextlib.suppress(ProcessLookupError, PermissionError):
            while time.monotonic() < deadline:
                os.killpg(self.pid, 0)
                # The dead count as well, until they are reaped, which not every init does.
                if pause > _SEEN_S and not await asyncio.to_thread(group_lives, self.pid):
                    return
                await asyncio.sleep(pause)
                pause *= 2

    def _exit_code(self) -> int:
        # What does not end by SIGKILL waits for its disk for ever.
        return -signal.SIGKILL if self.code is None else self.code

    def _signal(self, number: signal.Signals) -> None:
        """Signal the whole process group, which outlives its leader."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _capture(self, pipe: int, output: Output) -> None:
        os.set_blocking(pipe, False)
        self._pipe, self._output = pipe, output
        asyncio.get_running_loop().add_reader(pipe, self._read)

    def _read(self) -> None:
        """Take in some of what it printed."""
        if self._pipe < 0 or self._output is None:
            return
        try:
            data = os.read(self._pipe, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        self._output.write(data)
        loop = asyncio.get_running_loop()
        if (now := loop.time()) - self._second > 1.0:
            self._second, self._read_in_it = now, 0
        self._read_in_it += len(data)
        if self._read_in_it > max(self._output.limit, _CHUNK):
            loop.remove_reader(self._pipe)
            loop.call_at(self._second + 1.0, self._read_on)

    def _read_on(self) -> None:
        if self._pipe >= 0:
            asyncio.get_running_loop().add_reader(self._pipe, self._read)

    def _drain(self) -> None:
        """What is in the pipe when the leader is gone is the last of it: who else holds the pipe is being killed."""
        with contextlib.suppress(OSError):
            left = os.read(self._pipe, 1 << 20) if self._output is not None and self._pipe >= 0 else b""
            if left and self._output is not None:
                self._output.write(left)
        self._close()

    def _close(self) -> None:
        if self._pipe >= 0:
            asyncio.get_running_loop().remove_reader(self._pipe)
            os.close(self._pipe)
            self._pipe = -1


def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment that programs of ours get: a few harmless variables of the runtime's, and what was configured."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **inherited, **environment}


def find(command: Sequence[str], path: str, what: str = "command", mend: str = "correct it in the inventory") -> str:
    """The program that ``command`` names, as an absolute path; ``path`` is where it is looked for. Raises AgentError."""
    name = command[0] if command else ""
    places = [name] if "/" in name else [os.path.join(place, name) for place in path.split(os.pathsep)]
    files = [place for place in places if name and os.path.isabs(place) and os.path.isfile(place)]
    for place in files:
        if os.access(place, os.X_OK):
            return place
    if files:
        raise AgentError(f"the {what} {files[0]} is not executable; chmod +x it")
    where = "does not exist" if os.path.isabs(name) else "is not on the PATH"
    raise AgentError(f"the {what} {name or '(empty)'} {where}; {mend}")


def in_words(error: Exception) -> str:
    """Why a program that was found could not be started."""
    if isinstance(error, FileNotFoundError):
        return "the interpreter in its first line, or the folder it works in, does not exist"
    if isinstance(error, OSError) and error.errno == errno.ENOEXEC:
        return "it is neither a program for this machine nor does it begin with #! and an interpreter"
    return (isinstance(error, OSError) and error.strerror) or str(error)


async def within(seconds: float, event: asyncio.Event) -> bool:
    """Wait for an event, ``seconds`` at most; return whether it came.

    Not by asyncio.timeout: while a task is being cancelled, that of Python 3.11.2 (Debian 12) cancels instead of ending.
    """
    waiter = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({waiter}, timeout=seconds)
    finally:
        waiter.cancel()
    return event.is_set()
