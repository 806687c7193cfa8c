"""When each job last ran, and how: var/jobs.json, so that a restart neither forgets a run nor repeats one.

Rules kept here: written when a run begins and when it ends, never in between and never for what was skipped (that is
written along with the next run); a file that cannot be read is set aside, and the jobs begin anew from now.

Left to others: what is due (core.schedule), and running it (work.jobs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from outlast.clock import Clock
from outlast.home import Home
from outlast.store import durable
from outlast.store.events import EventLog
from outlast.store.kept import read_kept

__all__ = ["Entry", "Run", "Verdict", "read", "write"]

Verdict = Literal["", "done", "failed", "in doubt"]
_VERSION = 1


class Run(msgspec.Struct, frozen=True):
    """One run: ``id`` names it and its trace; ``by``: the clock or a person; moments are ISO 8601, UTC, empty until known.

    ``detail``: why it is not done; ``said``: the last line that a failed one printed, which only this machine is told.
    """

    id: str
    by: Literal["clock", "person"]
    started: str
    ended: str = ""
    verdict: Verdict = ""
    exit_code: int | None = None
    seconds: float = 0.0
    detail: str = ""
    said: str = ""


class Entry(msgspec.Struct):
    """One job: the newest cycle that is dealt with (seconds since 1970), cycles since one ran, and counters.

    ``timed``: schedule and zone that these cycles are of. ``next``: ISO 8601, UTC, for people. ``failures``: in a row.
    ``skips``: by reason, since the job is known; ``why``: in words, since the last run.
    """

    timed: str
    cycle: float
    rested: int = 1
    next: str = ""
    runs: int = 0
    failures: int = 0
    skips: dict[str, int] = {}
    why: str = ""
    last: Run | None = None


class _Book(msgspec.Struct):
    v: Literal[1]
    jobs: dict[str, Entry]


def read(home: Home, events: EventLog, clock: Clock) -> dict[str, Entry]:
    """What is known of the jobs; nothing where that is of no use."""
    book = read_kept(home.jobs, _Book, home.trash, events, clock, "jobs.forgotten")
    return book.jobs if book else {}


def write(home: Home, jobs: Mapping[str, Entry]) -> None:
    """Keep it. Raises DurabilityError."""
    durable.replace(home.jobs, msgspec.json.encode({"v": _VERSION, "jobs": jobs}) + b"\n")
