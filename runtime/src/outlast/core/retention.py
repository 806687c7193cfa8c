"""How much of logs, metrics and traces is kept: a pure plan from what lies there.

Rules kept here:

* days that are over may take half of the budget, the day of now has the other half in shares, so that the whole budget is
  never exceeded for longer than it takes to tidy up after midnight;
* what goes first is the oldest, of the same day the largest; the newest is kept, and what must stay stays;
* what goes is moved to the trash, where it is kept for as long as other trash, as far as half a budget reaches, and not at all
  while the disk is low.

Left to others: which files are ours (work.clutter), packing what is kept (core.cleaning), and doing it (work.cleaning).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

__all__ = ["expired", "purged", "share_of"]

# In sixteenths of the budget. What days that are over have is the rest.
_TODAY = {"events": 4, "spans": 3, "metrics": 1}
_PARTS, _PAST = 16, 8
# What packing is sure to save: logs become a tenth.
_PACKED = 5


class _Log(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def age(self) -> float: ...
    @property
    def stays(self) -> str: ...


_L = TypeVar("_L", bound=_Log)


def share_of(budget: int, what: Literal["events", "spans", "metrics"]) -> int:
    """How many bytes the file of one day may hold, of a budget in bytes."""
    return budget * _TODAY[what] // _PARTS


def expired(past: Sequence[_L], keep: float, budget: int) -> list[_L]:
    """Which logs of days that are over go, the oldest first. ``keep``: seconds; ``budget``: bytes, for all.

    What is not packed yet counts as what packing leaves of it.
    """
    left = sum(map(_counted, past))
    going = []
    for log in sorted(past, key=_age):
        if log.stays:
            continue
        if log.age > keep or left > budget * _PAST // _PARTS:
            left -= _counted(log)
            going.append(log)
    return going


def purged(trash: Sequence[_L], keep: float, budget: int, *, low: bool) -> list[_L]:
    """Which of the logs in the trash go for good, the oldest first."""
    left = sum(log.size for log in trash)
    going = []
    for log in sorted(trash, key=_age):
        if low or log.age > keep or left > budget * _PAST // _PARTS:
            left -= log.size
            going.append(log)
    return going


def _age(log: _Log) -> tuple[float, int, str]:
    return -log.age, -log.size, log.name


def _counted(log: _Log) -> int:
    return log.size if log.name.endswith(".gz") else log.size // _PACKED
