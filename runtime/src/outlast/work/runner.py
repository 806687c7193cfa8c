"""Runs the operator's agent on one task, and judges what it left.

Rules kept here:

* Whatever the agent does (is missing, hangs, ignores signals, prints without end, leaves links or children behind), the
  outcome is a verdict with a reason for a person, in bounded time and bounded memory. Nothing of it outlives the run.
* "in doubt" is said only where the agent says so itself, by its exit code.
* "done" is said only of an exit code 0 and of regular files within the limits that are on the disk, fsynced and hashed.
* The agent inherits no environment but a few harmless variables and what the operator configured.

Left to others: which directory, where the artifact goes from here, the journal, and whether a unit is run again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from outlast.core.record import one_line
from outlast.errors import AgentError, DurabilityError
from outlast.messages import ArtifactFile
from outlast.store.durable import is_disks
from outlast.work import descent
from outlast.work.capture import Capture, keep_file
from outlast.work.harvest import RESERVED, harvest, holds_more
from outlast.work.marks import WORK, kill_marked, pids
from outlast.work.process import find, in_words, surroundings, within
from outlast.work.trees import remove

__all__ = ["IN_DOUBT", "RESERVED", "AgentLimits", "ArtifactFile", "Outcome", "run_agent"]

IN_DOUBT = 79
"""The exit code of an agent that cannot know whether it did its task: a person looks before it is done again."""

_REASON_CHARS, _SUMMARY_CHARS = 300, 200
_KILL_S = 5.0
_DRAIN_S = 1.0
_FRESH_S = 10.0


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """How much an agent may use: seconds, bytes kept of each output stream, bytes and number of files it may leave."""

    timeout_s: float
    stdout_bytes: int
    artifact_bytes: int
    artifact_files: int = 256


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run. ``reason`` is one line, empty when done; ``exit_code`` is None when there was none."""

    verdict: Literal["done", "failed", "in doubt"]
    reason: str
    exit_code: int | None
    files: tuple[ArtifactFile, ...]
    summary: str
    seconds: float


async def run_agent(
    command: Sequence[str],
    task: Mapping[str, object],
    work: Path,
    limits: AgentLimits,
    environment: Mapping[str, str],
    *,
    grace_s: float = 3.0,
) -> Outcome:
    """Run ``command`` on ``task`` in the empty directory ``work``; what it printed is kept beside it.

    ``grace_s`` (seconds) is the time between SIGTERM and SIGKILL. Cancelling ends the agent first.
    Raises DurabilityError where the disk fails, so that nothing is known of the outcome; nothing else.
    """
    began = time.monotonic()
    work = work.resolve()
    agent = _Agent(limits.stdout_bytes)
    files: tuple[ArtifactFile, ...] = ()
    reason = ""
    try:
        await _run(agent, command, task, work, limits, environment, grace_s)
        files = await harvest(work, limits.artifact_bytes, limits.artifact_files)
    except AgentError as error:
        reason = one_line(str(error), _REASON_CHARS)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and is_disks(error):
            raise DurabilityError(f"the task could not be run: {error.strerror}") from error
        what = (isinstance(error, OSError) and error.strerror) or str(error)
        reason = one_line(f"the task could not be run: {what}", _REASON_CHARS)
    code = agent.code if agent.code is not None and agent.code >= 0 else None
    summary = agent.output[1].last_line(_SUMMARY_CHARS)
    verdict: Literal["done", "failed", "in doubt"] = "failed" if reason else "done"
    if code == IN_DOUBT:
        verdict = "in doubt"
    return Outcome(verdict, reason, code, files, summary, time.monotonic() - began)


