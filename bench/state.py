"""How long STATE takes to be rebuilt from so many artifacts, and how long the check at a start takes when nothing changed.

Rules kept here: what is opened is a node without its network, as `outlast doctor` opens it and the runtime at its start; a
rebuild that does not count every artifact is an error, not a figure; each is measured several times, in turns.

Left to others: making it fast (core.state, store.memory), the table.
"""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path

import msgspec

from bench.processes import BenchError, say
from bench.table import Figure, Goal, Row, median
from outlast.clock import SystemClock, iso
from outlast.core.ids import new_unit
from outlast.core.record import Record, Step, format_record
from outlast.home import Home
from outlast.local import Local
from outlast.messages import ArtifactFile
from outlast.settings import Config
from outlast.work.artifacts import MANIFEST, Manifest

__all__ = ["populate", "rebuilds"]

# A task every five minutes: 288 a day, and daily files of 60 KB.
_EVERY_S = 300.0
_LINEAR = 1.5


def populate(home: Home, count: int) -> None:
    """Lay ``count`` artifacts of ended tasks below ``home``, and the days that tell of them. Raises OSError."""
    home.artifacts.mkdir(parents=True)
    home.memory.mkdir()
    begun = time.time() - count * _EVERY_S
    ended = [begun + number * _EVERY_S for number in range(count)]
    records: list[Record] = []
    for number, moment in enumerate(ended):
        unit = new_unit("coz", moment, number & 0x3FFFF)
        _artifact(home.artifacts / unit, number, moment)
        at = datetime.fromtimestamp(moment).astimezone()
        for step, what in ((Step.INTENT, "from coz: host report"), (Step.CONFIRM, "done")):
            day, clock = at.date().isoformat(), at.strftime("%H:%M:%S")
            records.append(Record(day, clock, step, unit, what, "axiom", len(records) + 1))
    for day, of_day in groupby(records, key=lambda record: record.day):
        lines = "".join(f"{format_record(record)}\n" for record in of_day)
        (home.memory / f"{day}.md").write_text(f"# {day}\n\n{lines}")


def _artifact(folder: Path, number: int, ended: float) -> None:
    manifest = Manifest(
        unit=folder.name,
        task="host report",
        sender="coz",
        trace_id=f"{number:032x}",
        verdict="done",
        detail="host report: all well",
        exit_code=0,
        ended=iso(ended),
        files=(ArtifactFile(path="report.md", size=5, sha256="0" * 64),),
    )
    # The report itself is left out: nothing here reads it, and removing so many files takes longer than all that is measured.
    folder.mkdir()
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")


def rebuilds(folder: Path, sizes: Sequence[int], times: int) -> list[Row]:
    """Rebuild STATE from so many artifacts, and start when nothing changed, ``times`` times each. Raises BenchError."""
    homes = {size: Home(folder / str(size)) for size in sizes}
    for size, home in homes.items():
        say(f"state: laying {size} artifacts and their days")
        populate(home, size)
    say(f"state: rebuilding it and starting, {times} times each")
    most = sizes[-1]
    with_days = _in_turns(homes, times, _forget_state)
    unchanged = _in_turns(homes, times, lambda _: None)
    without = _in_turns(homes, times, _forget_days)
    say("state: removing what was laid, which may take minutes")
    shutil.rmtree(folder)
    return [
        *_rows("STATE rebuilt, journal there", with_days),
        *_rows("STATE rebuilt from artifacts alone", without),
        Row(f"start-up check, nothing changed, {most} artifacts", "s", Figure(unchanged[most]), goal=Goal(1.0)),
    ]


def _rows(name: str, seconds: dict[int, float]) -> list[Row]:
    *_, smaller, largest = seconds
    each = (seconds[largest] / largest) / (seconds[smaller] / smaller)
    return [
        *(
            Row(f"{name}, {size} artifacts", "s", Figure(took), goal=Goal(10.0) if size == largest else None)
            for size, took in seconds.items()
        ),
        Row(f"{name}, time each, {largest} to {smaller}", "×", Figure(each), goal=Goal(_LINEAR, strict=False)),
    ]


def _in_turns(homes: dict[int, Home], times: int, before: Callable[[Home], None]) -> dict[int, float]:
    """Median seconds of opening each home."""
    taken: dict[int, list[float]] = {size: [] for size in homes}
    for _ in range(times):
        for size, home in homes.items():
            before(home)
            taken[size].append(_open(home, size))
    return {size: median(found) for size, found in taken.items()}


def _open(home: Home, size: int) -> float:
    """Seconds that it takes to open the parts of a node that need no peer."""
    config = msgspec.convert(
        {"node": "axiom", "listen": {"host": "127.0.0.1", "port": 1}, "agent": {"command": ["/bin/true"]}}, Config
    )
    gc.collect()
    began = time.perf_counter()
    local = Local(config, home, SystemClock())
    local.doctor.at_start()
    seconds = time.perf_counter() - began
    try:
        counted = local.memory.state.artifacts.count
        if counted != size:
            raise BenchError(f"of {size} artifacts {counted} are in STATE")
        local.memory.flush()
    finally:
        local.close()
    return seconds


def _forget_state(home: Home) -> None:
    """STATE.json is gone, and what is remembered of the days."""
    home.state_file.unlink(missing_ok=True)
    home.days.unlink(missing_ok=True)


def _forget_days(home: Home) -> None:
    """Nothing but the artifacts is left."""
    _forget_state(home)
    shutil.rmtree(home.memory, ignore_errors=True)
    shutil.rmtree(home.root / "var", ignore_errors=True)
