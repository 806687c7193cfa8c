"""Metrics as small curves: lines of the metrics log, folded into few points.

Rules kept here: of each stretch of time the greatest value is shown, because a peak is what somebody looks for; where nothing
was measured there is no point, and never a zero.

Left to others: measuring and keeping (store.metrics), drawing (page/page.js).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

__all__ = ["POINTS", "WINDOW_S", "curves"]

WINDOW_S = 6 * 3600.0
POINTS = 72

# Name in a line, what people call it, its unit, what a unit of it is multiplied with.
_CURVES = (
    ("cpu", "CPU", "%", 1.0),
    ("rss", "Memory", "MiB", 1 / (1 << 20)),
    ("disk", "Disk in use", "%", 1.0),
    ("lag", "Loop lag", "ms", 1000.0),
    ("queued", "Messages waiting", "", 1.0),
    ("done", "Work done", "a minute", 1.0),
    ("errors", "Errors", "a minute", 1.0),
)


def curves(lines: Iterable[Mapping[str, Any]], now: float) -> list[dict[str, Any]]:
    """Of each metric that was measured: ``name``, ``label``, ``unit``, ``points`` (oldest first; None where there is none).

    Together they are the last ``WINDOW_S`` seconds; ``last`` is the newest value.
    """
    began, step = now - WINDOW_S, WINDOW_S / POINTS
    points: dict[str, list[float | None]] = {}
    last: dict[str, float] = {}
    for line in lines:
        at = _moment(line)
        place = int((at - began) // step)
        if not 0 <= place <= POINTS:
            continue
        for name, value in _values(line).items():
            held = points.setdefault(name, [None] * POINTS)
            before = held[min(place, POINTS - 1)]
            held[min(place, POINTS - 1)] = value if before is None else max(before, value)
            last[name] = value
    return [
        {
            "name": name, "label": label, "unit": unit, "last": round(last[name] * factor, 2),
            "points": [None if point is None else round(point * factor, 2) for point in points[name]],
        }
        for name, label, unit, factor in _CURVES
        if name in points
    ]  # fmt: skip


def _values(line: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one line; of all kinds of work together how much was done a minute, and how much failed."""
    found = {name: float(line[name]) for name, *_ in _CURVES if isinstance(line.get(name), int | float)}
    kinds, seconds = line.get("kinds"), line.get("seconds")
    if isinstance(kinds, Mapping) and isinstance(seconds, int | float) and seconds > 0:
        told = [kind for kind in kinds.values() if isinstance(kind, Mapping)]
        for name, field in (("done", "n"), ("errors", "errors")):
            counts = [kind[field] for kind in told if isinstance(kind.get(field), int | float)]
            found[name] = 60.0 * sum(counts) / seconds
    return found


def _moment(line: Mapping[str, Any]) -> float:
    at = line.get("at")
    if isinstance(at, int | float):
        return float(at)
    try:
        return datetime.fromisoformat(str(at)).timestamp()
    except (ValueError, OverflowError):
        return -1.0
