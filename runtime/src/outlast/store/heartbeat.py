"""HEARTBEAT.md, which the node shares with people and with OpenClaw.

Rules kept here: the runtime writes only between its own markers, a line or two, and only when they change; in normal mode
it writes nothing, because an agent skips its costly turn when the file is empty. What others wrote is kept to the byte.
"""

from __future__ import annotations

from pathlib import Path

from outlast.core.merging import HEARTBEAT_MARKS
from outlast.store import durable, regular

__all__ = ["asks_maintenance", "show"]

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
    return "MAINTENANCE_MODE" in before or "MAINTENANCE_MODE" in after


def show(path: Path, lines: str) -> bool:
    """Let the runtime's part say ``lines``; empty takes it away. True if the file changed. Raises DurabilityError, OSError."""
    text = _read(path)
    before, own, after = _split(text)
    if own == lines:
        return False
    if lines and before and not before.endswith("\n"):
        before += "\n"
    part = f"{_BEGIN}\n{lines}\n{_END}\n" if lines else ""
    data = f"{before}{part}{after}".encode("utf-8", errors="surrogateescape")
    durable.replace(path, data, mode=durable.SHARED_FILE)
    return True
