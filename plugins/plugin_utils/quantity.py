"""Sizes and durations as operators write them, in base units."""

from __future__ import annotations

import re

__all__ = ["readable", "seconds", "size_bytes"]

_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_TIMES = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def size_bytes(text: str) -> int:
    """Bytes in `500MiB` and the like; raises ValueError that names the units."""
    return int(_parse(text, _SIZES))


def seconds(text: str) -> float:
    """Seconds in `30s` and the like; raises ValueError that names the units."""
    return _parse(text, _TIMES)


def readable(size: int) -> str:
    """Bytes for people: `0 B`, `1.4 MiB`."""
    for unit, factor in reversed(_SIZES.items()):
        if abs(size) >= factor > 1:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def _parse(text: str, units: dict[str, float] | dict[str, int]) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", str(text))
    if match is None or match[2] not in units:
        raise ValueError(f"{text!r} is not a number with one of the units {', '.join(units)}")
    return float(match[1]) * units[match[2]]
