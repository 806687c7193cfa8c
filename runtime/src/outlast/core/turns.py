"""What is to be done about one message for OpenClaw's agent, told from what we wrote down and what the gateway knows.

A message is handed over once. Its session in OpenClaw bears its name and outlives the gateway, which forgets its own
idempotency keys when it ends; so the session is what tells whether a message was taken, and how its turn ended.

Rules kept here:

* nothing is handed over before our INTENT is on the disk, and nothing whose turn began in a session is handed over again;
* where neither side knows, handing over again is safe for two reasons only: the gateway is the same process that was asked, and
  the key is the same; or it is another one, whose session would say so, had the turn begun;
* what was taken and is gone is *in doubt*, and said: it may have been done, and is not done again.

Values only: moments are seconds since 1970. Left to others: asking and posting (openclaw.hooks, openclaw.rpc), the record
(openclaw.turn).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

__all__ = ["KNOWN_S", "NEW", "SLACK_S", "TAKEN_S", "Ended", "Seen", "Step", "Turn", "decide"]

Ended = Literal["", "done", "failed", "in doubt", "refused"]

# OpenClaw keeps sessions for a month; longer than this after the INTENT a missing one proves nothing.
KNOWN_S = 86_400.0
NEW = "new"
# How long a turn that was taken may take to have a session, and how far two readings of one start may be apart.
TAKEN_S, SLACK_S = 120.0, 10.0
_SAYS = {
    "failed": "its turn failed, see why: outlast logs openclaw",
    "killed": "its turn was ended",
    "timeout": "its turn took too long",
}


class Turn(msgspec.Struct, frozen=True):
    """What we wrote down. ``digest``: of what was meant, and for whom; ``text``: what is handed over for it, the same at every
    attempt, whatever release of ours makes it; ``intent``: when we meant to.

    ``gateway``: when the process was started that was asked; ``run``: what it called the turn, empty until it took it.
    ``ended``, ``detail``: what became of it.
    """

    unit: str
    digest: str
    intent: float
    gateway: float
    text: str = ""
    run: str = ""
    accepted: float = 0.0
    ended: Ended = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the gateway says: when it was started, and of the session: its ``status``, empty where it knows none, and ``new``
    where its turn did not begin: it says so on its disk before it asks a model.

    ``archived``: it was put away, which ends a turn that runs, and changes nothing of one that is done.
    """

    started: float
    status: str = ""
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """``post`` the message, ``wait`` for its end, or it is over: ``done``, ``failed``, ``in doubt``. ``why``: for people."""

    what: Literal["post", "wait", "done", "failed", "in doubt"]
    why: str = ""


def decide(turn: Turn | None, digest: str, seen: Seen, now: float) -> Step:
    """What to do about the message ``digest``; ``turn`` is None where it was never meant to be handed over."""
    if turn is not None and turn.digest != digest:
        return Step("failed", "another message was handed over under this name already")
    if turn is not None and turn.ended:
        return Step("done") if turn.ended == "done" else Step(_over(turn.ended), turn.detail)
    if seen.archived and seen.status != "done":
        return Step("failed", "its session was put away before it was done")
    if seen.status and seen.status != NEW:
        return _known(seen.status)
    if turn is None:
        return Step("post")
    same = abs(turn.gateway - seen.started) <= SLACK_S
    if seen.status == NEW:
        return Step("wait" if turn.run and same else "post")
    if turn.run:
        if same and now - turn.accepted <= TAKEN_S:
            return Step("wait")
        return Step("in doubt", "the gateway took it and knows nothing of it now: it may have been done")
    if same or now - turn.intent <= KNOWN_S:
        return Step("post")
    return Step("in doubt", "it was meant to be handed over more than a day ago, and whether it was is not known")


def _known(status: str) -> Step:
    if status == "running":
        return Step("wait")
    return Step("done") if status == "done" else Step("failed", _SAYS.get(status, f"its turn ended as {status!r}"))


def _over(ended: str) -> Literal["failed", "in doubt"]:
    return "in doubt" if ended == "in doubt" else "failed"
