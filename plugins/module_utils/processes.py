"""Which processes belong to a node's home, and how to end them.

Keeps: standard library only, because it runs on a node before anything is installed there; a person's shell or editor
that merely looks into the home is never counted. Leaves to others: stopping the service manager in an orderly way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

# A runtime gives its work in hand 10 s of it (stop.grace).
GRACE_S = 20.0


@dataclass(frozen=True)
class Process:
    """A running process: its id, a short form of its command line, and whether it works on a task."""

    pid: int
    command: str
    agent: bool = False


def of_home(home: str) -> list[Process]:
    """Return the processes that run out of this home, are children of its supervisord, or work on its tasks."""
    mine = _own_family()
    candidates = _from_proc(home) if Path("/proc/self/environ").exists() else _from_ps(home)
    return [process for process in candidates if process.pid not in mine]


def end(home: str) -> list[Process]:
    """Ask what is left of a home to end, then insist. Return what was found; raise TimeoutError if some will not go."""
    found = of_home(home)
    # Agents are their runtime's to end: it waits for them and gives back what they did not finish.
    for how, agents_too, patience_s in (
        (signal.SIGTERM, False, GRACE_S),
        (signal.SIGTERM, True, 5.0),
        (signal.SIGKILL, True, 10.0),
    ):
        for process in _left(home, agents_too):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, how)
        if _gone(home, agents_too, patience_s) and not of_home(home):
            return found
    left = ", ".join(f"{process.pid} ({process.command})" for process in of_home(home))
    raise TimeoutError(f"still running: {left}")


def _left(home: str, agents_too: bool) -> list[Process]:
    return [process for process in of_home(home) if agents_too or not process.agent]


def _gone(home: str, agents_too: bool, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while _left(home, agents_too):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _own_family() -> set[int]:
    """This module's own process and its parents carry the home in their arguments, too."""
    family = {os.getpid()}
    pid = os.getppid()
    while pid > 1 and pid not in family:
        family.add(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
    return family


def _marks(home: str) -> tuple[str, str]:
    """What supervisord gives its children, and the runtime its agents, by way of their environment."""
    return f"SUPERVISOR_SERVER_URL=unix://{home}/run/supervisor.sock", f"OUTLAST_WORK={home}/"


def _from_proc(home: str) -> list[Process]:
    found = []
    supervised, at_work = (mark.encode() for mark in _marks(home))
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        directory = Path("/proc", entry)
        try:
            arguments = directory.joinpath("cmdline").read_bytes().rstrip(b"\0").decode("utf-8", "replace").split("\0")
            if arguments == [""]:
                continue
            environment = directory.joinpath("environ").read_bytes().split(b"\0")
            tasks = os.path.join(home, "var", "tasks", "")
            works = (os.readlink(directory / "cwd") + "/").startswith(tasks) and not _has_terminal(directory)
        except OSError:
            continue
        agent = works or any(variable.startswith(at_work) for variable in environment)
        if agent or supervised in environment or _runs_out_of(home, arguments):
            found.append(Process(int(entry), " ".join(arguments)[:100], agent))
    return found


def _from_ps(home: str) -> list[Process]:
    """Where there is no /proc: the command lines and, for one's own processes, the environment that ps shows."""
    listing = subprocess.run(
        ["ps", "-axwwE", "-o", "pid=,command="], capture_output=True, text=True, check=False, errors="replace"
    ).stdout
    found = []
    for line in listing.splitlines():
        pid, _, command = line.strip().partition(" ")
        supervised, at_work = (mark in command for mark in _marks(home))
        if pid.isdigit() and (at_work or supervised or _runs_out_of(home, command.split(" "))):
            found.append(Process(int(pid), command[:100], at_work))
    return found


def _runs_out_of(home: str, arguments: list[str]) -> bool:
    """The program itself, or the script that an interpreter was given first, lies in one of the home's releases."""
    places = tuple(os.path.join(home, name, "") for name in ("releases", "current", "bin"))
    return any(argument.startswith(places) for argument in arguments[:2])


def _has_terminal(directory: Path) -> bool:
    return directory.joinpath("stat").read_text().rpartition(")")[2].split()[4] != "0"
