"""Reading back what the node itself keeps in ``var/`` over a start.

Rules kept here: a file that cannot be read, whatever it holds, stops nobody: it is set aside, which is an event, and its owner
begins anew.

Left to others: what a file means, writing it (store.durable), and what it means to begin anew.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TypeVar

from outlast.clock import Clock, stamp
from outlast.core.plainjson import from_json
from outlast.errors import DurabilityError
from outlast.store import durable, regular
from outlast.store.events import EventLog

__all__ = ["read_kept"]

_T = TypeVar("_T")


def read_kept(path: Path, type: type[_T], trash: Path, events: EventLog, clock: Clock, event: str) -> _T | None:
    """What a file of JSON holds; None where there is none, or none that can be read, which is told as ``event``."""
    try:
        return from_json(regular.read(path), type)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        aside = ""
        # On a disk that takes nothing it stays where it is.
        with contextlib.suppress(DurabilityError):
            aside = durable.set_aside(path, trash, stamp(clock.time())).name
        events.emit(event, error=str(error), aside=aside)
        return None
