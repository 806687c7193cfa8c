"""What a start does about units that the last stop left open: a pure plan from what is known to what is on the disk.

Rules kept here (spec.md, section 3): a verdict that reached the disk is carried through, never worked out again; an agent
that was cut off runs again only where its owner said that this is safe, and not for ever; what nobody can know is *in
doubt*, and is said.

Left to others: finding the evidence and doing the plan (work.tasks, work.handoffs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Handoff", "Plan", "Task", "plan_handoff", "plan_task"]

Action = Literal["finish", "run", "close"]


@dataclass(frozen=True, slots=True)
class Task:
    """The evidence of a task that this node was given. ``attempts``: how often its agent was started."""

    accepted: bool
    result: bool
    attempts: int


@dataclass(frozen=True, slots=True)
class Handoff:
    """The evidence of a hand-off that this node made.

    ``sent``: its message waits in the outbox, or was delivered; ``ledger``: the ledger that would tell is the old one.
    """

    sent: bool
    ledger: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """``finish``: carry the verdict through; ``run``: (again); ``close`` with this verdict. ``told`` is for people."""

    action: Action
    told: str = ""
    verdict: Literal["failed", "in doubt"] = "failed"


def plan_task(task: Task, *, rerun: bool, attempts: int) -> Plan:
    """What to do about an open task. ``rerun``: its agent may run again; ``attempts``: how often it may be started."""
    if task.result:
        return Plan("finish", "its agent had ended, the rest was carried through")
    if not task.accepted:
        return Plan("close", "its text was lost before it was acknowledged", "failed")
    if task.attempts == 0:
        return Plan("run", "it was accepted and not begun, it runs now")
    if not rerun:
        return Plan("close", "its agent was cut off; what it had done by then is not known", "in doubt")
    if task.attempts >= attempts:
        return Plan("close", f"its agent was cut off {task.attempts} times", "in doubt")
    return Plan("run", "its agent was cut off, it runs again")


def plan_handoff(handoff: Handoff) -> Plan | None:
    """What to do about an open hand-off; None where its message is on its way."""
    if handoff.sent:
        return None
    if not handoff.ledger:
        return Plan("close", "the ledger was lost; whether it was sent is not known", "in doubt")
    # Almost always the node stopped before it was queued. A damaged ledger can look the same: what is not known is not said.
    return Plan("close", "the ledger has no trace of it; it was most likely never sent", "in doubt")
