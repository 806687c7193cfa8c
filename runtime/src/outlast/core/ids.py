"""Names for units of work: short, sortable by time, and unique without asking anybody.

``coz-1m5q8r2v7k3d``: the node that made it, then 60 bits in base 32: 42 of milliseconds, 18 of randomness.
"""

from __future__ import annotations

import re

__all__ = ["UNIT", "UNIT_TAIL", "message_id", "new_unit", "valid_unit"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# What follows the node's name: a dash and twelve characters.
UNIT_TAIL = 13
UNIT = r"^[a-z][a-z0-9-]{0,31}-[0-9a-hjkmnp-tv-z]{12}\Z"


def new_unit(node: str, now: float, random18: int) -> str:
    """Name a unit made by ``node`` at ``now`` (seconds since 1970) with 18 random bits."""
    bits = ((int(now * 1000) & ((1 << 42) - 1)) << 18) | (random18 & ((1 << 18) - 1))
    return f"{node}-" + "".join(_ALPHABET[(bits >> shift) & 31] for shift in range(55, -1, -5))


def valid_unit(text: str) -> bool:
    """Is this shaped like a unit's name? (It becomes a folder's name.)"""
    return re.fullmatch(UNIT, text) is not None


def message_id(unit: str, kind: str) -> str:
    """The idempotency key of the one message of this kind about a unit."""
    return f"{kind}_{unit}"
