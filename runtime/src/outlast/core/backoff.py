"""Exponential backoff with full jitter: delay = random(0, min(base · 2^attempt, max)) (spec.md, section 4)."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["delay"]


def delay(attempt: int, base: float, limit: float, uniform: Callable[[float, float], float]) -> float:
    """Seconds to wait after failure number ``attempt`` (from 0); ``uniform(a, b)`` is the randomness."""
    # An exponent beyond 60 would overflow before the limit is applied.
    return uniform(0.0, min(base * 2.0 ** min(attempt, 60), limit))
