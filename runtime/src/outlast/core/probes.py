"""Probes as values: what answers in a row mean, what follows, when each is asked again, and whether a subject works.

Rules kept here: a probe has failed after ``failures`` bad answers in a row and is well after ``passes`` good ones (hysteresis
both ways), so that one odd answer changes nothing; a new process is judged by its own answers; restarting what restarts do
not help is told to a person; a probe that was missed is not made up for. That something answers (*up*) and that it does its
work (*working*) are two things.

Left to others: asking (work.asking), and doing what follows (work.probes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

__all__ = [
    "ALIVE",
    "LEVELS",
    "PROGRESS",
    "QUALITY",
    "RESPONDING",
    "Answer",
    "Condition",
    "Rule",
    "Seen",
    "Standing",
    "State",
    "Then",
    "follows",
    "idle",
    "is_down",
    "judge",
    "level_of",
    "next_ask",
    "renewed",
    "restarted",
    "stand",
]

ALIVE, RESPONDING, PROGRESS, QUALITY = 1, 2, 3, 4
LEVELS = {ALIVE: "alive", RESPONDING: "responding", PROGRESS: "progress", QUALITY: "quality"}
# So many restarts in a row that did not help are for a person to look at.
_HELPLESS = 2

Then = Literal["restart", "degrade", "alert"]
State = Literal["working", "up, not working", "not working", "down", "not looked at"]


@dataclass(frozen=True, slots=True)
class Rule:
    """How a probe's answers are judged, and what is done then. ``every``: seconds; None: whenever work was completed."""

    level: int
    failures: int
    then: Then
    every: float | None
    passes: int = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe found. ``up``: did something answer at all? None where that cannot be told."""

    ok: bool
    text: str
    up: bool | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """Where a probe stands. ``ok`` is None until it is known; ``since`` and ``at`` are seconds since 1970.

    ``failures`` and ``passes``: answers in a row; ``restarts``: what was restarted for it since it was last well.
    """

    ok: bool | None = None
    failures: int = 0
    passes: int = 0
    since: float | None = None
    at: float | None = None
    text: str = ""
    up: bool | None = None
    restarts: int = 0


def judge(before: Condition, answer: Answer, rule: Rule, now: float) -> Condition:
    """The condition after one more answer at ``now`` (seconds since 1970)."""
    failures = 0 if answer.ok else before.failures + 1
    passes = before.passes + 1 if answer.ok else 0
    ok = before.ok
    if failures >= rule.failures:
        ok = False
    elif passes and (before.ok is None or passes >= rule.passes):
        ok = True
    since = now if ok != before.ok else before.since
    restarts = 0 if ok else before.restarts
    return Condition(ok, failures, passes, since, now, answer.text, answer.up, restarts)


def follows(now: Condition, rule: Rule) -> frozenset[Then]:
    """What is to be done, or holds, after an answer. A restart is due each time as many failures came together."""
    if now.ok is not False:
        return frozenset()
    if rule.then != "restart":
        return frozenset({rule.then})
    due: set[Then] = {"restart"} if now.failures and now.failures % rule.failures == 0 else set()
    return frozenset(due | ({"alert"} if now.restarts >= _HELPLESS else set()))


def idle(service: Mapping[str, Any]) -> str:
    """Why a service, as its supervisor tells of it, does not run and need not; empty where it is to run."""
    state = service.get("state")
    if state == "shed" or (state == "ended" and service.get("last_exit") == 0):
        return f"{state}: {service.get('last_reason') or 'not started yet'}"
    return ""


def renewed(before: Condition) -> Condition:
    """What is probed was started anew: the answers of the one before do not count against it."""
    return replace(before, failures=0, passes=0)


def restarted(before: Condition) -> Condition:
    """It was restarted because of this probe."""
    return replace(renewed(before), restarts=before.restarts + 1)


def next_ask(now: float, every: float, pace: int) -> tuple[bool, float]:
    """Is it asked now, and when is it due again, in seconds of the same clock; ``pace`` as core.modes has it."""
    return pace > 0, now + every * max(pace, 1)


@dataclass(frozen=True, slots=True)
class Seen:
    """One level of a subject: of several probes the one that failed, or is not known yet, or was asked last."""

    level: int
    condition: Condition


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a subject works. ``since``: seconds since 1970; ``text``: the answer that says so."""

    state: State
    since: float | None
    text: str


def level_of(level: int, conditions: Iterable[Condition]) -> Seen:
    """What one level's probes say together: failed where one has failed, well where all are."""
    rank = {False: 0, None: 1, True: 2}
    return Seen(level, min(conditions, key=lambda one: (rank[one.ok], -(one.at or 0.0))))


def stand(levels: Mapping[int, Seen]) -> Standing:
    """Does it work, is it only up, or is it down?"""
    conditions = [seen.condition for _, seen in sorted(levels.items())]
    failed = [one for one in conditions if one.ok is False]
    if failed:
        first = failed[0]
        since = min((one.since for one in failed if one.since is not None), default=None)
        return Standing("down" if is_down(levels) else _short_of_working(levels), since, first.text)
    if not conditions or any(one.ok is None for one in conditions):
        text = next((one.text for one in conditions if one.ok is None and one.text), "")
        return Standing("not looked at", None, text)
    newest = max(conditions, key=lambda one: one.since or 0.0)
    return Standing("working", newest.since, conditions[-1].text)


def _short_of_working(levels: Mapping[int, Seen]) -> State:
    """It fails at what it is for; that it is up is said only where that is known."""
    up = [seen.condition.up for seen in levels.values() if seen.condition.up is not None]
    alive = ALIVE in levels and levels[ALIVE].condition.ok is True
    return "up, not working" if alive or any(up) else "not working"


def is_down(levels: Mapping[int, Seen]) -> bool:
    """Is there nothing that could work: no process, or where none is known of, nobody who answers?"""
    if ALIVE in levels:
        return levels[ALIVE].condition.ok is False
    told = [seen.condition for seen in levels.values() if seen.condition.up is not None]
    return bool(told) and all(one.ok is False and one.up is False for one in told)
