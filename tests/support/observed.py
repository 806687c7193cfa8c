"""What a node wrote down of itself, read line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.live import LiveNode

__all__ = ["OBSERVE", "lines", "spans"]

# So that a test need not wait.
OBSERVE = {"metrics_every": "500ms"}


def lines(folder: Path, pattern: str = "*.jsonl") -> list[dict[str, Any]]:
    """Every line of these files, none of which may be damaged."""
    return [json.loads(line) for path in sorted(folder.glob(pattern)) for line in path.read_text().splitlines()]


def spans(node: LiveNode) -> list[dict[str, Any]]:
    """What the node wrote to traces/."""
    return [
        span
        for line in lines(node.home.traces)
        for resource in line["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
