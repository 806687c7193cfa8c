"""What the files of the journal say as a whole: which records they hold, what is missing, what was cut, what people edited.

Rules kept here: a number is missing only where no file holds it; numbers are compared over all days, because a clock that
is set back puts later numbers into earlier days; what was reported once is not news the next time.

Left to others: reading the files and knowing which ones changed (store.days), what to do about it (store.memory).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2s

import msgspec

from outlast.core.record import Damaged, Record, is_torn, parse_day

__all__ = [
    "Digest",
    "Look",
    "Missing",
    "Seen",
    "Span",
    "Survey",
    "digest",
    "is_edited",
    "join",
    "marker",
    "missing",
    "survey",
]

Span = tuple[int, int]
Digest = str

# How a daily file says that records of it lie in an archive: see core.compaction.
_MARKER = re.compile(
    r"^- outlast: records \S+:\d+ to \d+ are in archive/(\S+\.md\.gz), sha256 ([0-9a-f]{64})\r?$",
    re.MULTILINE | re.ASCII,
)


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """One file of the journal as it was looked at: size in bytes, time of its last change in ns, what it held.

    ``spans``: the numbers of this agent's records; ``odd``: digests of its torn and damaged lines; ``parts``: how many of
    its records' archives it names.
    """

    size: int
    mtime_ns: int
    inode: int
    digest: Digest
    spans: tuple[Span, ...]
    odd: tuple[Digest, ...] = ()
    parts: int = 0

    @property
    def last(self) -> int:
        """The highest number of this agent's records in it; 0 where there is none."""
        return self.spans[-1][1] if self.spans else 0


class Missing(msgspec.Struct, frozen=True):
    """Records ``first`` to ``last``, both included, are in no file; ``days`` are those before and after them."""

    first: int
    last: int
    days: tuple[str, ...]


class Look(msgspec.Struct, frozen=True):
    """What a look found: numbers that no file holds; days that people edited; lines that are torn, and damaged records."""

    gaps: tuple[Missing, ...] = ()
    edited: tuple[str, ...] = ()
    torn: tuple[Damaged, ...] = ()
    damaged: tuple[Damaged, ...] = ()


class Survey(msgspec.Struct, frozen=True):
    """What one file holds of an agent: numbers of its records, torn lines, damaged records; and the archives it names."""

    spans: tuple[Span, ...]
    torn: tuple[Damaged, ...]
    damaged: tuple[Damaged, ...]
    archives: tuple[tuple[str, str], ...]


def digest(data: bytes | str) -> Digest:
    """A short digest, to tell whether something is what it was."""
    return blake2s(data if isinstance(data, bytes) else data.encode("utf-8", "replace"), digest_size=8).hexdigest()


def marker(agent: str, first: int, last: int, archive: str, sha256: str) -> str:
    """The line of a daily file that says where its records are."""
    return f"- outlast: records {agent}:{first} to {last} are in archive/{archive}, sha256 {sha256}"


def join(numbers: Iterable[int]) -> tuple[Span, ...]:
    """The spans that these numbers make, in order."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return tuple((first, last) for first, last in spans)


def survey(day: str, text: str, agent: str) -> Survey:
    """Look through the daily file of ``day``."""
    parsed = list(parse_day(day, text))
    whole = [one for one in parsed if isinstance(one, Record)]
    signed = f"[{agent}:"
    # Cheap and rough first: a line that begins like a record is looked at only where the records do not account for it.
    suspects = text.count("\n- ") + text.startswith("- ") > len(parsed) or "\0" in text
    torn = [line for line in text.split("\n") if is_torn(line, agent)] if suspects else []
    return Survey(
        join(record.seq for record in whole if record.agent == agent),
        tuple(Damaged(day, line) for line in torn),
        tuple(one for one in parsed if isinstance(one, Damaged) and signed in one.line),
        tuple((match[1], match[2]) for match in _MARKER.finditer(text)),
    )


def is_edited(old: Seen, new: Seen, beginning: Digest) -> bool:
    """Whether a daily file was changed otherwise than by appending; ``beginning`` is of as many bytes as it had before.

    Archiving records of it is our own doing.
    """
    return old.parts == new.parts and beginning != old.digest


def missing(files: Iterable[tuple[str, tuple[Span, ...]]], last: int = 0) -> tuple[Missing, ...]:
    """The numbers from 1 to the highest known one (at least ``last``) that no file holds. ``files``: days and their spans."""
    spans = sorted((first, end, day) for day, held in files for first, end in held)
    found: list[Missing] = []
    due, before = 1, ""
    for first, end, day in spans:
        if first > due:
            found.append(Missing(due, first - 1, tuple(sorted({before, day} - {""}))))
        if end >= due:
            due, before = end + 1, day
    if last >= due:
        found.append(Missing(due, last, (before,) if before else ()))
    return tuple(found)
