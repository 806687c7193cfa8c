"""Compaction of a daily file that has become long: what stays in it, and what is said in MEMORY.md of the rest.

Rules kept here (spec.md, sections 3 and 7): what people and agents wrote stays where it is, to the byte; records of work that
ended well are summed up by kind, peer and text; everything else (failures, doubts, what is still open, recoveries, gaps,
modes, notes) stays line by line, said once where it was the same many times. The archive has every record, and rebuilding
reads it, so records of open units may go there too. The same records give the same bytes.

Left to others: the files, their order, and crashes (store.compact).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from outlast.core.days import marker
from outlast.core.record import Record, Step, parse_day

__all__ = ["heading", "kept", "own_records", "section"]

_INTENT = re.compile(r"(?:(?P<way>from|to) (?P<peer>[a-z][a-z0-9-]*)|makes .+?): (?P<text>.*)")
_MARKED = b"- outlast: records "
_DETAILS = 4


@dataclass(slots=True)
class _Said:
    """Something that was said once or more: when first and last, and of which units."""

    first: str
    last: str
    units: list[str] = field(default_factory=list)

    @property
    def when(self) -> str:
        return self.first[:5] if self.first[:5] == self.last[:5] else f"{self.first[:5]}-{self.last[:5]}"


def own_records(day: str, data: bytes, agent: str) -> list[Record]:
    """The records of ``agent`` in a daily file, each once, by number."""
    found = parse_day(day, data.decode("utf-8", errors="replace"))
    own = {one.seq: one for one in found if isinstance(one, Record) and one.agent == agent}
    return [own[seq] for seq in sorted(own)]


def kept(day: str, data: bytes, archived: Sequence[Record], archive: str, sha256: str) -> bytes:
    """What a daily file holds once these records lie in ``archive``: all other lines, and one that says where they are."""
    gone = {(record.agent, record.seq) for record in archived}
    lines: list[bytes] = []
    at = 0
    for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
        if line.startswith(b"- "):
            one = next(parse_day(day, line.decode("utf-8", errors="replace").rstrip("\n")), None)
            if isinstance(one, Record) and (one.agent, one.seq) in gone:
                continue
        lines.append(line)
        # It follows its like, or the heading, if nobody put anything before them.
        if line.startswith(_MARKED) or (len(lines) <= 2 and (line.startswith(b"# ") or (at == 1 and line == b"\n"))):
            at = len(lines)
    if at and not lines[at - 1].endswith(b"\n"):
        at -= 1
    said = marker(archived[0].agent, archived[0].seq, archived[-1].seq, archive, sha256)
    return b"".join([*lines[:at], f"{said}\n".encode(), *lines[at:]])


def heading(day: str, agent: str, part: int) -> str:
    """How the section of MEMORY.md about one archive begins: as long as this is there, it was written."""
    return f"## {day}, {agent}, part {part}: "


def section(day: str, part: int, records: Sequence[Record], archive: str) -> str:
    """The section of MEMORY.md that sums these records up; there is at least one. ``archive``: where they are whole."""
    agent, first, last = records[0].agent, records[0].seq, records[-1].seq
    where = f"{first} to {last} summed up by outlast, whole in {archive}"
    lines = [*_work(records), *_rest(records)]
    return "\n".join([f"{heading(day, agent, part)}{where}", "", *lines, ""])


def _work(records: Iterable[Record]) -> list[str]:
    """One line for each kind of work, with how it ended well; and one for each way in which it did not."""
    what: dict[str, str] = {}
    begun: dict[str, str] = {}
    done: dict[str, dict[str, _Said]] = {}
    others: dict[tuple[str, str], _Said] = {}
    for record in records:
        if record.step is Step.INTENT:
            what.setdefault(record.unit, _kind(record.what))
            begun.setdefault(record.unit, record.time)
        elif record.step is Step.CONFIRM:
            verdict, _, detail = record.what.partition(": ")
            kind = what.get(record.unit, "begun before")
            begun.pop(record.unit, None)
            if verdict == "done":
                _say(done.setdefault(kind, {}), detail, record)
            else:
                _say(others, (kind, record.what), record)
    for unit, at in begun.items():
        others.setdefault((what[unit], "still open"), _Said(at, at)).units.append(unit)
    lines = []
    for kind, details in done.items():
        total = Counter({detail: len(said.units) for detail, said in details.items()})
        when = _Said(min(said.first for said in details.values()), max(said.last for said in details.values())).when
        lines.append(f"- {kind}: {total.total()} done {when}{_details(total)}")
    for (kind, ending), said in others.items():
        count = f"{len(said.units)} " if len(said.units) > 1 else ""
        lines.append(f"- {kind}: {count}{ending} ({said.when}): {', '.join(said.units)}")
    return lines


def _rest(records: Iterable[Record]) -> list[str]:
    """What is no ordinary step of a unit, each text once."""
    said: dict[tuple[Step, str, str], _Said] = {}
    for record in records:
        if record.step in {Step.RECOVER, Step.NOTE}:
            _say(said, (record.step, record.unit, record.what), record)
    lines = []
    for (step, unit, what), one in said.items():
        times = f" ({len(one.units)} times)" if len(one.units) > 1 else ""
        lines.append(f"- {one.when} {step} {unit} {what}{times}")
    return lines


_Key = TypeVar("_Key")


def _say(said: dict[_Key, _Said], key: _Key, record: Record) -> None:
    one = said.setdefault(key, _Said(record.time, record.time))
    one.first, one.last = min(one.first, record.time), max(one.last, record.time)
    one.units.append(record.unit)


def _kind(intent: str) -> str:
    match = _INTENT.fullmatch(intent)
    if match is None:
        return intent
    return f"{match['text']} {match['way']} {match['peer']}" if match["way"] else match["text"]


def _details(total: Counter[str]) -> str:
    """What the done ones said: each text with its count; of many different ones the most frequent."""
    total.pop("", None)
    if not total:
        return ""
    shown = total.most_common(_DETAILS)
    texts = [f"{detail} ({count})" if count > 1 else detail for detail, count in shown]
    more = len(total) - len(shown)
    return ": " + "; ".join([*texts, *([f"{more} more in the archive"] if more else [])])
