"""Names for units of work: short, sortable by time, and unique without asking anybody.

``coz-1m5q8r2v7k3d``: the node that made it, then 60 bits in base 32: 42 of milliseconds, 18 of randomness.
"""

from __future__ import annotations

import re
from hashlib import blake2s

__all__ = [
    "UNIT", "UNIT_TAIL", "age", "made_at", "message_id", "new_unit", "note_unit", "span_of", "trace_of", "valid_unit",
]  # fmt: skip

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# What follows the node's name: a dash and twelve characters.
UNIT_TAIL = 13
_OLDEST_S = 366 * 86400.0
UNIT = r"^[a-z][a-z0-9-]{0,31}-[0-9a-hjkmnp-tv-z]{12}\Z"


def new_unit(node: str, now: float, random18: int) -> str:
    """Name a unit made by ``node`` at ``now`` (seconds since 1970) with 18 random bits."""
    bits = ((int(now * 1000) & ((1 << 42) - 1)) << 18) | (random18 & ((1 << 18) - 1))
    return f"{node}-" + "".join(_ALPHABET[(bits >> shift) & 31] for shift in range(55, -1, -5))


def valid_unit(text: str) -> bool:
    """Is this shaped like a unit's name? (It becomes a folder's name.)"""
    return re.fullmatch(UNIT, text) is not None


def made_at(unit: str) -> float:
    """When a unit's name says that it was made, in seconds since 1970. Raises ValueError for what is no unit's name."""
    bits = 0
    for character in unit[1 - UNIT_TAIL :]:
        bits = bits << 5 | _ALPHABET.index(character)
    return (bits >> 18) / 1000


def age(unit: str, now: float) -> float:
    """How many seconds ago a unit's name says that it was made; 0 where that cannot be: a name may be chosen."""
    seconds = now - made_at(unit) if valid_unit(unit) else 0.0
    return round(seconds, 3) if 0 < seconds < _OLDEST_S else 0.0


def message_id(unit: str, kind: str) -> str:
    """The idempotency key of the one message of this kind about a unit."""
    return f"{kind}_{unit}"


def trace_of(unit: str) -> str:
    """The trace of a unit that began here: the same for the same name, so that none is kept and no restart loses it."""
    return blake2s(f"trace {unit}".encode(), digest_size=16).hexdigest()


def span_of(unit: str, part: str) -> str:
    """The span of one part of a unit (``handoff``, ``task``, ``agent 1``)."""
    return blake2s(f"span {part} {unit}".encode(), digest_size=8).hexdigest()


def note_unit(sender: str, msg_id: str) -> str:
    """Under which name the journal has a note: the one that its sender gave it, else one that its id leads to."""
    kind, _, unit = msg_id.partition("_")
    # Who is called "note" could choose the name of somebody else's.
    if kind == "note" and sender != "note" and valid_unit(unit) and unit[:-UNIT_TAIL] == sender:
        return unit
    bits = int.from_bytes(blake2s(f"{sender} {msg_id}".encode(), digest_size=8).digest())
    return "note-" + "".join(_ALPHABET[(bits >> shift) & 31] for shift in range(55, -1, -5))
