"""One run of a sub-agent: shut in, watched, ended with all that it started.

Rules kept here:

* It is ended at its deadline, after too long a silence (it neither prints nor calls its node), and where it takes more of
  memory, CPU time, processes or disk than it may, all of its tree together; whatever it does, the run has a reason for a
  person.
* It sees the environment that is written here and no other, and its token in a file that it cannot write.

Left to others: what the sandbox lets through (work.sandbox), processes (work.process), and what follows (work.subagents).
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from outlast.core.record import one_line
from outlast.home import Home
from outlast.quantity import readable as in_units
from outlast.settings import Config
from outlast.store import durable
from outlast.work.guard import Guard
from outlast.work.harvest import measure
from outlast.work.leavings import Leavings
from outlast.work.output import Output
from outlast.work.process import Process, Program
from outlast.work.sandbox import Limits
from outlast.work.spawned import Ticket
from outlast.work.spawning import search_path
from outlast.work.usage import usage_of

__all__ = ["Bounds", "Ended", "Folder", "Heard", "run_in"]

_LOOK_S = 1.0
_GRACE_S = 3.0
_REASON_CHARS = 200
_LAST_BYTES = 400
# More than any limit that a machine sets itself.
_MANY = 1 << 20
_SIGNALS = {signal.SIGXCPU: "used more CPU time than it may", signal.SIGXFSZ: "wrote a larger file than it may"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a whole run may use: seconds until it is ended, of silence and of CPU; bytes of memory and disk; processes; files
    and folders."""

    timeout_s: float
    heartbeat_s: float
    cpu_s: float
    memory_bytes: int
    disk_bytes: int
    processes: int
    files: int

    def each(self, file_bytes: int, *, own_processes: bool) -> Limits:
        """What one process of it may use. ``own_processes``: the kernel counts those of this run alone; else only we do."""
        processes = self.processes if own_processes else _MANY
        return Limits(math.ceil(self.cpu_s), self.memory_bytes, file_bytes, processes)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. ``reason``: why that is a failure, in a line; empty where it is none."""

    exit_code: int | None
    reason: str


class Folder:
    """The folder of one sub-agent, below ``var/subagents``: what is where in it."""

    def __init__(self, home: Home, name: str) -> None:
        self.path = home.subagents / name
        self.work = self.path / "work"
        self.temporary = self.path / "tmp"
        self.papers = self.path / "papers"
        self.token = self.papers / "token"
        self.output = self.path / "output.log"

    def clear(self, leavings: Leavings, trash: Path, stamp: str) -> None:
        """Take away what an earlier run left to be written to. Raises DurabilityError."""
        for folder in (self.work, self.temporary, self.papers):
            leavings.put(folder)
            if os.path.lexists(folder):
                durable.set_aside(folder, trash, stamp)

    def prepare(self, config: Config, token: str) -> None:
        """Make it ready for a run. Raises DurabilityError."""
        durable.make_dir(self.work, mode=durable.SHARED_FOLDER)
        durable.make_dir(self.temporary)
        durable.make_dir(self.papers / "etc")
        # What `outlast` must know to make an order of what is typed, and nothing more.
        known = {
            "node": config.node,
            "listen": {"host": config.listen.host, "port": config.listen.port},
            "agent": {"command": ["/bin/false"]},
            "peers": {
                name: {"url": peer.url, **({"pin": peer.pin} if peer.pin else {})}
                for name, peer in config.peers.items()
            },
        }
        durable.replace(self.papers / "etc" / "node.yml", msgspec.json.encode(known) + b"\n")
        durable.replace(self.token, f"{token}\n".encode())

    def environment(self, ticket: Ticket, socket: Path) -> dict[str, str]:
        """What a sub-agent finds in its environment."""
        return {
            "PATH": search_path(),
            "HOME": str(self.temporary),
            "TMPDIR": str(self.temporary),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "OUTLAST_HOME": str(self.papers),
            "OUTLAST_SOCKET": str(socket),
            "OUTLAST_TOKEN_FILE": str(self.token),
            "OUTLAST_SUBAGENT": ticket.id,
            "OUTLAST_ATTEMPT": str(ticket.attempts),
            "OUTLAST_TASK": ticket.task,
        }


class Heard(Output):
    """What a sub-agent prints, and when it last gave a sign of life."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path, limit)
        self.at = time.monotonic()
        self.to_end = ""
        """Why somebody wants it ended."""
        self._last = b""

    def write(self, data: bytes) -> None:
        """Keep it. Raises nothing."""
        self.sign()
        self._last = (self._last + data)[-_LAST_BYTES:]
        super().write(data)

    def sign(self) -> None:
        """It gave a sign of life."""
        self.at = time.monotonic()

    def last_line(self) -> str:
        """The last thing that it printed."""
        lines = self._last.decode(errors="replace").strip().splitlines()
        return one_line(lines[-1], _REASON_CHARS) if lines else ""


