"""Laws of the merges: who merges does not matter, nothing that was added is lost, what was seen and removed is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.days import marker
from outlast.core.merging import (
    HEARTBEAT_MARKS,
    merge_heartbeat,
    merge_lines,
    merge_numbered,
    merge_queue,
    merge_records,
)
from outlast.core.record import Record, Step, format_record

DAY = "2026-11-21"
BEGIN, END = HEARTBEAT_MARKS

Merge = Callable[[bytes, bytes, bytes], bytes]


def daily(base: bytes, ours: bytes, theirs: bytes) -> bytes:
    return merge_records(DAY, base, ours, theirs)


WORDS = st.sampled_from([b"", b"a", b"b", b"- c", b"MAINTENANCE_MODE", b"d\r", b"\xff"])
ENTRIES = st.builds(
    lambda seq, agent, text: b"- [seq:%d] [depends:1] [agent:%s] %s" % (seq, agent, text),
    st.integers(1, 4), st.sampled_from([b"coz", b"axiom"]), st.sampled_from([b"build", b"deploy"]),
)  # fmt: skip
RECORDS = st.builds(
    lambda seq, agent: format_record(Record(DAY, "12:00:00", Step.NOTE, "x", "y", agent, seq)).encode(),
    st.integers(1, 5), st.sampled_from(["coz", "axiom"]),
)  # fmt: skip
OWN = st.sampled_from([BEGIN + b"\nOutlast: degraded\n" + END, BEGIN + b"\nOutlast: emergency\n" + END, BEGIN, END])


def texts(*kinds: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(st.one_of(*kinds), max_size=8).map(b"\n".join)


KINDS: dict[str, tuple[Merge, st.SearchStrategy[bytes]]] = {
    "free text": (merge_lines, texts(WORDS)),
    "queue": (merge_queue, texts(WORDS, ENTRIES)),
    "heartbeat": (merge_heartbeat, texts(WORDS, OWN)),
    "daily file": (daily, texts(WORDS, RECORDS)),
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


@every_kind
@given(st.data())
def test_laws(kind: str, data: st.DataObject) -> None:
    """Ours and theirs may be swapped; merging the same, or what one side left alone, changes nothing; nor does merging again."""
    merge, text = KINDS[kind]
    base, ours, theirs = data.draw(text), data.draw(text), data.draw(text)
    merged = merge(base, ours, theirs)
    assert merged == merge(base, theirs, ours)
    assert merge(base, ours, ours) == ours
    assert merge(base, base, ours) == ours == merge(base, ours, base)
    assert merge(merged, merged, merged) == merged
    # The other node has merged meanwhile, and is met with what both came from.
    assert merge(ours, merged, ours) == merged


@every_kind
@given(st.data())
def test_no_added_line_is_lost(kind: str, data: st.DataObject) -> None:
    """A line that a side has more often than the base is in the result as often; an entry or a record once. Nothing is made up."""
    merge, text = KINDS[kind]
    base, ours, theirs = data.draw(text), data.draw(text), data.draw(text)
    lines = merge(base, ours, theirs).split(b"\n")
    merged = Counter(lines)
    assert set(lines) - {b""} <= {line for side in (base, ours, theirs) for line in side.split(b"\n")}
    if any(BEGIN in side for side in (base, ours, theirs)):
        return  # of the runtime's own block one is chosen
    for side in (ours, theirs):
        added = Counter(side.split(b"\n")) - Counter(base.split(b"\n"))
        for line, count in added.items():
            keyed = b"[" in line
            assert merged[line] >= (1 if keyed else count) or (keyed and line in base.split(b"\n"))


ONE_LINE: dict[str, st.SearchStrategy[bytes]] = {
    "free text": st.integers(0, 9).map(lambda n: b"%d" % n),
    "queue": st.integers(0, 9).map(lambda n: b"- [seq:%d] [agent:coz] build" % n),
    "heartbeat": st.integers(0, 9).map(lambda n: b"%d" % n),
    "daily file": RECORDS,
}


@every_kind
@given(st.data())
def test_what_was_seen_and_removed_is_gone(kind: str, data: st.DataObject) -> None:
    """A line of the base that one side removed and the other left alone is gone; a record of the journal never goes."""
    merge, base = KINDS[kind][0], data.draw(st.lists(ONE_LINE[kind], min_size=2, max_size=6, unique=True))
    gone = data.draw(st.sampled_from(base))
    ours = [line for line in base if line != gone]
    at = data.draw(st.integers(0, len(base)))
    theirs = [*base[:at], b"new", *base[at:]]
    merged = merge(*map(b"\n".join, (base, ours, theirs))).split(b"\n")
    assert sorted(merged) == sorted([*ours, b"new", *([gone] if kind == "daily file" else [])])


NUMBERED = st.builds(
    lambda seq, text: b'{"seq":%d,"v":"%s"}' % (seq, text), st.integers(1, 9), st.sampled_from([b"a", b"b"])
)


@given(st.sets(NUMBERED), st.sets(NUMBERED), st.sets(NUMBERED), st.integers(0, 12))
def test_numbered_lines_are_a_union(first: set[bytes], second: set[bytes], third: set[bytes], cut: int) -> None:
    """By number, commutative, associative and idempotent; a torn end is dropped only where its whole line is there."""
    one, two, three = (b"".join(line + b"\n" for line in sorted(lines)) for lines in (first, second, third))

    def join(ours: bytes, theirs: bytes) -> bytes:
        return merge_numbered(ours, theirs)[0]

    assert join(one, two) == join(two, one)
    assert join(join(one, two), three) == join(one, join(two, three))
    assert join(one, one) == one == join(one, b"")
    assert set(join(one, two).splitlines()) == first | second
    assert join(b'{"new":1}\n', one) == one + b'{"new":1}\n'
    torn = b'{"seq":1,"v":"a"}'[:cut]
    merged, lost = merge_numbered(one + torn, two)
    assert merged == join(one, two)
    assert lost == (() if not torn or any(line.startswith(torn) for line in first | second) else (torn,))


def test_queue_entries_keep_their_changes() -> None:
    """An entry that one side removed goes; one that it removed and the other changed stays; a move alone makes no copy."""
    base = b"# Queue\n[seq:1] [agent:a] build\n[seq:2] [agent:a] test\n[seq:3] [agent:a] deploy\n"
    ours = b"# Queue\n[seq:3] [agent:a] deploy\n[seq:4] [agent:a] tell\n"
    theirs = b"# Queue\n[seq:1] [agent:a] build\n[seq:2] [agent:a] test twice\n[seq:3] [agent:a] deploy\n[seq:4] [agent:b] tell\n"
    merged = merge_queue(base, ours, theirs)
    assert merged.splitlines() == [
        b"# Queue", b"[seq:2] [agent:a] test twice", b"[seq:3] [agent:a] deploy", b"[seq:4] [agent:a] tell",
        b"[seq:4] [agent:b] tell",
    ]  # fmt: skip
    moved = b"[seq:3] [agent:a] deploy\n# Queue\n[seq:1] [agent:a] build\n[seq:2] [agent:a] test\n"
    done = base.replace(b"deploy", b"deploy: done")
    assert sorted(merge_queue(base, moved, done).splitlines()) == sorted(done.splitlines())


def test_a_person_orders_maintenance_on_one_side() -> None:
    """MAINTENANCE_MODE that a person wrote on one side survives, and one that a person removed goes."""
    base, own = b"- look at the mail\n", BEGIN + b"\nOutlast: degraded\n" + END + b"\n"
    asked = merge_heartbeat(base, base + b"MAINTENANCE_MODE\n", base + own)
    assert asked.splitlines()[0] == b"- look at the mail"
    assert b"MAINTENANCE_MODE" in asked and own in asked
    assert b"MAINTENANCE_MODE" not in merge_heartbeat(asked, base + own, asked + b"- and at the cat\n")
    louder = own.replace(b"degraded", b"emergency")
    assert merge_heartbeat(base + own, base + louder, base + own.replace(b"degraded", b"a")).count(BEGIN) == 1


def test_a_record_goes_only_into_an_archive() -> None:
    """Records that one side archived go, if it says so; those that it merely has no longer stay, and so does every new one."""

    def record(agent: str, seq: int) -> bytes:
        return format_record(Record(DAY, "12:00:00", Step.NOTE, "x", "y", agent, seq)).encode()

    mine, others = [record("coz", seq) for seq in range(1, 5)], [record("axiom", seq) for seq in range(1, 3)]
    base = b"\n".join([b"# day", *mine, others[0], b""])
    theirs = b"\n".join([b"# day", *mine, others[0], others[1], b""])
    cut = b"\n".join([b"# day", b""])
    assert set(daily(base, cut + b"new\n", theirs).splitlines()) == {b"# day", b"new", *mine, *others}
    line = marker("coz", 1, 3, f"{DAY}.coz.1.md.gz", "0" * 64).encode()
    compacted = b"\n".join([b"# day", line, mine[3], others[0], b""])
    merged = daily(base, compacted, theirs)
    assert merged.splitlines() == [b"# day", line, mine[3], *others]
    assert daily(base, theirs, compacted) == merged
