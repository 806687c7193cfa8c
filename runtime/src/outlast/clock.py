"""Time, as something that is passed in, so that what decides can be tested at any hour."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

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


def iso(seconds: float) -> str:
    """Format seconds since 1970 as ISO 8601 in UTC, to the millisecond: ``2026-11-21T05:09:07.123Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp(seconds: float) -> str:
    """Format seconds since 1970 as part of a file name: ``20261121T050907Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")
