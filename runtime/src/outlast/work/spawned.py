"""What lies in the folder of a sub-agent, ``ticket.json``: what it is to do, what it may, and what became of it.

Rules kept here: a ticket says all that is needed to run it again; what cannot be read counts as not there; what is left of
those that are closed (output, what they made) is kept in ``var/ended``, of the newest.

Left to others: when it is written, and what follows (work.subagents).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from outlast.core.capability import AGENT_ID
from outlast.core.expect import Schema
from outlast.home import Home
from outlast.store import durable, regular

# fmt: off
__all__ = [
    "Ending", "Named", "Spawn", "Ticket", "Waiting", "ended_since", "put_away", "read_ticket", "remove", "told", "write_ticket",
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
        return msgspec.json.decode(regular.read(folder / TICKET), type=Ticket)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def write_ticket(folder: Path, ticket: Ticket) -> None:
    """Say it. Raises DurabilityError."""
    durable.replace(folder / TICKET, msgspec.json.encode(ticket) + b"\n")


def remove(folder: Path) -> None:
    """Remove a folder that a sub-agent wrote to, also where it took from itself the right to. What resists stays: no error."""
    if not folder.is_symlink() and folder.is_dir():
        _open_up(folder)
        for place, inside, _ in os.walk(folder):
            for name in inside:
                # A link to a folder is listed as well, and where it leads is not ours.
                if not (path := Path(place, name)).is_symlink():
                    _open_up(path)
    shutil.rmtree(folder, ignore_errors=True)


def _open_up(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.chmod(0o700)


def put_away(home: Home, name: str) -> None:
    """A closed sub-agent's folder to ``var/ended``, where the newest are kept. Done already is fine. Raises DurabilityError."""
    folder, target = home.subagents / name, home.ended / name
    for scratch in _SCRATCH:
        remove(folder / scratch)
    durable.make_dir(home.ended)
    if folder.is_dir() and not target.exists():
        durable.move(folder, target)
    # Their names are in the order in which they were made.
    for old in sorted(_ended(home))[:-_KEEP_ENDED]:
        remove(home.ended / old)


def ended_since(home: Home, since: float) -> list[tuple[float, bool]]:
    """When those that are kept ended after ``since`` (seconds since 1970), and whether they were done; oldest first."""
    found = []
    for name in _ended(home):
        ticket = read_ticket(home.ended / name)
        if ticket is not None and ticket.status in ("done", "failed"):
            found.append((datetime.fromisoformat(ticket.ended).timestamp(), ticket.status == "done"))
    return sorted(one for one in found if one[0] > since)


def told(ticket: Ticket) -> dict[str, Any]:
    """What is said of one."""
    plain: dict[str, Any] = msgspec.to_builtins(ticket)
    return plain


def _ended(home: Home) -> Iterator[str]:
    if home.ended.is_dir():
        yield from (name for name in os.listdir(home.ended) if re.match(AGENT_ID, name))
