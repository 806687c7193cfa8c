"""What two nodes wrote into the same file since they last agreed, as one file: pure three-way merges that never conflict.

Rules kept here:

* who merges does not matter: ``merge(b, x, y) == merge(b, y, x)``, so both nodes get the same bytes; merging what is the same,
  or what only one side changed, changes nothing;
* an add always survives. What one side removed and the other left alone goes (observed remove: the base is what both had
  seen); what one side removed and the other changed stays as it was changed;
* order is kept as far as both sides agree on it; no wall-clock time decides anything.

A file is taken apart into parts. Most are lines that are only themselves. A part may have a key: a queue's entry, the runtime's
own block in HEARTBEAT.md, a record of the journal. It is then in the result once, wherever it was moved, and a rule of its
kind settles what it says.

Left to others: which file is merged how, STATE.json, and what becomes of what cannot be read (store.merges).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from outlast.core.record import Record, parse_line

__all__ = ["HEARTBEAT_MARKS", "merge_heartbeat", "merge_lines", "merge_numbered", "merge_queue", "merge_records"]

HEARTBEAT_MARKS = (b"<!-- outlast: begin -->", b"<!-- outlast: end -->")

_SEQ, _AGENT = re.compile(rb"\[seq:(\d+)\]"), re.compile(rb"\[agent:([A-Za-z0-9_.-]+)\]")

_ARCHIVED = re.compile(rb"^- outlast: records (\S+):(\d{1,18}) to (\d{1,18}) are in archive/", re.MULTILINE)

Split = Callable[[bytes], list[bytes]]
Key = Callable[[bytes], bytes | None]
Settle = Callable[[set[bytes], set[bytes], set[bytes]], Iterable[bytes]]


def merge_lines(base: bytes, ours: bytes, theirs: bytes) -> bytes:
    """Merge free text: an ordered union of lines, where what was removed by one who had seen it is gone."""
    return _merge(_lines, lambda _: None, _observed, base, ours, theirs)


def merge_queue(base: bytes, ours: bytes, theirs: bytes) -> bytes:
    """Merge QUEUE.md: entries are known by their agent and number. One that both changed is there in both versions."""
    return _merge(_lines, _entry, _observed, base, ours, theirs)


def merge_heartbeat(base: bytes, ours: bytes, theirs: bytes) -> bytes:
    """Merge HEARTBEAT.md: people's lines as free text. Of the runtime's own block there is one; its node puts it right."""
    return _merge(_blocks, _own, lambda b, x, y: sorted(_observed(b, x, y))[-1:], base, ours, theirs)


def merge_records(day: str, base: bytes, ours: bytes, theirs: bytes) -> bytes:
    """Merge the daily file of ``day`` (YYYY-MM-DD): a record that either side has is kept; the rest is free text.

    A record that one side has no longer goes only where that side says which archive it is in.
    """
    archived = {side: _archived(side) for side in (ours, theirs)}

    def parsed(line: bytes) -> Record | None:
        found = parse_line(day, line.decode(errors="replace"))
        return found if isinstance(found, Record) else None

    def settle(_: set[bytes], x: set[bytes], y: set[bytes]) -> set[bytes]:
        away = archived[theirs] if not y else archived[ours] if not x else []
        record = parsed(next(iter(x | y))) if away else None
        gone = record and any(agent == record.agent and a <= record.seq <= z for agent, a, z in away)
        return set() if gone else x | y

    return _merge(_lines, lambda line: line if parsed(line) else None, settle, base, ours, theirs)


def merge_numbered(ours: bytes, theirs: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Merge two copies of an append-only file of JSON objects, one a line, each with an integer ``seq``: their union by number.

    Where two lines have the same number and are not the same, both stay. Returns the file, and those lines that cannot be read
    and are not merely the beginning of one that can.
    """
    found: set[tuple[int, bytes]] = set()
    torn: set[bytes] = set()
    for line in {*ours.split(b"\n"), *theirs.split(b"\n")}:
        if line.strip():
            try:
                found.add((msgspec.json.decode(line, type=_Numbered).seq, line))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                torn.add(line)
    merged = [line for _, line in sorted(found)]
    lost = sorted(line for line in torn if not any(whole.startswith(line) for whole in merged))
    return b"".join(line + b"\n" for line in merged), tuple(lost)


class _Numbered(msgspec.Struct):
    # What has none, from a newer version say, stays, at the end.
    seq: int = 1 << 62


def _archived(text: bytes) -> list[tuple[str, int, int]]:
    """The records that a daily file says are in archives: agent, first and last number (core.days writes it)."""
    return [(agent.decode(errors="replace"), int(first), int(last)) for agent, first, last in _ARCHIVED.findall(text)]


