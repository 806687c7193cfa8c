"""What lies in the folder of a task: what is to be done (``task.json``), and what became of it (``result.json``).

Rules kept here: what cannot be read counts as not there. Left to others: writing it, and what follows (work.tasks).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from outlast.core.ids import message_id, span_of, trace_of
from outlast.core.plainjson import from_json
from outlast.store import regular
from outlast.work.artifacts import Manifest

__all__ = ["RESULT", "TICKET", "Ticket", "agent_span", "read_manifest", "read_ticket", "task_span"]

TICKET, RESULT = "task.json", "result.json"


class Ticket(msgspec.Struct, forbid_unknown_fields=True):
    """``task.json``: what is to be done, for whom, and how often it was begun."""

    unit: str
    task: str
    peer: str
    trace_id: str
    accepted: str
    attempts: int = 0


def read_ticket(folder: Path) -> Ticket | None:
    """What is to be done, as this folder says."""
    try:
        return from_json(regular.read(folder / TICKET), Ticket)
    except (OSError, ValueError):
        return None


def read_manifest(path: Path) -> Manifest | None:
    """What became of it, as the file at ``path`` says: the result, or the manifest of what was published."""
    try:
        return from_json(regular.read(path), Manifest)
    except (OSError, ValueError):
        return None


def agent_span(ticket: Ticket) -> dict[str, Any]:
    """What the events of one run of the agent say of their place in the trace."""
    return {
        "trace_id": ticket.trace_id,
        "span_id": span_of(ticket.unit, f"agent {ticket.attempts}"),
        "correlation_id": ticket.unit,
        "parent_id": span_of(ticket.unit, "task"),
        "attempt": ticket.attempts,
    }


def task_span(unit: str, ticket: Ticket | None, now: float) -> dict[str, Any]:
    """The same of the task, and how long ago it was accepted, in seconds; ``now``: seconds since 1970."""
    try:
        seconds = now - datetime.fromisoformat(ticket.accepted).timestamp() if ticket else 0.0
    except ValueError:
        seconds = 0.0
    return {
        "trace_id": ticket.trace_id if ticket else trace_of(unit),
        "span_id": span_of(unit, "task"),
        "correlation_id": unit,
        "parent_id": span_of(message_id(unit, "task"), "sent"),
        "seconds": round(max(0.0, seconds), 3),
    }
