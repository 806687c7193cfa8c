"""Metrics: ``logs/metrics-YYYY-MM-DD.jsonl``, one JSON object a line.

Rules kept here: a day's file ends at its limit; what cannot be written is left out, and stops nobody.

Left to others: what is measured and when (work.observer), reading it (store.history), old files (core.retention).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outlast.clock import iso
from outlast.core.plainjson import to_json
from outlast.store.lines import append, day_of

__all__ = ["write"]


def write(logs: Path, node: str, now: float, figures: Mapping[str, Any], limit: int) -> bool:
    """Write a line of ``figures`` at ``now`` (seconds since 1970); says whether it is there. ``limit``: bytes a day."""
    line = to_json({"at": iso(now), "node": node, **figures}) + b"\n"
    return append(logs / f"metrics-{day_of(now)}.jsonl", line, limit)
