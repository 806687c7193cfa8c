"""Spans: ``traces/YYYY-MM-DD.jsonl``, one ExportTraceServiceRequest of OTLP's JSON a line.

Rules kept here: spans wait for each other a moment and are written together, so that work costs few writes; at most one batch
is ever waiting; a day's file ends at its limit; what cannot be written is counted and left out, and stops nobody.

Left to others: what is a span (core.spans), old files (core.retention).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outlast import __version__
from outlast.clock import Clock
from outlast.core.spans import request, span
from outlast.store import durable
from outlast.store.lines import append, day_of

__all__ = ["Spans"]

_BATCH = 128
_WAIT_S = 2.0


class Spans:
    """The spans of one node in ``folder``. ``limit``: bytes a day may hold."""

    def __init__(self, folder: Path, node: str, clock: Clock, limit: int) -> None:
        self.dropped = 0
        # While the node stops nobody comes back for what waits.
        self.hurry = False
        self._folder = folder
        self._node = node
        self._clock = clock
        self._limit = limit
        self._waiting: list[dict[str, Any]] = []
        self._timer: asyncio.TimerHandle | None = None

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take the span that ends with this event, if one does."""
        made = span(event)
        if made is None:
            return
        self._waiting.append(made)
        if self.hurry or len(self._waiting) >= _BATCH:
            self.flush()
        elif self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(_WAIT_S, self.flush)
            except RuntimeError:
                # No loop runs yet: whoever starts it writes them.
                return

    def flush(self) -> None:
        """Write what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        path = self._folder / f"{day_of(self._clock.time())}.jsonl"
        line = request(self._node, __version__, waiting) + b"\n"
        if not (append(path, line, self._limit) or (self._made() and append(path, line, self._limit))):
            self.dropped += len(waiting)

    def _made(self) -> bool:
        """Make the folder, where it is not there. Not durably: what is in it is not either."""
        try:
            os.mkdir(self._folder, durable.SHARED_FOLDER)
        except OSError:
            return False
        return True
