"""Rings of keys as text: what a key file holds, and what is handed to another node.

Rules kept here: a line a key, newest first, ``SECRET ID STATE MADE ROTATION`` with ``-`` where there is nothing; what does
not hold together is refused as a whole, and no error shows what was read.

Left to others: what the states mean (core.keys), files (store.keyring).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import cast

import msgspec

from outlast.core.keys import KEY_ID, LABEL, Key, KeyState, Ring, parse_secret
from outlast.errors import SignatureError

__all__ = ["RING_LIMIT", "Outside", "outside_text", "parse_outside", "parse_ring", "ring_text"]

RING_LIMIT = 65_536
"""The longest text of a ring, in bytes: a thousand revocations."""

_ALLOW = re.compile(r"# allow: ([a-z][a-z0-9.,_ -]*); rate: ([1-9][0-9]{0,5})")
_LATEST = 1 << 33
_LIVE = {"active": True, "accepted": True, "retired": False, "revoked": False}


class Outside(msgspec.Struct, frozen=True):
    """An outside service: the message types that it may send, how many a minute, and its keys."""

    allow: tuple[str, ...]
    rate: int
    ring: Ring


def ring_text(ring: Ring) -> str:
    """A line a key, newest first: ``SECRET ID STATE MADE ROTATION``; ``-`` where there is nothing."""
    return "".join(
        f"{key.secret.text if key.secret else '-'} {key.id} {key.state} {_moment(key.made)} {key.rotation or '-'}\n"
        for key in ring
    )


def parse_ring(text: str, made: float | None = None) -> Ring:
    """Read a ring. With ``made``, when the file was written (Unix seconds), lines may also be bare secrets, as files had
    them once: the first is active, the others accepted.

    Raises SignatureError for anything else; no text of it shows what was read.
    """
    lines = text.splitlines()
    bare = [line.split() for line in lines]
    if made is not None and bare and all(len(words) == 1 for words in bare):
        ring = tuple(
            Key(secret.id, "accepted" if number else "active", round(made, 3) - number, "", secret)
            for number, secret in enumerate(parse_secret(words[0]) for words in bare)
        )
    else:
        ring = tuple(_parse_line(line) for line in lines)
    if len({key.id for key in ring}) != len(ring):
        raise SignatureError("a key is there twice")
    if sum(key.state == "active" for key in ring) > 1:
        raise SignatureError("more than one key is active")
    return ring


def parse_outside(text: str) -> Outside:
    """Read what an outside service has: ``# allow: TYPE, TYPE; rate: NUMBER``, then its ring. Raises SignatureError."""
    first, _, rest = text.partition("\n")
    found = _ALLOW.fullmatch(first)
    if found is None:
        raise SignatureError("its first line does not say what is allowed")
    allow = tuple(word.strip() for word in found[1].split(","))
    if not all(allow):
        raise SignatureError("its first line names an empty type")
    return Outside(allow, int(found[2]), parse_ring(rest))


def outside_text(outside: Outside) -> str:
    """What :func:`parse_outside` reads."""
    return f"# allow: {', '.join(outside.allow)}; rate: {outside.rate}\n{ring_text(outside.ring)}"


def _parse_line(line: str) -> Key:
    words = line.split(" ")
    if len(words) != 5:
        raise SignatureError("a line is not SECRET ID STATE MADE ROTATION")
    secret = None if words[0] == "-" else parse_secret(words[0])
    state, rotation = words[2], "" if words[4] == "-" else words[4]
    if state not in _LIVE or (secret is not None) != _LIVE[state]:
        raise SignatureError("a key's state is not what its secret says")
    if re.match(KEY_ID, words[1]) is None or (secret and secret.id != words[1]):
        raise SignatureError("a key's id is not its own")
    if rotation and re.match(LABEL, rotation) is None:
        raise SignatureError("a rotation's label is not one")
    return Key(words[1], cast(KeyState, state), _seconds(words[3]), rotation, secret)


def _moment(made: float) -> str:
    return datetime.fromtimestamp(made, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if made else "-"


def _seconds(text: str) -> float:
    if text == "-":
        return 0.0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SignatureError("a key's time is not one") from None
    if moment.tzinfo is None:
        raise SignatureError("a key's time has no zone")
    made = round(moment.timestamp(), 3)
    # The next key is made later, and that must still be a time.
    if not 0 < made < _LATEST:
        raise SignatureError("a key's time is not one of ours")
    return made