def _lines(data: bytes) -> list[bytes]:
    return data.split(b"\n")


def _blocks(data: bytes) -> list[bytes]:
    """Lines, with each whole block of the runtime's as one part."""
    begin, end = HEARTBEAT_MARKS
    parts: list[bytes] = []
    opened = -1
    for line in data.split(b"\n"):
        parts.append(line)
        if line.strip() == begin:
            opened = len(parts) - 1
        elif line.strip() == end and opened >= 0:
            parts[opened:] = [b"\n".join(parts[opened:])]
            opened = -1
    return parts


def _own(part: bytes) -> bytes | None:
    return b"own" if b"\n" in part else None


def _entry(line: bytes) -> bytes | None:
    seq, agent = _SEQ.search(line), _AGENT.search(line)
    return b"%d %s" % (int(seq[1]), agent[1]) if seq and agent else None


def _observed(base: set[bytes], ours: set[bytes], theirs: set[bytes]) -> set[bytes]:
    """An observed-remove set: what both have, and what either added."""
    return (ours & theirs) | (ours - base) | (theirs - base)


class _Parts:
    """A file taken apart. ``marks`` stand for its parts in order: a line for itself, a key once for all that have it."""

    def __init__(self, parts: list[bytes], key: Key) -> None:
        self.marks: list[bytes] = []
        self.said: dict[bytes, set[bytes]] = {}
        for part in parts:
            if (named := key(part)) is None:
                self.marks.append(part)
                continue
            mark = b"\0" + named  # texts hold no NUL, so no line is taken for a key
            if mark not in self.said:
                self.marks.append(mark)
            self.said.setdefault(mark, set()).add(part)


def _merge(split: Split, key: Key, settle: Settle, base: bytes, ours: bytes, theirs: bytes) -> bytes:
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    b, x, y = (_Parts(split(side), key) for side in (base, ours, theirs))
    nothing: set[bytes] = set()
    said = {
        mark: sorted(settle(b.said.get(mark, nothing), x.said.get(mark, nothing), y.said.get(mark, nothing)))
        for mark in {*x.said, *y.said}
    }
    woven = _weave(b.marks, x.marks, y.marks)
    firm = {mark for mark, sure in woven if sure}
    merged: list[bytes] = []
    for mark, sure in woven:
        if not mark.startswith(b"\0"):
            merged += [mark] if sure else []
        elif sure or mark not in firm:
            # Said at the first place that it has, and nowhere again.
            merged += said.pop(mark, [])
    return b"\n".join(merged)


def _weave(base: list[bytes], ours: list[bytes], theirs: list[bytes]) -> list[tuple[bytes, bool]]:
    """All marks of both sides in order. Not sure of: those of the base that a side has no longer, or elsewhere."""
    (ours_new, ours_kept), (theirs_new, theirs_kept) = _edits(base, ours), _edits(base, theirs)
    woven: list[tuple[bytes, bool]] = []
    for at in range(len(base) + 1):
        woven += [(mark, True) for mark in _join(*sorted((ours_new.get(at, []), theirs_new.get(at, []))))]
        if at < len(base):
            woven.append((base[at], at in ours_kept and at in theirs_kept))
    return woven


def _edits(base: list[bytes], side: list[bytes]) -> tuple[dict[int, list[bytes]], set[int]]:
    """What ``side`` put in before each place of ``base``, and the places that it kept."""
    new: dict[int, list[bytes]] = {}
    kept: set[int] = set()
    for tag, i1, i2, j1, j2 in _differences(base, side):
        if tag == "equal":
            kept.update(range(i1, i2))
        elif j2 > j1:
            new[i1] = side[j1:j2]
    return new, kept


def _join(first: list[bytes], second: list[bytes]) -> list[bytes]:
    """What both sides put in at the same place: what they agree on once, the rest one after the other."""
    joined: list[bytes] = []
    for tag, i1, i2, j1, j2 in _differences(first, second):
        joined += first[i1:i2] + ([] if tag == "equal" else second[j1:j2])
    return joined


def _differences(old: list[bytes], new: list[bytes]) -> Iterable[tuple[str, int, int, int, int]]:
    """How ``old`` becomes ``new``, as difflib's opcodes. What they begin with in common is not searched: files mostly grow."""
    from difflib import SequenceMatcher

    same = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        same += 1
    if same:
        yield "equal", 0, same, 0, same
    matcher: Any = SequenceMatcher(None, old[same:], new[same:])
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        yield tag, i1 + same, i2 + same, j1 + same, j2 + same
