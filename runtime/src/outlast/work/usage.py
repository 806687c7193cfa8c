"""What a program and all that it started use: memory, CPU time, processes, and disk that no folder shows.

Rules kept here: who left the process group still counts while its parent lives, who lost its parent while it stays in the
session; memory is what is its own (anonymous and shared memory), so that a library that many use is not counted many times.
Files without a name count once, however many hold them open, also where nothing of them is mapped: memory as memory, the rest
as disk.

Left to others: what follows from it (work.cell).
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Usage", "usage_of"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of memory, seconds of CPU time, processes with their threads, and bytes in files that were deleted and are open."""

    memory_bytes: int = 0
    cpu_s: float = 0.0
    processes: int = 0
    disk_bytes: int = 0


if sys.platform == "linux":
    _TICK = os.sysconf("SC_CLK_TCK")
    _OWN = re.compile(rb"^Rss(?:Anon|Shmem):\s+(\d+) kB", re.MULTILINE)
    # Of a memfd that is mapped, in smaps: its pages, and which of them are copies of the process's own.
    _MAPPED = re.compile(
        rb"^[0-9a-f]+-[0-9a-f]+ \S+ [0-9a-f]+ \S+ \d+ +/memfd:.*\n"
        rb"(?:\w+:.*\n)*?Rss: +(\d+) kB\n(?:\w+:.*\n)*?Anonymous: +(\d+) kB$",
        re.MULTILINE,
    )

    def usage_of(leader: int) -> Usage:
        """What the process ``leader`` and all that it started use now."""
        stats: dict[int, tuple[int, int, int, float, int]] = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    stats[int(name)] = _stat(name)
        ours = {leader}
        ours |= {pid for pid, (_, group, session, _, _) in stats.items() if leader in (group, session)}
        children: dict[int, list[int]] = {}
        for pid, stat in stats.items():
            children.setdefault(stat[0], []).append(pid)
        pending = list(ours)
        while pending:
            new = [pid for pid in children.get(pending.pop(), []) if pid not in ours]
            ours.update(new)
            pending += new
        there = [stats[pid] for pid in ours if pid in stats]
        unseen, disk = _nameless(ours)
        if unseen:
            # What of it is mapped is in the processes' own memory.
            unseen = max(0, unseen - sum(map(_mapped, ours)))
        memory = sum(map(_memory, ours)) + unseen
        return Usage(memory, sum(stat[3] for stat in there), sum(stat[4] for stat in there), disk)

    def _stat(pid: str) -> tuple[int, int, int, float, int]:
        """Parent, group, session, seconds of CPU (its own, and of children that ended), threads. Raises OSError, ValueError."""
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stream:
            # The name before it may hold anything.
            fields = stream.read(4096).rpartition(b")")[2].split()
        return int(fields[1]), int(fields[2]), int(fields[3]), sum(map(int, fields[11:15])) / _TICK, int(fields[17])

    def _memory(pid: int) -> int:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb", buffering=0) as stream:
            return sum(int(kib) << 10 for kib in _OWN.findall(stream.read(8192)))
        return 0

    def _nameless(processes: Iterable[int]) -> tuple[int, int]:
        """Bytes in open files that have no name, each counted once: those of memory, those on a disk."""
        found: dict[tuple[int, int], int] = {}
        for pid in processes:
            # A thread may have files of its own.
            for thread in _listed(f"/proc/{pid}/task"):
                folder = f"/proc/{pid}/task/{thread}/fd"
                for fd in _listed(folder):
                    with contextlib.suppress(OSError):
                        status = os.stat(f"{folder}/{fd}")
                        if not status.st_nlink and stat.S_ISREG(status.st_mode):
                            found[status.st_dev, status.st_ino] = status.st_blocks * 512
        memory = sum(size for (device, _), size in found.items() if device == _memory_device())
        return memory, sum(found.values()) - memory

    def _mapped(pid: int) -> int:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps", "rb") as stream:
            return sum((int(rss) - int(copied)) << 10 for rss, copied in _MAPPED.findall(stream.read()))
        return 0

    def _listed(folder: str) -> list[str]:
        with contextlib.suppress(OSError):
            return os.listdir(folder)
        return []

    @functools.cache
    def _memory_device() -> int:
        """The kernel's own file system of memory, which all memfds are on."""
        fd = os.memfd_create("device")
        try:
            return os.fstat(fd).st_dev
        finally:
            os.close(fd)

else:

    def usage_of(leader: int) -> Usage:
        """What the process ``leader`` and all that it started use now."""
        import psutil

        memory, cpu, processes = 0, 0.0, 0
        with contextlib.suppress(psutil.Error):
            first = psutil.Process(leader)
            for process in (first, *first.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    memory += process.memory_info().rss
                    cpu += sum(process.cpu_times()[:4])
                    processes += process.num_threads()
        return Usage(memory, cpu, processes)
