"""A token bucket: so many messages a window, in bursts up to the whole of it (spec.md, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Bucket", "take"]


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left. ``at`` is the monotonic second at which ``tokens`` was true."""

    tokens: float
    at: float


def take(bucket: Bucket | None, now: float, rate: int, window: float) -> tuple[Bucket, float]:
    """Take one token of ``rate`` tokens a ``window`` of seconds.

    Returns the bucket afterwards, and 0 when there was one, else the seconds until there is. A None bucket is a full one.
    """
    full = float(rate)
    had = full if bucket is None else min(full, bucket.tokens + max(0.0, now - bucket.at) * rate / window)
    if had >= 1.0:
        return Bucket(had - 1.0, now), 0.0
    return Bucket(had, now), (1.0 - had) * window / rate
