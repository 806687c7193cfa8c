"""The grammar of a journal record: one Markdown list item that a person reads and a parser checks.

``- 14:03:07 INTENT coz-1m5q8r2v7k3d from coz: host report [axiom:41 9c1d22ab]``

Rules kept here: one record is one line, however editors have it end; its checksum covers the day, the time, and everything
before it, so that a record that was edited, torn, or moved to another day is noticed; anything that is not shaped like a
record is people's or agents' own text, and none of our business. Every byte is read by agents whose owner pays for it, so a
record is short.

Left to others: where the lines are kept (store.journal), what a whole day says (core.days), what records mean (core.state).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from hashlib import blake2s

import msgspec

__all__ = ["WHAT_LIMIT", "Damaged", "Record", "Step", "format_record", "is_torn", "one_line", "parse_day", "parse_line"]

# Digits are bounded: a number that somebody made up must not be one that int() refuses.
_SHAPE = re.compile(
    r"^(?P<head>- (?P<time>\d\d:\d\d:\d\d) (?P<step>[A-Z]+) (?P<unit>[a-z0-9-]+) (?P<what>.*) "
    r"\[(?P<agent>[a-z][a-z0-9-]*):(?P<seq>\d{1,18})) (?P<sum>[0-9a-f]{8})\]\r?$",
    re.ASCII | re.MULTILINE,
)
WHAT_LIMIT = 160


class Step(StrEnum):
    """What a record says of its unit of work (spec.md, section 3)."""

    INTENT = "INTENT"
    CONFIRM = "CONFIRM"
    RECOVER = "RECOVER"
    NOTE = "NOTE"


_STEPS = {step.value: step for step in Step}
_BEGINS = re.compile(rf"- \d\d:\d\d:\d\d (?:(?P<cut>[A-Z]+)|(?:{'|'.join(Step)}) .*)", re.ASCII)
_SIGNED = re.compile(r"\[([a-z][a-z0-9-]*):\d* ?[0-9a-f]*$", re.ASCII)


class Record(msgspec.Struct, frozen=True):
    """One thing worth remembering. ``day`` is YYYY-MM-DD and ``time`` HH:MM:SS, both in the node's own zone."""

    day: str
    time: str
    step: Step
    unit: str
    what: str
    agent: str
    seq: int


class Damaged(msgspec.Struct, frozen=True):
    """A line that is no record, though it has a record's shape (and not its checksum), or begins like one and is cut.

    ``seq`` is the number that it claims; 0 where it is cut.
    """

    day: str
    line: str
    seq: int = 0


def one_line(text: str, limit: int = WHAT_LIMIT) -> str:
    """Make ``text`` fit for one line of at most ``limit`` characters: white space folded, control characters dropped."""
    if not text.isprintable() or "  " in text or text[:1] == " " or text[-1:] == " ":
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _checksum(day: str, head: str) -> str:
    return blake2s(f"{day} {head}".encode(), digest_size=4).hexdigest()


def format_record(record: Record) -> str:
    """Write a record as its line, without the line's end."""
    what = one_line(record.what) or "-"
    head = f"- {record.time} {record.step.value} {record.unit} {what} [{record.agent}:{record.seq}"
    return f"{head} {_checksum(record.day, head)}]"


def parse_day(day: str, text: str) -> Iterator[Record | Damaged]:
    """Read the daily file of ``day``: its records and damaged records in the order of the file; own text is passed over."""
    for match in _SHAPE.finditer(text):
        head, time, step, unit, what, agent, seq, checksum = match.groups()
        if _checksum(day, head) == checksum and step in _STEPS:
            yield Record(day, time, _STEPS[step], unit, what, agent, int(seq))
        else:
            yield Damaged(day, match[0], int(seq))


def parse_line(day: str, line: str) -> Record | Damaged | None:
    """Read one line of the daily file of ``day``: a record, a damaged record, or (None) somebody's own text."""
    return next(parse_day(day, line), None) if line[:2] == "- " and "\n" not in line else None


def is_torn(line: str, agent: str) -> bool:
    """Whether ``line``, which is no record, begins like one of ``agent``'s and is cut, or holds what was never written.

    A file system may leave zeros where a crash kept data from reaching the disk.
    """
    if "\0" in line:
        return True
    begun = _BEGINS.fullmatch(line)
    if begun is None or _SHAPE.fullmatch(line):
        return False
    if begun["cut"] is not None:
        return any(step.startswith(begun["cut"]) for step in Step)
    signed = _SIGNED.search(line)
    return signed is None or signed[1] == agent
