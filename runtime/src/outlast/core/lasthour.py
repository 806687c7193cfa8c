"""What became of the requests of the last hour, counted in minutes: sixty numbers and no more, and nothing while idle.

Values only: ``now`` is a monotonic clock's seconds, passed in.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

__all__ = ["LastHour", "Tally"]

_MINUTE_S = 60.0
_MINUTES = 60


class Tally(NamedTuple):
    """``tried`` requests, of which ``taken`` were answered well, and ``retries`` were for something that was tried before.

    ``seconds``: how long this was watched, an hour at most.
    """

    tried: int
    taken: int
    retries: int
    seconds: float

    @property
    def success(self) -> float | None:
        """The share that was taken, from 0 to 1; None where nothing was tried."""
        return self.taken / self.tried if self.tried else None


class LastHour:
    """The requests of the last hour to one peer; counting began at ``now``."""

    def __init__(self, now: float) -> None:
        self._began = now
        # Minute, tried, taken, retries; oldest first.
        self._minutes: deque[list[int]] = deque(maxlen=_MINUTES)

    def count(self, now: float, *, taken: bool, retry: bool) -> None:
        """A request is over."""
        minute = int(now // _MINUTE_S)
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append([minute, 0, 0, 0])
        newest = self._minutes[-1]
        newest[1] += 1
        newest[2] += taken
        newest[3] += retry

    def tally(self, now: float) -> Tally:
        """The last hour, as of now."""
        oldest = int(now // _MINUTE_S) - _MINUTES
        recent = [counted for counted in self._minutes if counted[0] > oldest]
        tried, taken, retries = (sum(counted[part] for counted in recent) for part in (1, 2, 3))
        return Tally(tried, taken, retries, min(now - self._began, _MINUTES * _MINUTE_S))
