"""One-for-one supervision of a program as a pure state machine: when it is started, again, or not any more.

Rules kept here:

* In no stretch of ``within`` seconds is a program started again by itself more than ``most`` times; who reaches that rests,
  for ``rest`` seconds at least, and is tried again then.
* Between its end and the next start: backoff with full jitter, growing with the restarts that lie within that stretch, so
  that it begins anew once the program has lasted.
* A person's order starts it at once, whatever it did before; a mode that sheds it stops it, and neither counts as a failure.

Left to others: time and randomness, which are passed in (``now`` is a monotonic clock's seconds), and doing it (work.services).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from outlast.core.backoff import delay

# fmt: off
__all__ = [
    "Policy", "Restart", "State", "Supervised", "asked", "begun", "due_in", "ended", "has_lasted", "shed", "stop_at_latest",
]
# fmt: on

Restart = Literal["always", "on-failure", "never"]
State = Literal["waiting", "running", "resting", "shed", "ended"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How a program is started again; all but ``most`` in seconds."""

    restart: Restart
    base: float
    max: float
    most: int
    within: float
    rest: float


@dataclass(frozen=True, slots=True)
class Supervised:
    """Where a program stands.

    ``due``: when one that waits or rests is to be started. ``since``: when it came to run. ``again``: the next start is one by
    itself, after a failure. ``restarts``: when it was so started, as far as that still counts.
    """

    state: State = "waiting"
    due: float = 0.0
    since: float = 0.0
    again: bool = False
    restarts: tuple[float, ...] = ()


def due_in(one: Supervised, now: float) -> float | None:
    """Seconds until it is to be started; None where only an order or a mode can bring that about."""
    return max(0.0, one.due - now) if one.state in ("waiting", "resting") else None


def begun(one: Supervised, policy: Policy, now: float) -> Supervised:
    """It was started, or that was tried."""
    restarts = _recent(one, policy, now)
    if one.again:
        restarts = (*restarts, now)
    return Supervised("running", since=now, restarts=restarts)


def ended(
    one: Supervised, policy: Policy, now: float, *, well: bool, uniform: Callable[[float, float], float]
) -> Supervised:
    """It is over, or could not be started; ``well``: with exit code 0. ``uniform(a, b)`` is the randomness."""
    restarts = _recent(one, policy, now)
    if policy.restart == "never" or (policy.restart == "on-failure" and well):
        return Supervised("ended", restarts=restarts)
    if len(restarts) >= policy.most:
        # Not before one of those that count has stopped counting, however short the rest is.
        due = max(now + policy.rest, restarts[-policy.most] + policy.within)
        return Supervised("resting", due, again=True, restarts=restarts)
    wait = delay(len(restarts), policy.base, policy.max, uniform)
    return Supervised("waiting", now + wait, again=True, restarts=restarts)


def asked(now: float) -> Supervised:
    """A person wants it started now: what went before is forgotten."""
    return Supervised("waiting", now)


def shed(one: Supervised, now: float, *, allowed: bool) -> Supervised:
    """May it run in the mode of now? One that is shed keeps its past and its due time; one that is over stays so."""
    if not allowed and one.state in ("running", "waiting", "resting"):
        return replace(one, state="shed", since=0.0)
    if allowed and one.state == "shed":
        return replace(one, state="waiting", due=max(one.due, now))
    return one


def has_lasted(one: Supervised, policy: Policy, now: float) -> bool:
    """Has it run for so long that what it did before does not count any more?"""
    return one.state == "running" and now - one.since >= policy.within


def _recent(one: Supervised, policy: Policy, now: float) -> tuple[float, ...]:
    return tuple(moment for moment in one.restarts if moment > now - policy.within)


def stop_at_latest(graces: Sequence[float], budget: float) -> list[float]:
    """When each of several that are stopped one after the other is to be asked at the latest, in seconds from the beginning.

    Each has its grace (seconds) within ``budget`` then, where that is no less than the longest, and none is asked before those
    ahead of it.
    """
    latest: list[float] = []
    for grace in reversed(graces):
        latest.append(max(0.0, min([budget - grace, *latest])))
    return latest[::-1]
