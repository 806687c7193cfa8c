"""HEARTBEAT.md, which the node shares with people and with OpenClaw.

Rules kept here: the runtime writes only between its own markers, a line or two, and only when they change; in normal mode
it writes nothing, because an agent skips its costly turn when the file is empty. What others wrote is kept to the byte.
An order that a command wrote is one line, the first, and the command takes back no other.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from outlast.core.merging import HEARTBEAT_MARKS
from outlast.errors import BadInput, DurabilityError
from outlast.store import durable, regular

__all__ = ["Ordered", "asks_maintenance", "order_maintenance", "show"]

_WORD = "MAINTENANCE_MODE"
_ORDER = f"{_WORD} (by outlast maintenance on)"
_TRIES = 5
_BEGIN, _END = (mark.decode() for mark in HEARTBEAT_MARKS)


def _split(text: str) -> tuple[str, str, str]:
    """What stands before our markers, between them, and after."""
    before, begin, rest = text.partition(_BEGIN)
    own, end, after = rest.partition(_END)
    if not begin or not end:
        return text, "", ""
    return before, own.strip(), after.removeprefix("\r").removeprefix("\n")


def _read(path: Path) -> str:
    try:
        return regular.read(path).decode("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""


def asks_maintenance(path: Path) -> bool:
    """Did somebody else than the runtime write MAINTENANCE_MODE? Raises OSError."""
    before, _, after = _split(_read(path))
    return _WORD in before or _WORD in after


class Ordered(NamedTuple):
    """What became of an order: did the file change, and the line (from 1) in which somebody else asks for maintenance."""

    changed: bool
    others: int


def order_maintenance(path: Path, *, on: bool, dry: bool = False) -> Ordered:
    """Ask for maintenance, or take back what was asked this way. ``dry``: only say what would become of it.

    Nothing is written where somebody else asks already. Raises DurabilityError; BadInput for what is no file.
    """
    for _ in range(_TRIES):
        try:
            text = _read(path)
        except OSError as error:
            raise BadInput(path.name, f"it cannot be read: {error.strerror}", "make it a plain file") from error
        rest = "\n".join(line for line in text.split("\n") if line.rstrip("\r") != _ORDER)
        others = _asked_by_others(rest)
        # An order of ours that an editor moved still is one.
        asked = others > 0 or rest != text
        wanted = rest if not on else text if asked else f"{_ORDER}\n{text}"
        if wanted == text:
            return Ordered(changed=False, others=others)
        if dry or _replace(path, text, wanted):
            return Ordered(changed=True, others=others)
    raise DurabilityError(f"{path.name} could not be replaced: others rewrite it all the time")


def _asked_by_others(text: str) -> int:
    """The first line outside of our part that holds the word, from 1; 0 where none does."""
    before, _, after = _split(text)
    if _WORD not in before and _WORD not in after:
        return 0
    at = text.index(_WORD) if _WORD in before else len(text) - len(after) + after.index(_WORD)
    return text.count("\n", 0, at) + 1


def _replace(path: Path, old: str, new: str) -> bool:
    """Compare before replace: False where somebody wrote meanwhile. Raises DurabilityError, OSError."""
    data = new.encode("utf-8", errors="surrogateescape")
    return durable.replace(path, data, mode=durable.SHARED_FILE, still=lambda: _read(path) == old)


def show(path: Path, lines: str) -> bool:
    """Let the runtime's part say ``lines``; empty takes it away. True if the file changed, which it does not where somebody
    writes at the same time. Raises DurabilityError, OSError.
    """
    text = _read(path)
    before, own, after = _split(text)
    if own == lines:
        return False
    if lines and before and not before.endswith("\n"):
        before += "\n"
    part = f"{_BEGIN}\n{lines}\n{_END}\n" if lines else ""
    return _replace(path, text, f"{before}{part}{after}")
