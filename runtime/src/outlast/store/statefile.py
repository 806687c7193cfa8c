"""STATE.json: the projection of the journal, kept so that a start need not read every day again.

Rules kept here: schema and checksum are checked on every read (spec.md, F4); a file that fails either is never used, and
never overwritten before it was set aside. Each node has a slot of its own with a checksum of its own, so that what git
brings of a sibling neither mixes with our own state nor, damaged, costs us ours. Files of version 1, with one state, are
read as well.

Left to others: what is in it and which of two is newer (core.state), rebuilding it (store.memory), git (cli.merge).
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2s
from pathlib import Path

import msgspec

from outlast.core.state import State
from outlast.errors import CorruptError
from outlast.store import durable, regular

__all__ = ["VERSION", "decode", "encode", "first_owner", "read_state", "read_states", "write_state"]

VERSION = 2


class _Slot(msgspec.Struct, forbid_unknown_fields=True):
    checksum: str
    state: msgspec.Raw


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    states: dict[str, msgspec.Raw]


class _First(_Slot, forbid_unknown_fields=True):
    version: int


class _Head(msgspec.Struct):
    version: int


class _Node(msgspec.Struct):
    node: str


class _Owned(msgspec.Struct):
    state: _Node


def _checksum(state: bytes) -> str:
    """Over the bytes without the white space between them: how the file is laid out may change, what it says may not."""
    return blake2s(msgspec.json.format(state, indent=-1), digest_size=16).hexdigest()


def _state(slot: _Slot) -> State:
    state = msgspec.json.decode(slot.state, type=State)
    if _checksum(bytes(slot.state)) != slot.checksum:
        raise CorruptError("its checksum does not match its content")
    return state


def decode(data: bytes, node: str = "") -> dict[str, State]:
    """The states of a STATE.json by node. The slot of ``node`` must be right; another one that is damaged is left out.

    Raises CorruptError that says what is wrong, also where no slot at all is right.
    """
    try:
        version = msgspec.json.decode(data, type=_Head).version
        if version > VERSION:
            raise CorruptError(f"it is of version {version}, this runtime knows {VERSION}")
        if version < VERSION:
            state = _state(msgspec.json.decode(data, type=_First))
            return {state.node: state}
        slots = msgspec.json.decode(data, type=_File).states
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptError(f"it does not parse: {error}") from error
    states: dict[str, State] = {}
    wrong: CorruptError | None = None
    for name, raw in slots.items():
        try:
            states[name] = _slot(name, bytes(raw))
        except CorruptError as error:
            if name == node:
                raise
            wrong = error
    if wrong and not states:
        raise wrong
    return states


def _slot(name: str, raw: bytes) -> State:
    try:
        state = _state(msgspec.json.decode(raw, type=_Slot))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptError(f"it does not parse: {error}") from error
    if state.node != name:
        raise CorruptError(f"the slot of {name} holds the state of {state.node}")
    return state


def encode(states: Mapping[str, State]) -> bytes:
    """The content of a STATE.json that holds these states by node; the same states give the same bytes."""
    slots = {}
    for node in sorted(states):
        state = msgspec.json.encode(states[node])
        slot = _Slot(checksum=blake2s(state, digest_size=16).hexdigest(), state=msgspec.Raw(state))
        slots[node] = msgspec.Raw(msgspec.json.encode(slot))
    return msgspec.json.format(msgspec.json.encode(_File(version=VERSION, states=slots)), indent=1) + b"\n"


def read_states(path: Path, node: str) -> dict[str, State]:
    """All that STATE.json of ``node`` holds; empty where there is none. Raises CorruptError that says why not, and OSError."""
    try:
        data = regular.read(path)
    except FileNotFoundError:
        return {}
    except regular.NotRegularError as error:
        raise CorruptError("it is no regular file") from error
    return decode(data, node)


def read_state(path: Path, node: str) -> State | None:
    """The state of ``node``, None where there is none. Raises CorruptError that says what is wrong, and OSError."""
    return read_states(path, node).get(node)


def first_owner(path: Path) -> str:
    """The node of a STATE.json of version 1, which has only one; empty for any other. Raises OSError."""
    try:
        data = path.read_bytes() if path.is_file() else b""
        return msgspec.json.decode(data, type=_Owned).state.node
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


def write_state(path: Path, state: State, others: Mapping[str, State] | None = None) -> None:
    """Replace STATE.json by this state and the ``others``, durably. Raises DurabilityError; the old file stays."""
    states = {**(others or {}), state.node: state}
    durable.replace(path, encode(states), mode=durable.SHARED_FILE)
