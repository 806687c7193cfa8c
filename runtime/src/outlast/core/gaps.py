"""Gaps in the journal, and what a NOTE about ``gap`` says of them (spec.md, F7).

Rules kept here: a gap that was noted as lost is dropped once all of it is noted as back.

Left to others: finding them (core.days), noting them once (work.doctor).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

__all__ = ["RESTORED", "Gap", "back_phrase", "gap_phrase", "gaps_after", "numbered"]

RESTORED = "by going back to a backup"
_LOST = re.compile(
    rf"(?P<first>\d+) to (?P<last>\d+) lost(?P<back> {RESTORED})?(?:.*; git has it in (?P<git>[0-9a-f]{{7,64}})$)?.*"
)
_BACK = re.compile(r"(?P<first>\d+) to (?P<last>\d+) are back.*")


class Gap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Records ``first`` to ``last``, both included, are not in the journal; ``git`` is the commit that has them, or empty.

    ``restored``: the node went back to a backup, and most of these numbers were never given to a record.
    """

    first: int
    last: int
    git: str = ""
    restored: bool = False


def gap_phrase(first: int, last: int, where: str, git: str) -> str:
    """What a NOTE about ``gap`` says. ``git``: the commit that has it; empty where none is known to."""
    told = f"git has it in {git}" if git else "git does not have it"
    return f"{first} to {last} lost {where}; {told}"


def back_phrase(first: int, last: int) -> str:
    """What a NOTE about ``gap`` says of records that were noted as lost and are there again."""
    return f"{first} to {last} are back"


def numbered(first: int, last: int) -> str:
    """The records of a span, for people."""
    return f"record {first}" if first == last else f"records {first} to {last}"


def gaps_after(gaps: Iterable[Gap], what: str) -> tuple[Gap, ...]:
    """The gaps that are known after a NOTE about ``gap``; one that is not understood changes nothing."""
    if lost := _LOST.fullmatch(what):
        return (*gaps, Gap(int(lost["first"]), int(lost["last"]), lost["git"] or "", bool(lost["back"])))
    if back := _BACK.fullmatch(what):
        first, last = int(back["first"]), int(back["last"])
        return tuple(gap for gap in gaps if not first <= gap.first <= gap.last <= last)
    return tuple(gaps)
