"""What a program and all that it started use: memory, CPU time, processes.

Rules kept here: who left the process group still counts while its parent lives, who lost its parent while it stays in the
session; memory is what is its own (anonymous and shared memory), so that a library that many use is not counted many times.

Left to others: what follows from it (work.cell).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from dataclasses import dataclass

__all__ = ["Usage", "usage_of"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of memory, seconds of CPU time, and processes with their threads."""

    memory_bytes: int = 0
    cpu_s: float = 0.0
    processes: int = 0


if sys.platform == "linux":
    _TICK = os.sysconf("SC_CLK_TCK")
    _OWN = re.compile(rb"^Rss(?:Anon|Shmem):\s+(\d+) kB", re.MULTILINE)

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
        return Usage(sum(map(_memory, ours)), sum(stat[3] for stat in there), sum(stat[4] for stat in there))

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
