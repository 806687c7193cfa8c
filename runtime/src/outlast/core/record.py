"""The grammar of a journal record: one Markdown list item that a person reads and a parser checks.

``- 14:03:07 INTENT coz-1m5q8r2v7k3d from coz: host report [axiom:41 9c1d22ab]``

Rules kept here: one record is one line; its checksum covers the day, the time, and everything before it, so that a
record that was edited, torn, or moved to another day is noticed; anything that is not shaped like a record is people's
or agents' own text, and none of our business. Every byte is read by agents whose owner pays for it, so a record is short.

Left to others: where the lines are kept (store.journal), what they mean (core.state).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2s

import msgspec

__all__ = ["Damaged", "Record", "Step", "format_record", "one_line", "parse_line"]

# Time, step, unit, what, agent, sequence number, checksum.
_SHAPE = re.compile(r"- (\d\d:\d\d:\d\d) ([A-Z]+) ([a-z0-9-]+) (.*) \[([a-z][a-z0-9-]*):(\d+) ([0-9a-f]{8})\]")
_SUM = len(" 9c1d22ab]")
_WHAT_LIMIT = 160


class Step(StrEnum):
    """What a record says of its unit of work (spec.md, section 3)."""

    INTENT = "INTENT"
    CONFIRM = "CONFIRM"
    RECOVER = "RECOVER"
    NOTE = "NOTE"


_STEPS = dict(Step.__members__)


# A start may read a hundred thousand of them: made four times as fast as a frozen dataclass, and nothing for the collector.
class Record(msgspec.Struct, frozen=True, gc=False):
    """One thing worth remembering. ``day`` is YYYY-MM-DD and ``time`` HH:MM:SS, both in the node's own zone."""

    day: str
    time: str
    step: Step
    unit: str
    what: str
    agent: str
    seq: int


@dataclass(frozen=True, slots=True)
class Damaged:
    """A line that has a record's shape but not its checksum."""

    day: str
    line: str


def one_line(text: str, limit: int = _WHAT_LIMIT) -> str:
    """Make ``text`` fit for one line of at most ``limit`` characters: white space folded, control characters dropped."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    folded = " ".join(text.split())
    return folded if len(folded) <= limit else folded[: limit - 1].rstrip() + "…"


def _checksum(day: str, head: str) -> str:
    return blake2s(f"{day} {head}".encode(), digest_size=4).hexdigest()


def format_record(record: Record) -> str:
    """Write a record as its line, without the line's end."""
    head = f"- {record.time} {record.step} {record.unit} {one_line(record.what) or '-'} [{record.agent}:{record.seq}"
    return f"{head} {_checksum(record.day, head)}]"


def parse_line(day: str, line: str) -> Record | Damaged | None:
    """Read one line of the daily file of ``day``: a record, a damaged record, or (None) somebody's own text."""
    # Most lines of people's own are told by their ends alone.
    if line[:2] != "- " or line[-1:] != "]" or (match := _SHAPE.fullmatch(line)) is None:
        return None
    time, name, unit, what, agent, seq, checksum = match.groups()
    step = _STEPS.get(name)
    if step is None or _checksum(day, line[:-_SUM]) != checksum:
        return Damaged(day, line)
    return Record(day, time, step, unit, what, agent, int(seq))