class _Agent(asyncio.SubprocessProtocol):
    """The running agent as the event loop sees it. asyncio's Process is not used because its wait() may wait for
    whoever holds the pipes, which a grandchild can do for ever."""

    def __init__(self, stdout_bytes: int) -> None:
        self.output = {1: Capture(stdout_bytes), 2: Capture(stdout_bytes)}
        self.exited = asyncio.Event()
        self.silent = asyncio.Event()
        self.code: int | None = None
        self._pipes = {1, 2}
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport
        descent.led(transport.get_pid())

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output[fd].add(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._pipes.discard(fd)
        if not self._pipes:
            self.silent.set()

    def process_exited(self) -> None:
        assert self._transport is not None
        self.code = self._transport.get_returncode()
        descent.left(self._transport.get_pid())
        self.exited.set()

    @property
    def started(self) -> bool:
        return self._transport is not None

    def signal_group(self, number: signal.Signals) -> None:
        """Signal the agent's whole process group, which outlives its leader."""
        if self._transport is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._transport.get_pid(), number)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def _run(
    agent: _Agent,
    command: Sequence[str],
    task: Mapping[str, object],
    work: Path,
    limits: AgentLimits,
    environment: Mapping[str, str],
    grace_s: float,
) -> None:
    """Run the agent to its end, and end all that it started. Raises AgentError unless it exited with 0; OSError."""
    scratch = work.parent / "tmp"
    env = surroundings({"TMPDIR": str(scratch), **environment})
    env |= {WORK: str(work), "OUTLAST_UNIT": str(task.get("unit", ""))}
    program = find(command, env["PATH"], "agent command", "correct outlast_agent.command")
    _remove(scratch)  # of a run that was cut off
    scratch.mkdir(mode=0o700, exist_ok=True)
    document = work.parent / "stdin.json"  # a file and no pipe: an agent that never reads cannot hold us up
    keep_file(document, msgspec.json.encode(task) + b"\n")
    before = pids()
    began = time.monotonic()
    try:
        await _spawn(agent, [program, *command[1:]], document, work, env)
        reason = await _watch(agent, (work, scratch), limits)
    finally:
        # Process ids come round again only after thousands of others: what is older than a short run is not its child.
        older = before if time.monotonic() - began < _FRESH_S else frozenset[int]()
        await _end(agent, str(work), older, grace_s)
        _remove(scratch)
    for fd, name in ((1, "stdout.txt"), (2, "stderr.txt")):
        with contextlib.suppress(OSError):  # it is for people who look into a failure, and decides nothing
            keep_file(work.parent / name, agent.output[fd].kept())
    reason = reason or _verdict(agent)
    if reason:
        raise AgentError(reason)


async def _spawn(agent: _Agent, command: Sequence[str], document: Path, work: Path, env: Mapping[str, str]) -> None:
    """Start the agent in a session of its own. Raises AgentError."""
    loop = asyncio.get_running_loop()
    try:
        with document.open("rb") as task:
            starting = loop.create_task(
                loop.subprocess_exec(
                    lambda: agent,
                    *command,
                    stdin=task,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=work,
                    env=env,
                    start_new_session=True,
                )
            )
            with descent.starting():
                try:
                    await asyncio.shield(starting)
                finally:  # a start that is cancelled half-way would wait for whoever holds the pipes
                    await asyncio.wait({starting})
    except (OSError, ValueError) as error:
        raise AgentError(f"the agent command {command[0]} could not be started: {in_words(error)}") from error


async def _watch(agent: _Agent, folders: Iterable[Path], limits: AgentLimits) -> str:
    """Wait for the agent's exit, looking at its use of the disk; return why it has to be ended before that, or ""."""
    deadline = time.monotonic() + limits.timeout_s
    pause = 1.0
    while not agent.exited.is_set():
        left = deadline - time.monotonic()
        if left <= 0:
            return (
                f"hung: not done after {limits.timeout_s:g} s, so it was ended; mend it or raise outlast_agent.timeout"
            )
        if await within(min(pause, left), agent.exited):
            break
        looked = time.monotonic()
        for folder in folders:
            if await asyncio.to_thread(holds_more, folder, limits.artifact_bytes):
                return f"output too big: more than {limits.artifact_bytes} bytes in {folder.name}/, so it was ended"
        pause = max(1.0, 20 * (time.monotonic() - looked))  # at most 5 % of a core, however many files there are
    return ""


async def _end(agent: _Agent, work: str, older: frozenset[int], grace_s: float) -> None:
    """End the agent and everything that it started, then take in what is left in its pipes."""

    def is_ours(mark: str, _: str) -> bool:
        return mark == work

    try:
        if agent.started and not agent.exited.is_set():
            agent.signal_group(signal.SIGTERM)
            await within(grace_s, agent.exited)
    finally:  # a second cancellation cuts the grace short, not the end
        agent.signal_group(signal.SIGKILL)
        left = kill_marked(is_ours, older)
    deadline = time.monotonic() + _KILL_S
    while left and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
        left = kill_marked(is_ours, older)
    if agent.started:
        await within(_KILL_S, agent.exited)
        await within(_DRAIN_S, agent.silent)
    agent.close()


def _verdict(agent: _Agent) -> str:
    """Why the agent's end is a failure, or "" where it is none."""
    if agent.code == 0:
        return ""
    if agent.code is None:
        return "the agent did not end, not even by SIGKILL; the machine may have to be restarted"
    if agent.code < 0:
        number = -agent.code
        name = signal.Signals(number).name if number in set(signal.Signals) else "signal"
        hint = "; the kernel does that when memory runs out" if number == signal.SIGKILL else ""
        return f"killed by {name} ({number}){hint}"
    said = agent.output[2].last_line(_REASON_CHARS)
    if agent.code == IN_DOUBT and said:
        return said
    return f"exit {agent.code}: {said or 'it printed nothing on stderr'}"


def _remove(scratch: Path) -> None:
    """Remove the agent's temporary files; what cannot be removed stays in the task's directory."""
    remove(scratch)
