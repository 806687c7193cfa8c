"""A clock for tests."""

from __future__ import annotations

__all__ = ["FixedClock"]


class FixedClock:
    """A clock that stands where it is put."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        """Seconds since 1970."""
        return self.now

    def monotonic(self) -> float:
        """The same."""
        return self.now
