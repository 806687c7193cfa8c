"""The event log: ``logs/YYYY-MM-DD.jsonl``, one JSON object a line, for people with jq and for ``outlast tail``.

Rules kept here: every entry carries trace_id, span_id and correlation_id, and what is about a unit leads to its trace; an idle
node writes nothing; what can come in bursts from outside (refusals) is written once a burst, with its count; a day's log ends
at its limit, and says so; a log that cannot be written never stops the work. A secret is never passed in here.

Left to others: counting what is heard (work.observer), and what becomes of old logs (core.retention).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.clock import Clock, iso
from outlast.core.ids import trace_of, valid_unit
from outlast.core.plainjson import to_json
from outlast.store.lines import append, day_of

__all__ = ["EventLog"]

_BURST = 60.0


class EventLog:
    """The event log of one node in ``directory``. ``limit``: bytes a day may hold.

    ``heard`` is called with every event, also with those that are not written; it must not raise.
    """

    def __init__(self, directory: Path, node: str, clock: Clock, limit: int | None = None) -> None:
        self.heard: Callable[[Mapping[str, Any]], None] | None = None
        self._directory = directory
        self._node = node
        self._clock = clock
        self._limit = limit
        self._full = ""
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
        whole = [{**start, **_traced(event)} for event in events]
        self._write(now, b"".join(to_json(event) + b"\n" for event in whole))
        if self.heard is not None:
            for event in whole:
                self.heard(event)

    def _write(self, now: float, lines: bytes) -> None:
        day = day_of(now)
        path = self._directory / f"{day}.jsonl"
        if self._full == day or append(path, lines, self._limit):
            return
        try:
            full = self._limit is not None and path.stat().st_size + len(lines) > self._limit
        except OSError:
            return
        if full:
            # The last line of this day: what there is no room for any more is still counted.
            self._full = day
            ids = {"trace_id": "", "span_id": "", "correlation_id": ""}
            last = {"at": iso(now), "node": self._node, "event": "log.full", **ids, "limit_bytes": self._limit}
            append(path, to_json(last) + b"\n")

    def tell(self, event: str, **fields: object) -> None:
        """Let what happens often and is no news be counted, without writing it."""
        if self.heard is not None:
            self.heard({"at": iso(self._clock.time()), "node": self._node, "event": event, **fields})

    def burst(self, event: str, reason: str, **fields: str) -> None:
        """Write an event of a kind that may come in floods: the first at once, then one a minute with the count."""
        now = self._clock.monotonic()
        since, count = self._bursts.get(reason, (-_BURST, 0))
        if now - since < _BURST:
            self._bursts[reason] = (since, count + 1)
            self.tell(event, reason=reason)
            return
        self._bursts[reason] = (now, 0)
        self.emit(event, trace_id="", reason=reason, more_since_last=count, detail=fields)


def _traced(event: Mapping[str, object]) -> Mapping[str, object]:
    """The event, with the trace of the unit that it is about where it names none."""
    unit = event.get("correlation_id")
    if event.get("trace_id") or not isinstance(unit, str) or not valid_unit(unit):
        return event
    return {**event, "trace_id": trace_of(unit)}
