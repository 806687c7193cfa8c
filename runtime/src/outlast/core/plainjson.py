"""JSON of what was found on a disk, where a name need not be UTF-8: a report that names such a file must not fail for it.

Rules kept here: bytes that are no UTF-8 are shown as ``\\xff``; whatever else there is stays as it is.

Left to others: what is told.
"""

from __future__ import annotations

import msgspec

__all__ = ["to_json"]


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
