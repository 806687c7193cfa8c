"""Starting, watching and ending the processes that are measured.

Rules kept here: whatever is started here is ended by its process id, with its children, when the block that started it ends;
a process that was there before is never touched.

Left to others: what is started, and what the readings mean.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

__all__ = [
    "BenchError",
    "Reading",
    "answers",
    "ended",
    "family",
    "finish",
    "read",
    "run",
    "running",
    "say",
    "wait_answer",
]

_POLL_S = 0.001


class BenchError(Exception):
    """A measurement could not be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at a process: bytes resident, its proportional share (None without smaps), CPU seconds, bytes written
    (None where the kernel does not count them)."""

    rss: int
    pss: int | None
    cpu_s: float
    written: int | None


def say(text: str) -> None:
    """Tell the person who waits what is going on."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def read(pid: int) -> Reading:
    """Look at a process once. Raises BenchError if it is gone."""
    try:
        process = psutil.Process(pid)
        rss = process.memory_info().rss
        cpu_s = _cpu_s(process)
    except psutil.Error as error:
        raise BenchError(f"process {pid} is gone: {error}") from error
    share = _field(pid, "smaps_rollup", "Pss:")
    return Reading(rss, share and share * 1024, cpu_s, _field(pid, "io", "write_bytes:"))


def _cpu_s(process: psutil.Process) -> float:
    """CPU seconds of the process, ended threads included. Linux counts them in nanoseconds; what psutil shows is in ticks of
    10 ms, of which an idle process may use none in a minute."""
    if sys.platform == "linux":
        clock_of_process = (~process.pid << 3) | 2  # as clock_getcpuclockid(3) makes it
        with contextlib.suppress(OSError):
            return time.clock_gettime(clock_of_process)
    times = process.cpu_times()
    return float(times.user + times.system)


def _field(pid: int, file: str, name: str) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return None


def family(pid: int) -> list[psutil.Process]:
    """The process and all its descendants that run now."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def finish(processes: Sequence[psutil.Process], grace_s: float = 10.0) -> None:
    """End these: SIGTERM to the first, which may end the others, and SIGKILL to whatever is left."""
    if processes:
        with contextlib.suppress(psutil.Error):
            processes[0].terminate()
        _, left = psutil.wait_procs(processes[:1], grace_s)
        for process in (*left, *processes[1:]):
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, grace_s)


def ended(pid: int) -> bool:
    """Is the process gone, or at least dead?"""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True


@contextlib.contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the foreground of a session of its own, for as long as the block lasts."""
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            finish(family(process.pid))
        process.wait()


def run(command: Sequence[str], cwd: Path, environment: Mapping[str, str], limit_s: float) -> tuple[float, str]:
    """Run a command to its end; return its seconds and what it printed. Raises BenchError where it fails or hangs."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=limit_s)
        seconds = time.perf_counter() - began
    except BaseException as error:
        # Interrupted: what it started in its session goes with it, so that it cannot work on behind our back.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            finish(family(process.pid))
        if isinstance(error, subprocess.TimeoutExpired):
            raise BenchError(f"{' '.join(command)} was not done after {limit_s:g} s") from error
        raise
    if process.returncode:
        last = [line for line in printed.splitlines() if line.strip()][-5:]
        raise BenchError(f"{' '.join(command)} exited with {process.returncode}: {' / '.join(last)}")
    return seconds, printed


def answers(address: str | tuple[str, int], request: bytes) -> bool:
    """Does the server at ``address`` (host and port, or a Unix socket's path) answer this request with 200?"""
    kind = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(kind, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        connection.connect(address)
        connection.sendall(request)
        return b" 200 " in connection.recv(4096).split(b"\r\n", 1)[0]
    return False


def wait_answer(
    address: str | tuple[str, int], request: bytes, process: subprocess.Popen[bytes], limit_s: float = 30.0
) -> None:
    """Ask every millisecond until the answer is 200. Raises BenchError if the process ends or the time is over."""
    deadline = time.perf_counter() + limit_s
    while not answers(address, request):
        if process.poll() is not None:
            raise BenchError(f"it exited with {process.returncode} before it was ready")
        if time.perf_counter() > deadline:
            raise BenchError(f"it was not ready after {limit_s:g} s")
        time.sleep(_POLL_S)
