"""What lies in the folder of a sub-agent, ``ticket.json``: what it is to do, what it may, and what became of it.

Rules kept here: a ticket says all that is needed to run it again; what cannot be read counts as not there; what is left of
those that are closed (output, what they made) is kept in ``var/ended``, of the newest.

Left to others: when it is written, and what follows (work.subagents).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from outlast.clock import stamp
from outlast.core.capability import AGENT_ID
from outlast.core.expect import Schema
from outlast.core.plainjson import from_json
from outlast.core.record import one_line
from outlast.errors import DurabilityError
from outlast.home import Home
from outlast.store import durable, regular
from outlast.store.events import EventLog
from outlast.work.leavings import GONE, Leavings

# fmt: off
__all__ = [
    "Ending", "Named", "Spawn", "Ticket", "Waiting", "ended_last", "ended_since", "left_open", "outward", "put_away",
    "read_ticket", "told", "write_ticket",
]
# fmt: on

TICKET = "ticket.json"
_KEEP_ENDED = 50
_SCRATCH = ("tmp", "papers")
AgentId = Annotated[str, msgspec.Meta(pattern=AGENT_ID)]
_Word = Annotated[str, msgspec.Meta(max_length=4096, pattern=r"^[^\x00]*\Z")]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=16_384, pattern=r"^[^\x00]*\Z")]
_Command = Annotated[list[_Word], msgspec.Meta(min_length=1, max_length=256)]
_Expected = Annotated[dict[str, Schema | None], msgspec.Meta(max_length=64)]


class Spawn(msgspec.Struct, forbid_unknown_fields=True):
    """Start a sub-agent as ``id``, which makes asking again safe. ``expect``: the files that it must leave, and of JSON files
    what they must be."""

    id: AgentId
    task: _Text
    command: _Command
    allow: list[str] = []
    timeout: str = ""
    heartbeat: str = ""
    expect: _Expected = {}


class Named(msgspec.Struct, forbid_unknown_fields=True):
    """One sub-agent."""

    id: AgentId


class Waiting(Named, forbid_unknown_fields=True):
    """Wait for its end."""

    seconds: Annotated[float, msgspec.Meta(ge=0, le=60)]


class Ending(Named, forbid_unknown_fields=True):
    """End it, for a reason."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Ticket(msgspec.Struct, forbid_unknown_fields=True):
    """``ticket.json``. ``made``: its output was found right, and is to be integrated; ``ended``: somebody ended it, which says
    nothing of its work. ``attempts``: how often it was begun."""

    id: str
    task: str
    command: list[str]
    allow: list[str]
    timeout_s: float
    heartbeat_s: float
    expect: dict[str, Schema | None]
    accepted: str
    attempts: int = 0
    status: Literal["queued", "made", "done", "failed", "ended"] = "queued"
    detail: str = ""
    ended: str = ""
    exit_code: int | None = None


def read_ticket(folder: Path) -> Ticket | None:
    """What the folder of a sub-agent says."""
    try:
        return from_json(regular.read(folder / TICKET), Ticket)
    except (OSError, ValueError):
        return None


def write_ticket(folder: Path, ticket: Ticket) -> None:
    """Say it. Raises DurabilityError."""
    durable.replace(folder / TICKET, msgspec.json.encode(ticket) + b"\n")


def put_away(home: Home, name: str, leavings: Leavings) -> None:
    """A closed sub-agent's folder to ``var/ended``, where the newest are kept. Done already is fine. Raises DurabilityError."""
    folder, target = home.subagents / name, home.ended / name
    for scratch in _SCRATCH:
        leavings.put(folder / scratch)
    durable.make_dir(home.ended)
    if folder.is_dir() and not target.exists():
        durable.move(folder, target)
    # Their names are in the order in which they were made.
    for old in sorted(_ended(home))[:-_KEEP_ENDED]:
        leavings.put(home.ended / old)


def left_open(home: Home, leavings: Leavings, now: float, events: EventLog) -> Iterator[Ticket]:
    """What a stop left open, oldest first. What was closed is put away, and is among it only where the disk takes nothing; what
    cannot be read was never accepted, and is set aside. ``now``: seconds since 1970. Raises nothing."""
    names = sorted(os.listdir(home.subagents)) if home.subagents.is_dir() else []
    for name in names:
        if name.startswith(GONE):
            continue
        ticket = read_ticket(home.subagents / name)
        if ticket is not None and ticket.id != name:
            ticket = None
        try:
            if ticket is None:
                durable.set_aside(home.subagents / name, home.trash, stamp(now))
            elif ticket.ended:
                put_away(home, name, leavings)
                ticket = None
        except DurabilityError as error:
            # That keeps no node from starting.
            events.emit("subagent.stuck", name=name, error=str(error))
        if ticket is not None:
            yield ticket


def ended_since(home: Home, since: float) -> list[tuple[float, bool]]:
    """When those that are kept ended after ``since`` (seconds since 1970), and whether they were done; oldest first."""
    found = []
    for name in _ended(home):
        ticket = read_ticket(home.ended / name)
        if ticket is not None and ticket.status in ("done", "failed"):
            with contextlib.suppress(ValueError):
                found.append((datetime.fromisoformat(ticket.ended).timestamp(), ticket.status == "done"))
    return sorted(one for one in found if one[0] > since)


def ended_last(home: Home) -> list[dict[str, Any]]:
    """Those that are kept, and how they ended; the last one first."""
    found = [ticket for name in _ended(home) if (ticket := read_ticket(home.ended / name)) and ticket.ended]
    about = ("id", "status", "detail", "ended", "attempts", "exit_code")
    return [
        {**{name: getattr(ticket, name) for name in about}, "task": one_line(ticket.task, 80)}
        for ticket in sorted(found, key=lambda one: one.ended, reverse=True)
    ]


def outward(detail: str) -> str:
    """Why it failed without what it printed last, which may be a secret: alerts go to services of others, and to peers."""
    exit_code = re.match(r"exit -?\d+(?=: )", detail)
    return exit_code[0] if exit_code else detail


def told(ticket: Ticket) -> dict[str, Any]:
    """What is said of one."""
    plain: dict[str, Any] = msgspec.to_builtins(ticket)
    return plain


def _ended(home: Home) -> Iterator[str]:
    if home.ended.is_dir():
        yield from (name for name in os.listdir(home.ended) if re.match(AGENT_ID, name))
