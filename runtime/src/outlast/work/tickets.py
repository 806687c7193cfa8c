"""What lies in the folder of a task: what is to be done (``task.json``), and what became of it (``result.json``).

Rules kept here: what cannot be read counts as not there. Left to others: writing it, and what follows (work.tasks).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from outlast.store import regular
from outlast.work.artifacts import Manifest

__all__ = ["RESULT", "TICKET", "Ticket", "read_manifest", "read_ticket"]

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
        return msgspec.json.decode(regular.read(folder / TICKET), type=Ticket)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def read_manifest(path: Path) -> Manifest | None:
    """What became of it, as the file at ``path`` says: the result, or the manifest of what was published."""
    try:
        return msgspec.json.decode(regular.read(path), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