async def run_in(
    folder: Folder,
    ticket: Ticket,
    wrapper: Sequence[str],
    environment: dict[str, str],
    output: Heard,
    guard: Guard,
    bounds: Bounds,
) -> Ended:
    """Run it to its end, and end all that it started. Raises AgentError where it cannot be started."""
    program = Program(ticket.id, ticket.command, folder.work, environment, grace_s=_GRACE_S)
    process = await Process.start(program, output, guard, wrapper)
    reason = ""
    try:
        reason = await _watch(process, folder, output, bounds)
    finally:
        code = await process.end()
        output.close()
    return Ended(code if code >= 0 else None, reason or _verdict(code, output))


async def _watch(process: Process, folder: Folder, output: Heard, bounds: Bounds) -> str:
    """Wait for the end of it, looking at what it uses; return why it has to be ended before that, or ``""``."""
    deadline = time.monotonic() + bounds.timeout_s
    gone = asyncio.ensure_future(process.wait())
    pause, cpu = _LOOK_S, 0.0
    try:
        while True:
            now = time.monotonic()
            left, patience = deadline - now, output.at + bounds.heartbeat_s - now
            if left <= 0:
                return f"not done after {bounds.timeout_s:g} s, so it was ended"
            if patience <= 0:
                return f"hung: neither printed nor called for {bounds.heartbeat_s:g} s, so it was ended"
            await asyncio.wait({gone}, timeout=min(pause, left, patience))
            if gone.done() or output.to_end:
                return output.to_end
            looked = time.monotonic()
            found = await asyncio.to_thread(usage_of, process.pid)
            # What belonged to a process that nobody waited for is gone from the sum.
            cpu = max(cpu, found.cpu_s)
            if cpu > bounds.cpu_s:
                return f"used more than {bounds.cpu_s:g} s of CPU time, so it was ended"
            if found.memory_bytes > bounds.memory_bytes:
                return f"used more than {in_units(bounds.memory_bytes)} of memory, so it was ended"
            if found.processes > bounds.processes:
                return f"had more than {bounds.processes} processes, so it was ended"
            if found.disk_bytes > bounds.disk_bytes:
                return f"holds more than {in_units(bounds.disk_bytes)} in files that it deleted, so it was ended"
            for place in (folder.work, folder.temporary):
                written, files = await asyncio.to_thread(measure, place, bounds.disk_bytes, bounds.files)
                if written > bounds.disk_bytes:
                    return f"wrote more than {in_units(bounds.disk_bytes)} in {place.name}/, so it was ended"
                if files > bounds.files:
                    return f"made more than {bounds.files} files and folders in {place.name}/, so it was ended"
            pause = max(_LOOK_S, 20 * (time.monotonic() - looked))  # at most 5 % of a core
    finally:
        gone.cancel()


def _verdict(code: int, output: Heard) -> str:
    """Why this end is a failure, or ``""`` where it is none."""
    if code == 0:
        return ""
    # bubblewrap says of a signal what a shell does.
    number = -code if code < 0 else code - 128
    if number in set(signal.Signals):
        known = signal.Signals(number)
        return _SIGNALS.get(known, f"killed by {known.name}")
    return f"exit {code}: {output.last_line() or 'it printed nothing'}"
