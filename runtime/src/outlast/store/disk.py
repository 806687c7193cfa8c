"""How full a disk is, in one system call.

Rules kept here: what is counted is what the node's user can have: blocks that are reserved for root are neither free nor
used. Left to others: what follows from it (core.modes, core.cleaning).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Usage", "usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Free bytes, and how many percent are used, with one digit after the point."""

    free: int
    percent: float


def usage(path: Path) -> Usage:
    """How full the disk is that ``path`` lies on. Raises OSError."""
    found = os.statvfs(path)
    used = found.f_blocks - found.f_bfree
    whole = used + found.f_bavail
    return Usage(found.f_bavail * found.f_frsize, round(100.0 * used / whole, 1) if whole else 0.0)
