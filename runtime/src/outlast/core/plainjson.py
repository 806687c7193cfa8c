"""JSON of what was found on a disk, where a name need not be UTF-8: a report that names such a file must not fail for it.

Rules kept here: bytes that are no UTF-8 are shown as ``\\xff``; whatever else there is stays as it is. Files that agents write,
and disks damage, are read with ``from_json``, which fails in one way whatever they hold.

Left to others: what is told, and what becomes of a file that cannot be read.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

__all__ = ["from_json", "to_json"]

_T = TypeVar("_T")


def from_json(data: bytes | str, type: type[_T]) -> _T:
    """Decode a value of this type. Raises ValueError, whatever is wrong with it."""
    try:
        # What msgspec raises for the wrong shape, and for what is no UTF-8, are ValueErrors.
        return msgspec.json.decode(data, type=type)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def to_json(value: object) -> bytes:
    """Encode a value, Structs included."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_shown(msgspec.to_builtins(value)))


def _shown(value: object) -> object:
    if isinstance(value, dict):
        return {_shown(key): _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value
