"""Durations and sizes as people write them (``30s``, ``256KiB``), read into base units and back."""

from __future__ import annotations

import re

__all__ = ["duration", "readable", "size", "spoken"]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def duration(text: str) -> float:
    """Read a duration into seconds. Raises ValueError whose text is ``what is wrong; the mend``."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)", text, re.ASCII)
    if match is None or float(match[1]) == 0:
        raise ValueError(f"{text!r} is not a duration; write a number above 0 and ms, s, m, h or d, such as 30s")
    return float(match[1]) * _SECONDS[match[2]]


def size(text: str) -> int:
    """Read a size into bytes. Raises ValueError whose text is ``what is wrong; the mend``."""
    match = re.fullmatch(r"(\d{1,9})(B|KiB|MiB|GiB)", text, re.ASCII)
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{text!r} is not a size; write a whole number above 0 and B, KiB, MiB or GiB, such as 256KiB")
    return int(match[1]) * _BYTES[match[2]]


def readable(size: int) -> str:
    """Write a number of bytes for people: ``0 B``, ``1.4 MiB``."""
    for unit, factor in reversed(_BYTES.items()):
        if abs(size) >= factor > 1:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def spoken(seconds: float) -> str:
    """Write a time for people, in the largest unit that it fills twice: ``90 s``, ``12 min``."""
    whole = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"
