"""STATE.json: the projection of the journal, kept so that a start need not read every day again.

Rules kept here: schema and checksum are checked on every read (spec.md, F4); a file that fails either is never used, and
never overwritten before it was set aside.

Left to others: what is in it (core.state), rebuilding it (store.memory).
"""

from __future__ import annotations

from hashlib import blake2s
from pathlib import Path

import msgspec

from outlast.core.state import State
from outlast.errors import CorruptError
from outlast.store import durable

__all__ = ["VERSION", "read_state", "write_state"]

VERSION = 1


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    checksum: str
    state: State


class _Head(msgspec.Struct):
    version: int


def _checksum(state: State) -> str:
    return blake2s(msgspec.json.encode(state), digest_size=16).hexdigest()


def read_state(path: Path) -> State | None:
    """Read STATE.json; None where there is none. Raises CorruptError that says what is wrong, and OSError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except IsADirectoryError as error:
        raise CorruptError("it is a folder") from error
    try:
        version = msgspec.json.decode(data, type=_Head).version
        if version > VERSION:
            raise CorruptError(f"it is of version {version}, this runtime knows {VERSION}")
        file = msgspec.json.decode(data, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptError(f"it does not parse: {error}") from error
    if _checksum(file.state) != file.checksum:
        raise CorruptError("its checksum does not match its content")
    return file.state


def write_state(path: Path, state: State) -> None:
    """Replace STATE.json, durably. Raises DurabilityError; the old file stays."""
    file = _File(version=VERSION, checksum=_checksum(state), state=state)
    durable.replace(path, msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n", mode=durable.SHARED_FILE)
