"""Reading what the node wrote down about itself: events and metrics, of days that are over too.

Rules kept here: files are only read, so that it works while the runtime is dead; compressed ones too; a line that is damaged
is passed over; what may be read is bounded where the caller says so, and then it is the newest.

Left to others: what it means (core.report, core.timeline).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from outlast.clock import iso
from outlast.store import regular
from outlast.store.lines import day_of

__all__ = ["events", "metrics"]

_LINE = 1 << 20


def events(logs: Path, since: float, most_bytes: int | None = None) -> Iterator[dict[str, Any]]:
    """The events since a moment (seconds since 1970), oldest first; of at most so many bytes, the newest."""
    yield from _entries(logs, "", since, most_bytes)


def metrics(logs: Path, since: float, most_bytes: int | None = None) -> list[dict[str, Any]]:
    """The lines of metrics, as of the events."""
    return list(_entries(logs, "metrics-", since, most_bytes))


def _entries(folder: Path, prefix: str, since: float, most_bytes: int | None) -> Iterator[dict[str, Any]]:
    start = iso(max(0.0, since))
    paths = {path.name: path for path in folder.glob(f"{prefix}[0-9]*.jsonl*") if path.suffix in (".jsonl", ".gz")}
    first = f"{prefix}{day_of(max(0.0, since))}"
    # Of a day there may be both: what was packed is the older part.
    names = sorted(
        (name for name in paths if name >= first), key=lambda name: (name[: len(first)], not name.endswith(".gz"))
    )
    wanted, left = [], most_bytes
    for name in reversed(names):
        if left is not None and left <= 0:
            break
        wanted.append((paths[name], left))
        if left is not None:
            left -= _size(paths[name])
    for path, most in reversed(wanted):
        for line in _lines(path, most):
            try:
                entry = msgspec.json.decode(line, type=dict)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
            at = entry.get("at")
            # Written in one form, so that they compare as texts.
            if isinstance(at, str) and at >= start:
                yield entry


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _lines(path: Path, most_bytes: int | None) -> Iterator[bytes]:
    """The lines of a file, compressed or not; where that is too much, its last ones."""
    try:
        with regular.opened(path) as file:
            if path.suffix == ".gz":
                import gzip

                lines = cast("BinaryIO", gzip.GzipFile(fileobj=file))
            else:
                lines = cast("BinaryIO", file)
                if most_bytes is not None and (size := _size(path)) > most_bytes:
                    # What is left of the line that this hits is damaged, and passed over.
                    file.seek(size - most_bytes)
            while line := lines.readline(_LINE):
                yield line
    except (OSError, EOFError, zlib.error):
        # Gone, or not whole: what was read of it is told.
        return
