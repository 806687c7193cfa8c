"""A home as `outlast doctor` is asked about it, with and without its own process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from outlast.cli.talk import do
from outlast.config import load_config
from outlast.home import Home
from outlast.local import Local
from support.clock import FixedClock

__all__ = ["NOON", "OUTLAST", "doctor", "numbered", "outlast", "said", "started"]

NOON = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))
OUTLAST = str(Path(sys.executable).parent / "outlast")


def outlast(home: Home, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [OUTLAST, "--home", str(home.root), *words], capture_output=True, text=True, timeout=60, check=False
    )


def doctor(home: Home, *, deep: bool = False) -> Any:
    """What the command asks for, without the time that a process of its own takes."""
    mask = os.umask(0o077)
    try:
        return do(home, "doctor", {"deep": deep})
    finally:
        os.umask(mask)


def started(home: Home, now: float = NOON) -> Local:
    """What a start of the node's parts finds and puts right."""
    return Local(load_config(home.config), home, FixedClock(now))


def numbered(home: Home, records: int = 4) -> tuple[Local, Path]:
    """The parts of a node that has just written so many records, and the daily file that holds them."""
    local = started(home)
    for number in range(records):
        local.memory.note("mode", f"degraded: {number}")
    local.memory.flush()
    (day,) = home.memory.glob("*.md")
    return local, day


def said(report: Any, about: str) -> list[str]:
    return [f"{one['found']}; {one['done']}" for one in report["findings"] if about in one["about"]]
