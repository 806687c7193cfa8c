"""The two tokens that open the gateway: made on the node, read from files, never anywhere else.

Rules kept here: 256 bits each; mode 0600, durable; ``ensure`` changes no token that is there and whole, and a file that is not
is an error, never replaced; a new token is put in the place of the old one by whoever has the gateway take it (``replace``).

Left to others: having the gateway take them (openclaw.rotating), the folder they lie in (roles/openclaw).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from outlast.core.plainjson import from_json
from outlast.errors import KeyFileError
from outlast.openclaw import ingress
from outlast.openclaw.place import Place
from outlast.store import durable, regular

__all__ = [
    "Change",
    "Pair",
    "change",
    "current",
    "ensure",
    "gateway",
    "hooks",
    "new",
    "replace_gateway",
    "replace_hooks",
]

_T = TypeVar("_T")
_BYTES = 32
_Token = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{16,512}\Z")]


class _Gateway(msgspec.Struct, frozen=True):
    token: _Token


class _Tokens(msgspec.Struct, frozen=True):
    gateway: _Gateway


class _Hooks(msgspec.Struct, frozen=True):
    token: _Token


class Pair(msgspec.Struct, frozen=True):
    """One token that is changed into another."""

    old: _Token
    new: _Token


class Change(msgspec.Struct, frozen=True):
    """What is changed; while it is on the disk, either may be what a running gateway takes."""

    gateway: Pair
    hooks: Pair


def change(place: Place) -> Change | None:
    """What is being changed now; None where nothing is. Raises KeyFileError."""
    return None if _is_missing(place.rotation) else _read(place.rotation, Change)


def current(place: Place, which: Literal["gateway", "hooks"]) -> Iterator[str]:
    """What a running gateway may take, at least one: the token of its file, and while it is changed the new and the old. A
    change that is not of that token (it came back with a backup) does not keep it from being tried.

    The files are read again after each: a change may begin, or end, while the one before was tried. Raises KeyFileError.
    """
    tried: list[str] = []
    while True:
        own = gateway(place) if which == "gateway" else hooks(place)
        known = [own]
        if (now := change(place)) is not None:
            pair: Pair = getattr(now, which)
            # The gateway may take the new one between the two questions.
            known = [*([] if own in (pair.old, pair.new) else [own]), pair.new, pair.old, pair.new]
        fresh = [token for token in known if token not in tried]
        left = fresh or [token for token in known if tried.count(token) < known.count(token)]
        if not left:
            return
        tried.append(left[0])
        yield left[0]


def new() -> str:
    """A new token."""
    return secrets.token_urlsafe(_BYTES)


def gateway(place: Place) -> str:
    """The token that opens the gateway. Raises KeyFileError."""
    return _read(place.tokens, _Tokens).gateway.token


def hooks(place: Place) -> str:
    """The token that opens its hooks. Raises KeyFileError."""
    return _read(place.hooks, _Hooks).token


def ensure(place: Place) -> list[str]:
    """Make what is missing; the files that were made, or say something else now.

    Raises KeyFileError, DurabilityError.
    """
    made = []
    durable.make_dir(place.folder)
    if _is_missing(place.tokens):
        replace_gateway(place, new())
        made.append(place.tokens.name)
    if _is_missing(place.hooks):
        replace_hooks(place, new())
        made.append(place.hooks.name)
    gateway(place)
    token = hooks(place)
    if json.loads(regular.read(place.hooks)) != ingress.held(place, token):
        # Another agent, or a newer release of ours, takes more than it did.
        replace_hooks(place, token)
        made.append(place.hooks.name)
    return made


def replace_gateway(place: Place, token: str) -> None:
    """Put a token in the place of the one that opens the gateway. Raises DurabilityError."""
    _write(place.tokens, {"gateway": {"token": token}})


def replace_hooks(place: Place, token: str) -> None:
    """Put a token in the place of the one that opens the hooks; the gateway takes it by itself. Raises DurabilityError.

    What else is in the file is made anew: it holds nothing that is not known here.
    """
    _write(place.hooks, ingress.held(place, token))


def _write(path: Path, value: dict[str, Any]) -> None:
    durable.replace(path, json.dumps(value, indent=2).encode() + b"\n")


def _is_missing(path: Path) -> bool:
    return not path.exists() and not path.is_symlink()


def _read(path: Path, type: type[_T]) -> _T:
    mend = "set it aside, then: outlast openclaw tokens --ensure"
    try:
        if path.stat().st_mode & 0o077:
            raise KeyFileError(
                str(path), "others may read it", f"chmod 600 {path}, and change the token: rotate-keys.yml"
            )
        return from_json(regular.read(path), type)
    except FileNotFoundError:
        raise KeyFileError(str(path), "there is no such file", "make it: outlast openclaw tokens --ensure") from None
    except OSError as error:
        raise KeyFileError(str(path), f"it cannot be read ({error.strerror})", "run this as the node's user") from error
    except ValueError:
        # What it holds is not repeated: it may be the token.
        raise KeyFileError(str(path), "it does not hold a token", mend) from None
