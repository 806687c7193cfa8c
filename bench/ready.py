"""How long a start takes: from exec to the first proof that work can be taken.

Rules kept here: both are asked in the same way, every millisecond; they take turns, so that drift falls on both.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen

from bench.peers import Supervisord
from bench.processes import BenchError, running, say, wait_answer
from bench.table import Figure, Goal, Row, median
from tests.support.live import pair

__all__ = ["start_to_ready"]

_REQUEST = b"GET /readyz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"


def start_to_ready(root: Path, times: int) -> list[Row]:
    """Start a node and supervisord so many times each, in folders below ``root``."""
    say(f"start to ready: {times} starts each of a node and of supervisord")
    ours, theirs, why = [], [], ""
    try:
        peer: Supervisord | None = Supervisord(root / "supervisord")
    except BenchError as error:
        peer, why = None, str(error)
    with pair(root) as (node, _):
        command = [sys.executable, "-m", "outlast.daemon", "--home", str(node.home.root)]
        address = ("127.0.0.1", node.port)
        for _ in range(times):
            ours.append(_one(lambda: running(command, root / "out.log"), lambda it: wait_answer(address, _REQUEST, it)))
            if peer is not None:
                theirs.append(_one(peer.running, peer.wait))
    beside = Figure(median(theirs) if theirs else None, "supervisord", why)
    return [Row(f"start to ready, median of {times}", "s", Figure(median(ours)), [beside], Goal(0.5))]


def _one(start: Callable[[], AbstractContextManager[Popen[bytes]]], wait: Callable[[Popen[bytes]], None]) -> float:
    """Seconds from before the start to its proof."""
    began = time.perf_counter()
    with start() as process:
        wait(process)
        return time.perf_counter() - began
