"""Moments as text: pure, for those who are told what time it is."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["iso", "stamp"]


def iso(seconds: float) -> str:
    """Format seconds since 1970 as ISO 8601 in UTC, to the millisecond: ``2026-11-21T05:09:07.123Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp(seconds: float) -> str:
    """Format seconds since 1970 as part of a file name: ``20261121T050907Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")
