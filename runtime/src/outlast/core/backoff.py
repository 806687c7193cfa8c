"""Exponential backoff with full jitter: delay = random(0, min(base · 2^attempt, max)) (spec.md, section 4)."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["delay", "lifted"]

_APART_S = 1.0


def delay(attempt: int, base: float, limit: float, uniform: Callable[[float, float], float]) -> float:
    """Seconds to wait after failure number ``attempt`` (from 0); ``uniform(a, b)`` is the randomness."""
    # An exponent beyond 60 would overflow before the limit is applied.
    return uniform(0.0, min(base * 2.0 ** min(attempt, 60), limit))


def lifted(not_before: float, asked: float) -> float:
    """When the peer may be asked again now that it gave a sign of life: sooner than ``not_before``, never twice in a second.

    Both and ``asked``, when it was asked last, are monotonic seconds. A sign that comes too soon counts later, it is not lost:
    it may be the only one that a peer gives when it starts.
    """
    return min(not_before, asked + _APART_S)
