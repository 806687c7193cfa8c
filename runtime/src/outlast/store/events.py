"""The event log: ``logs/YYYY-MM-DD.jsonl``, one JSON object a line, for people with jq and for ``outlast tail``.

Rules kept here: every entry carries trace_id, span_id and correlation_id; an idle node writes nothing; what can come in
bursts from outside (refusals) is written once a burst, with its count; a log that cannot be written never stops the work.
A secret is never passed in here.

Left to others: rotation and budgets.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from outlast.clock import Clock, iso
from outlast.core.plainjson import to_json
from outlast.store import durable

__all__ = ["EventLog"]

_BURST = 60.0


class EventLog:
    """The event log of one node in ``directory``."""

    def __init__(self, directory: Path, node: str, clock: Clock) -> None:
        self._directory = directory
        self._node = node
        self._clock = clock
        self._bursts: dict[str, tuple[float, int]] = {}

    def emit(
        self, event: str, *, trace_id: str = "", span_id: str = "", correlation_id: str = "", **fields: object
    ) -> None:
        """Write one event. ``fields`` must be plain values."""
        named = {"event": event, "trace_id": trace_id, "span_id": span_id, "correlation_id": correlation_id}
        self.emit_all([{**named, **fields}])

    def emit_all(self, events: Sequence[Mapping[str, object]]) -> None:
        """Write several events at once, each with ``event``, ``trace_id``, ``span_id`` and ``correlation_id`` first."""
        now = self._clock.time()
        start = {"at": iso(now), "node": self._node}
        lines = b"".join(to_json({**start, **event}) + b"\n" for event in events)
        day = datetime.fromtimestamp(now).astimezone().date().isoformat()
        try:
            # Without waiting: a FIFO in its place would hold us for ever.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(self._directory / f"{day}.jsonl", flags, durable.SHARED_FILE)
            try:
                os.write(fd, lines)
            finally:
                os.close(fd)
        except OSError:
            return

    def burst(self, event: str, reason: str, **fields: str) -> None:
        """Write an event of a kind that may come in floods: the first at once, then one a minute with the count."""
        now = self._clock.monotonic()
        since, count = self._bursts.get(reason, (-_BURST, 0))
        if now - since < _BURST:
            self._bursts[reason] = (since, count + 1)
            return
        self._bursts[reason] = (now, 0)
        self.emit(event, trace_id="", reason=reason, more_since_last=count, detail=fields)
