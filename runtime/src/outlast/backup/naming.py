"""Names of what is made again and again: ``PREFIX-TIME.tar.gz``, ``PREFIX-TIME-NUMBER.tar.gz``.

Rules kept here: the order of the names is the order in which they were made, also where the clock went back: what is made then
has the time of the newest one, and the next number. Left to others: how many stay, and that two are not made at once.
"""

from __future__ import annotations

import re
from pathlib import Path

from outlast.clock import stamp

__all__ = ["following", "newest_first"]

_TIME = re.compile(r"(\d{8}T\d{6}Z)(?:-(\d+))?\.tar\.gz")


def newest_first(folder: Path, prefix: str) -> list[Path]:
    """Those of this name that there are. Raises OSError."""
    return [path for _, path in sorted(_found(folder, prefix), reverse=True)]


def following(folder: Path, prefix: str, now: float) -> Path:
    """A name above all that there are. Raises OSError."""
    (last, number), _ = max(_found(folder, prefix), default=(("", 0), folder))
    made = max(stamp(now), last)
    return folder / f"{prefix}-{made}{f'-{number + 1}' if made == last else ''}.tar.gz"


def _found(folder: Path, prefix: str) -> list[tuple[tuple[str, int], Path]]:
    """With when each was made, and as which of that moment."""
    named = (
        (_TIME.fullmatch(path.name.removeprefix(f"{prefix}-")), path) for path in folder.glob(f"{prefix}-*.tar.gz")
    )
    return [((name[1], int(name[2] or 0)), path) for name, path in named if name]
