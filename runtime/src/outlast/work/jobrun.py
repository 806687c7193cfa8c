"""Runs a job's program once, and says how it ended.

Rules kept here: it ends in bounded time, whatever it does: after its time-out its whole process group is ended, and so is what
it leaves behind when it exits; only an exit code of 0 is no failure.

Left to others: when, and what is kept of it (work.jobs); how programs are started and ended (work.process).
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from pathlib import Path

from outlast.clock import Clock, iso
from outlast.errors import AgentError
from outlast.home import Home
from outlast.quantity import duration, size
from outlast.settings import Job
from outlast.store import durable
from outlast.work.capture import Capture
from outlast.work.process import Guard, Output, Process, Program

__all__ = ["Outcome", "run_job"]

_SAID_CHARS = 200
_SAID_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """``code``: exit code, negative for a signal; ``wrong``: why it is a failure; ``said``: the last line of one that failed.

    What one that did its work printed is in its log, and nowhere else.
    """

    code: int
    wrong: str
    said: str


class _Said(Output):
    """What a job prints, of which the last line is kept at hand."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path, limit)
        self._recent = Capture(_SAID_BYTES)

    def write(self, data: bytes) -> None:
        """Keep it."""
        self._recent.add(data)
        super().write(data)

    def last_line(self) -> str:
        """The last line with anything in it."""
        return self._recent.last_line(_SAID_CHARS)


async def run_job(name: str, settings: Job, home: Home, guard: Guard, clock: Clock) -> Outcome:
    """Run the program to its end. Cancelling ends it first. Raises AgentError where it cannot be started."""
    environment = {"OUTLAST_JOB": name, **settings.environment}
    program = Program(name, settings.command, home.workspace / settings.directory, environment)
    output = _Said(home.outputs / f"{name}.log", size(settings.log_limit))
    try:
        try:
            program.directory.mkdir(mode=durable.SHARED_FOLDER, parents=True, exist_ok=True)
        except OSError as error:
            wrong = f"its folder {settings.directory} cannot be made: {error.strerror}"
            raise AgentError(f"{wrong}; correct jobs.{name}.directory") from error
        # For who reads its output, between what one run printed and the next.
        Output.write(output, f"[outlast {iso(clock.time())}] {name} begins\n".encode())
        process = await Process.start(program, output, guard)
        hung = False
        try:
            async with asyncio.timeout(duration(settings.timeout)):
                await process.wait()
        except TimeoutError:
            hung = True
        finally:
            code = await process.end()
        if hung:
            mend = f"mend it, or raise jobs.{name}.timeout"
            return Outcome(code, f"hung: not done after {settings.timeout}, so it was ended; {mend}", "")
        return Outcome(code, _wrong(code), output.last_line() if code else "")
    finally:
        output.close()


def _wrong(code: int) -> str:
    """Why an exit code is a failure; empty where it is none."""
    if code == 0:
        return ""
    if code > 0:
        return f"exit {code}"
    number = -code
    named = signal.Signals(number).name if number in set(signal.Signals) else "signal"
    hint = "; the kernel does that when memory runs out" if number == signal.SIGKILL else ""
    return f"killed by {named} ({number}){hint}"
