"""Following the event log: the files themselves, so that it works while the node is down too.

Rules kept here: what was compressed is read as well, and a log that is compressed while it is followed was read to its end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

__all__ = ["follow"]

_LOOK = 0.2
_PACKED = ".gz"


def follow(logs: Path, lines: int, *, follow: bool) -> Iterator[str]:
    """Yield the last ``lines`` lines of the event log, then (with ``follow``) each new one, over midnight too."""
    day = max(_days(logs), default="")
    held: deque[str] = deque(maxlen=max(lines, 0))
    position, rest = 0, b""
    if day:
        data = _read(logs / day)
        position = len(data)
        *whole, rest = data.split(b"\n")
        held.extend(_text(line) for line in whole)
    yield from held
    while follow:
        time.sleep(_LOOK)
        newer = sorted(name for name in _days(logs) if name > day)
        if day and not day.endswith(_PACKED):
            data = _read(logs / day, position)
            position += len(data)
            *whole, rest = (rest + data).split(b"\n")
            yield from (_text(line) for line in whole)
        if newer:
            day, position, rest = newer[0], 0, b""


def _read(path: Path, position: int = 0) -> bytes:
    """What is in a log from there on; nothing where it is gone."""
    try:
        if path.name.endswith(_PACKED):
            import gzip

            with gzip.open(path) as packed:
                return packed.read()
        with open(path, "rb") as stream:
            stream.seek(position)
            return stream.read()
    except (FileNotFoundError, EOFError):
        return b""


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace")


def _days(logs: Path) -> list[str]:
    """The names of the days, of each the one that is still written to where there are two."""
    names = {path.name for path in logs.glob("[0-9]*.jsonl*")} if logs.is_dir() else set()
    plain = [name for name in names if name.endswith(".jsonl")]
    return plain + [name for name in names if name.endswith(f".jsonl{_PACKED}") and name[: -len(_PACKED)] not in names]
