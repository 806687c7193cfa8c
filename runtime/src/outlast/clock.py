"""Time, as something that is passed in, so that what decides can be tested at any hour."""

from __future__ import annotations

import time
from typing import Protocol

from outlast.core.moments import iso, stamp

__all__ = ["Clock", "SystemClock", "iso", "stamp"]


class Clock(Protocol):
    """Where the time comes from."""

    def time(self) -> float:
        """Seconds since 1970 (UTC); may jump."""

    def monotonic(self) -> float:
        """Seconds since some moment; never jumps back, and may stand still while the machine sleeps."""


class SystemClock:
    """This machine's clocks."""

    def time(self) -> float:
        """Seconds since 1970 (UTC)."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment of this boot."""
        return time.monotonic()
