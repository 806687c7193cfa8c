"""The circuit breaker before a peer: closed, open, half-open (spec.md, section 4).

Rules kept here: ``failures`` in a row open it; after ``cooldown`` seconds one trial decides; a sign of life from the peer
allows the trial at once. Values only: ``now`` is a monotonic clock's seconds, passed in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

__all__ = ["BreakerState", "allows", "failed", "heard", "opens_in", "started", "succeeded"]


@dataclass(frozen=True, slots=True)
class BreakerState:
    """Where a breaker stands. ``opened`` is when it last opened."""

    status: Literal["closed", "open", "half-open"] = "closed"
    failures: int = 0
    opened: float = 0.0


def opens_in(state: BreakerState, now: float, cooldown: float) -> float:
    """Seconds until the next request may be made; 0 when it may be made now."""
    return max(0.0, state.opened + cooldown - now) if state.status == "open" else 0.0


def allows(state: BreakerState, now: float, cooldown: float) -> bool:
    """May a request be made now? While a trial is under way, no other."""
    return state.status == "closed" or (state.status == "open" and opens_in(state, now, cooldown) == 0.0)


def started(state: BreakerState) -> BreakerState:
    """A request that was allowed begins: from open, it is the trial."""
    return replace(state, status="half-open") if state.status == "open" else state


def succeeded(state: BreakerState) -> BreakerState:
    """A request was answered."""
    return BreakerState()


def failed(state: BreakerState, now: float, limit: int) -> BreakerState:
    """A request was not answered: the trial's failure opens it again, ``limit`` failures in a row open it."""
    failures = state.failures + 1
    if state.status == "half-open" or failures >= limit:
        return BreakerState("open", failures, now)
    return replace(state, failures=failures)


def heard(state: BreakerState, now: float, cooldown: float) -> BreakerState:
    """The peer gave a sign of life: an open breaker need not wait for the rest of its cooldown."""
    return replace(state, opened=now - cooldown) if state.status == "open" else state
