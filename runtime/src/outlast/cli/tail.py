"""Following the event log: the files themselves, so that it works while the node is down too."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

__all__ = ["follow"]

_LOOK = 0.2


def follow(logs: Path, lines: int, *, follow: bool) -> Iterator[str]:
    """Yield the last ``lines`` lines of the event log, then (with ``follow``) each new one, over midnight too."""
    day = max(_days(logs), default="")
    held: deque[str] = deque(maxlen=max(lines, 0))
    position, rest = 0, b""
    if day:
        data = (logs / day).read_bytes()
        position = len(data)
        *whole, rest = data.split(b"\n")
        held.extend(_text(line) for line in whole)
    yield from held
    while follow:
        time.sleep(_LOOK)
        newer = sorted(name for name in _days(logs) if name > day)
        if day:
            with open(logs / day, "rb") as stream:
                stream.seek(position)
                data = stream.read()
            position += len(data)
            *whole, rest = (rest + data).split(b"\n")
            yield from (_text(line) for line in whole)
        if newer:
            day, position, rest = newer[0], 0, b""


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace")


def _days(logs: Path) -> list[str]:
    return [path.name for path in logs.glob("[0-9]*.jsonl")] if logs.is_dir() else []
