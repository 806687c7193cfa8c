"""QUEUE.md as it is read: ``[seq:142] [depends:141] [agent:code-intel] build frontend`` (spec.md, section 2).

Rules kept here: an entry that stands there is open (who is done takes it out); a line that is no entry is somebody's own text.

Left to others: merging (core.merging), running entries in their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from outlast.core.record import one_line

__all__ = ["Entry", "entries"]

_TAG = re.compile(r"\[(seq|depends|agent):\s*([^\]\s][^\]]*)\]")
_TEXT = 240


class Entry(msgspec.Struct, frozen=True):
    """Work that waits. ``depends``: the numbers of what must be done before."""

    seq: int
    depends: tuple[int, ...]
    agent: str
    text: str


def entries(lines: Iterable[str]) -> Iterator[Entry]:
    """The entries among some lines, in their order."""
    for line in lines:
        tags = dict(_TAG.findall(line))
        seq = tags.get("seq", "").strip()
        if not re.fullmatch(r"\d{1,18}", seq, re.ASCII):
            continue
        depends = tuple(int(number) for number in re.findall(r"\d{1,18}", tags.get("depends", ""), re.ASCII)[:16])
        text = _TAG.sub("", line).strip().removeprefix("- ").removeprefix("* ")
        yield Entry(int(seq), depends, one_line(tags.get("agent", ""), 64), one_line(text, _TEXT))
