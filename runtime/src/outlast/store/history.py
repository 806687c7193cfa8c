"""Reading what the node wrote down about itself: events and metrics, of days that are over too.

Rules kept here: files are only read, so that it works while the runtime is dead; compressed ones too; a line that is damaged
is passed over; what may be told is bounded where the caller says so, in bytes before packing, and then it is the newest.

Left to others: what it means (core.report, core.timeline).
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from outlast.clock import iso
from outlast.core.plainjson import from_json
from outlast.store import regular
from outlast.store.lines import day_of

__all__ = ["events", "metrics"]

_LINE, _CHUNK = 1 << 20, 64 << 10


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
    chosen = [paths[name] for name in names]
    for line in _lines(chosen) if most_bytes is None else _newest(chosen, most_bytes):
        try:
            entry = from_json(line, dict)
        except ValueError:
            continue
        at = entry.get("at")
        # Written in one form, so that they compare as texts.
        if isinstance(at, str) and at >= start:
            yield entry


def _newest(paths: list[Path], most_bytes: int) -> Iterator[bytes]:
    """The last lines of files that follow one another. What is left of the first line is damaged, and passed over."""
    tails: list[bytes] = []
    for path in reversed(paths):
        if most_bytes <= 0:
            break
        tails.append(_tail(path, most_bytes))
        most_bytes -= len(tails[-1])
    for tail in reversed(tails):
        yield from tail.splitlines()


def _tail(path: Path, most_bytes: int) -> bytes:
    """The last bytes of a file, as it was before it was compressed."""
    held = bytearray()
    # Gone, or not whole: what was read of it is told.
    with contextlib.suppress(OSError, EOFError, zlib.error), _opened(path) as file:
        if path.suffix != ".gz":
            file.seek(max(0, file.seek(0, os.SEEK_END) - most_bytes))
        while chunk := file.read(_CHUNK):
            held += chunk
            if len(held) > most_bytes + 4 * _CHUNK:
                del held[:-most_bytes]
    return bytes(held[-most_bytes:])


def _lines(paths: list[Path]) -> Iterator[bytes]:
    """The lines of files, compressed or not."""
    for path in paths:
        with contextlib.suppress(OSError, EOFError, zlib.error), _opened(path) as file:
            while line := file.readline(_LINE):
                yield line


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with regular.opened(path) as file:
        if path.suffix == ".gz":
            import gzip

            yield cast("BinaryIO", gzip.GzipFile(fileobj=file))
        else:
            yield cast("BinaryIO", file)
