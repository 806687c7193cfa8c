"""The last status of each skill, from the file that it leaves: ``skills/NAME.json``.

It holds ``{"at": ISO 8601, "ok": bool, "text": …}``.

Rules kept here: agents write these files, so they are read in bounded number and size, and one that cannot be read is a skill
that is not well. Left to others: what follows from it (work.probes).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec

from outlast.clock import iso
from outlast.core.plainjson import from_json
from outlast.core.record import one_line
from outlast.store import regular

__all__ = ["Skill", "read_skills"]

_MOST, _BYTES, _TEXT = 100, 16 << 10, 200


class _File(msgspec.Struct):
    at: datetime
    ok: bool = True
    text: str = ""


class Skill(msgspec.Struct, frozen=True):
    """One skill. ``at``: ISO 8601, UTC, empty where it cannot be known; ``fresh``: it counts as one that runs."""

    at: str
    ok: bool
    text: str
    fresh: bool


def read_skills(folder: Path, now: float, fresh: float) -> dict[str, Skill]:
    """Every skill by its name, sorted. ``now``: seconds since 1970; ``fresh``: seconds."""
    try:
        paths = sorted(folder.glob("[!.]*.json"))[:_MOST]
    except OSError:
        return {}
    return {one_line(path.stem, 64): _read(path, now, fresh) for path in paths}


def _read(path: Path, now: float, fresh: float) -> Skill:
    try:
        with regular.opened(path) as stream:
            found = from_json(stream.read(_BYTES), _File)
        at = found.at.timestamp()
        return Skill(iso(at), found.ok, one_line(found.text, _TEXT), abs(now - at) <= fresh)
    except (OSError, ValueError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        return Skill("", ok=False, text=one_line(f"its status cannot be read: {why}", _TEXT), fresh=False)
