"""What idling costs: memory, CPU, and bytes written, of several processes over one window.

Rules kept here: all are watched over the same seconds, so that what else the machine does falls on all of them; of two
accounts of the bytes that were written, the one that says more is believed.

Left to others: starting them.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.processes import Reading, read, say
from bench.table import Figure, Goal, Row, per_day

__all__ = ["Idle", "Idler", "Written", "grown", "idle_rows", "snapshot", "watch"]

Snapshot = Mapping[str, tuple[int, int]]
_MIB, _MB = 1 << 20, 1e6
_UNKNOWN = "this system does not tell"


@dataclass(frozen=True, slots=True)
class Idler:
    """What is watched: some processes taken as one, and the folder where they write.

    ``kind``: a node, the whole that a service manager runs for it, or a peer.
    """

    kind: Literal["node", "whole", "peer"]
    name: str
    pids: Sequence[int]
    folder: Path


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes written, as the kernel counted them for the processes (None: not here), and as the files show."""

    counted: int | None
    shown: int

    @property
    def bytes(self) -> int:
        """The larger of the two."""
        return max(self.counted or 0, self.shown)


@dataclass(frozen=True, slots=True)
class Idle:
    """What an idler cost: MiB resident and proportional (None: not known here), % of a core, MB written a day."""

    rss: float
    pss: float | None
    cpu: float
    written: float
    account: Written


def watch(idlers: Sequence[Idler], seconds: float) -> dict[str, Idle]:
    """Let ``seconds`` pass, and say what each idler cost meanwhile; memory is that at the end. Raises BenchError."""
    say(f"idle: watching {len(idlers)} sets of processes for {seconds:g} s")
    began = time.perf_counter()
    before = {idler.name: (_look(idler), snapshot(idler.folder)) for idler in idlers}
    time.sleep(seconds)
    after = {idler.name: (_look(idler), snapshot(idler.folder)) for idler in idlers}
    passed = time.perf_counter() - began
    return {name: _cost(*before[name], *after[name], passed) for name in before}


def _look(idler: Idler) -> list[Reading]:
    return [read(pid) for pid in idler.pids]


def _cost(
    first: Sequence[Reading], files_before: Snapshot, last: Sequence[Reading], files_after: Snapshot, seconds: float
) -> Idle:
    counts = [(one.written, two.written) for one, two in zip(first, last, strict=True)]
    counted = sum(two - one for one, two in counts if one is not None and two is not None)
    known = all(two is not None for _, two in counts)
    account = Written(counted if known else None, grown(files_before, files_after))
    shares = [reading.pss for reading in last]
    cpu = sum(reading.cpu_s for reading in last) - sum(reading.cpu_s for reading in first)
    return Idle(
        rss=sum(reading.rss for reading in last) / _MIB,
        pss=sum(share for share in shares if share is not None) / _MIB if None not in shares else None,
        cpu=100 * cpu / seconds,
        written=per_day(account.bytes, seconds) / _MB,
        account=account,
    )


def snapshot(folder: Path) -> Snapshot:
    """Size and time of the last change (ns) of every regular file below ``folder``, by path."""
    found: dict[str, tuple[int, int]] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            try:
                status = os.lstat(path)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                found[path] = (status.st_size, status.st_mtime_ns)
    return found


def grown(before: Snapshot, after: Snapshot) -> int:
    """The bytes that must have been written between two snapshots: growth, and all of what did not grow but changed."""
    total = 0
    for path, (size, changed) in after.items():
        old_size, old_changed = before.get(path, (0, 0))
        if changed != old_changed:
            total += size - old_size if size > old_size else size
    return total


def idle_rows(
    idlers: Sequence[Idler], costs: Mapping[str, Idle], missing: Mapping[str, str], seconds: float
) -> list[Row]:
    """What ``watch`` found: of several nodes the worst; ``missing`` are peers that could not be had, and why."""
    for name, cost in costs.items():
        account = cost.account
        say(f"idle: {name} wrote {account.counted} bytes as the kernel counts, {account.shown} as its files show")

    def ours(kind: str, pick: Callable[[Idle], float | None]) -> Figure:
        found = [pick(costs[idler.name]) for idler in idlers if idler.kind == kind]
        values = [value for value in found if value is not None]
        return Figure(max(values)) if values else Figure(None, why=_UNKNOWN)

    def row(measure: str, unit: str, pick: Callable[[Idle], float | None], goal: Goal | None = None) -> Row:
        found = [Figure(pick(costs[one.name]), one.name, _UNKNOWN) for one in idlers if one.kind == "peer"]
        peers = [*found, *(Figure(None, name, why) for name, why in missing.items())]
        return Row(f"idle node, {measure}", unit, ours("node", pick), peers, goal)

    rows = [
        row("resident", "MiB", lambda idle: idle.rss, Goal(32, strict=False)),
        row("proportional", "MiB", lambda idle: idle.pss),
        row(f"CPU over {seconds:g} s", "%", lambda idle: idle.cpu, Goal(0.3, strict=False)),
        row("written a day", "MB", lambda idle: idle.written, Goal(20)),
    ]
    if any(idler.kind == "whole" for idler in idlers):
        rows += [
            Row("with its supervisord, resident", "MiB", ours("whole", lambda idle: idle.rss)),
            Row("with its supervisord, CPU", "%", ours("whole", lambda idle: idle.cpu)),
            Row("with its supervisord, written a day", "MB", ours("whole", lambda idle: idle.written), [], Goal(20)),
        ]
    return rows
