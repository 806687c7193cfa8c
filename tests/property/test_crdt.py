"""Properties of shared state: the laws of the join, and that what was added stays unless somebody who knew it removed it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outlast.core.crdt import Entry, Kind, Replica, differing, join

NAMES = ("coz", "axiom", "witness")
PRIORITY = ("axiom",)
KEYS = ("a", "b")


@dataclass
class Writer:
    """A node in the model: its replica, and of each element what it has seen done to it, itself or through others."""

    name: str
    replica: Replica = field(default_factory=lambda: Replica(PRIORITY))
    seen: dict[tuple[str, str], set[Entry]] = field(default_factory=dict)

    def take(self, entry: Entry, known: dict[Entry, set[Entry]]) -> None:
        """Take one entry in: its writer's knowledge comes with it."""
        self.replica.absorb([entry])
        if entry.kind in ("add", "remove"):
            self.seen.setdefault((entry.key, entry.value or ""), set()).update({entry} | known[entry])


@dataclass
class History:
    """Everything that was ever written, and what its writer knew then of the element."""

    writers: list[Writer] = field(default_factory=lambda: [Writer(name) for name in NAMES])
    known: dict[Entry, set[Entry]] = field(default_factory=dict)

    def write(self, who: int, kind: Kind, key: str, value: str | None) -> None:
        writer = self.writers[who]
        entry = writer.replica.entry(writer.name, kind, f"{key} x" if kind == "fact" else key, value, "")
        self.known[entry] = set(writer.seen.get((key, value or ""), ()))
        writer.take(entry, self.known)

    def send(self, giver: int, taker: int, cut: int) -> None:
        """Hand over the first ``cut`` of the entries that are lacking: a message that is lost carries none."""
        there, here = self.writers[taker], self.writers[giver]
        lacking = here.replica.lacking(there.replica.have)
        for entry in lacking[:cut]:
            there.take(entry, self.known)
        if cut >= len(lacking):
            there.replica.claim(here.replica.have)

    def living(self, key: str) -> set[str]:
        """The elements that some add put into the set, which no remove by one who had seen that add took out."""
        removed = {seen for entry, known in self.known.items() if entry.kind == "remove" for seen in known}
        adds = {entry for entry in self.known if entry.kind == "add" and entry.key == key}
        return {entry.value or "" for entry in adds - removed}


# Mostly one element of one set, and mostly whole exchanges: what is hard happens where all meet.
ELEMENTS = st.sampled_from([("a", "1"), ("a", "1"), ("a", "2"), ("b", "1")])
WRITES = st.builds(
    lambda who, kind, at: ("write", who, kind, *at),
    st.integers(0, 2),
    st.sampled_from(["set", "add", "add", "remove", "remove", "fact"]),
    ELEMENTS,
)
UNSETS = st.tuples(st.just("write"), st.integers(0, 2), st.just("set"), st.sampled_from(KEYS), st.none())
SENDS = st.tuples(st.just("send"), st.integers(0, 2), st.integers(0, 2), st.sampled_from([0, 1, 2, 99, 99, 99]))
STEPS = st.lists(st.one_of(WRITES, WRITES, UNSETS, SENDS, SENDS, SENDS), max_size=24)


def played(steps: list[tuple[object, ...]]) -> History:
    history = History()
    for what, *words in steps:
        (history.write if what == "write" else history.send)(*words)  # type: ignore[arg-type]
    return history


def content(replica: Replica) -> tuple[dict[str, int], frozenset[Entry]]:
    return dict(replica.have), frozenset(replica)


# Each knows the one before only through the next: what an operation is over must be passed on.
PASSED_ON: list[tuple[object, ...]] = [
    ("write", 0, "add", "a", "1"),
    ("send", 0, 1, 99),
    ("write", 1, "add", "a", "1"),
    ("send", 1, 2, 99),
    ("write", 2, "add", "a", "1"),
]


@given(STEPS)
@example(PASSED_ON)
def test_join_is_commutative_associative_and_idempotent(steps: list[tuple[object, ...]]) -> None:
    """Whatever was written and whoever knew what: a∨b = b∨a, (a∨b)∨c = a∨(b∨c), a∨a = a, and joining changes neither side."""
    a, b, c = (writer.replica for writer in played(steps).writers)
    before = [content(one) for one in (a, b, c)]
    assert content(join(a, b)) == content(join(b, a))
    assert content(join(join(a, b), c)) == content(join(a, join(b, c)))
    assert content(join(a, a)) == content(a)
    assert content(join(join(a, b), b)) == content(join(a, b))
    assert [content(one) for one in (a, b, c)] == before


@given(STEPS)
def test_join_is_monotone(steps: list[tuple[object, ...]]) -> None:
    """a ≤ a∨b, and where a ≤ b also a∨c ≤ b∨c: joining only ever adds knowledge (≤ is: joining it changes nothing)."""
    a, b, c = (writer.replica for writer in played(steps).writers)

    def below(less: Replica, more: Replica) -> bool:
        return content(join(less, more)) == content(more)

    both = join(a, b)
    assert below(a, both) and below(b, both)
    assert below(join(a, c), join(both, c))


@given(STEPS, st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(steps: list[tuple[object, ...]], dice: object) -> None:
    """All entries that were ever written, in any order and any number of times: the same live entries, the same sums."""
    history = played(steps)
    entries = list(history.known)
    shuffled = entries * 2
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = Replica(PRIORITY), Replica(PRIORITY)
    other.holding()  # from now on its sums are kept up to date, those of the first are worked out at the end
    one.absorb(entries)
    for entry in shuffled:
        assert other.wants(entry) == (entry in other.absorb([entry]))
    assert content(one) == content(other)
    assert one.holding() == other.holding()
    for number in range(one.top + 1):
        have = dict.fromkeys(NAMES, number)
        assert set(other.lacking(have)) == {entry for entry in one if entry.seq > number}


@given(STEPS)
def test_an_add_survives_unless_it_was_removed_by_one_who_had_seen_it(steps: list[tuple[object, ...]]) -> None:
    """After any partial exchanges, once all have met: each set holds exactly the elements some add of which no remover knew;
    every fact is there; a register holds the strongest of all that was ever set."""
    history = played(steps)
    for _ in range(2):
        for giver in range(3):
            for taker in range(3):
                history.send(giver, taker, 1 << 20)
    contents = [content(writer.replica) for writer in history.writers]
    assert contents[0] == contents[1] == contents[2]
    replica = history.writers[0].replica
    assert not differing(replica.holding(), history.writers[1].replica.holding())
    for key in KEYS:
        assert set(replica.elements(key)) == history.living(key)
        sets = [entry for entry in history.known if entry.kind == "set" and entry.key == key]
        if sets:
            best = replica.newest(sets)
            assert all((best.seq, best.agent == "axiom") >= (entry.seq, entry.agent == "axiom") for entry in sets)
            assert replica.register(key) == (best if best.value is not None else None)
    facts = [entry for entry in history.known if entry.kind == "fact"]
    assert Counter(entry for held in replica.facts().values() for entry in held) == Counter(facts)


@given(STEPS, st.integers(0, 2), st.integers(0, 2))
def test_what_is_lacking_is_all_that_is_needed(steps: list[tuple[object, ...]], giver: int, taker: int) -> None:
    """The entries that a replica lacks, given to it, make it the join of both; of each agent the older ones come first."""
    history = played(steps)
    here, there = history.writers[giver].replica, history.writers[taker].replica
    lacking = here.lacking(there.have)
    assert lacking == sorted(lacking, key=lambda entry: entry.seq)
    whole = join(there, here)
    there.absorb(lacking)
    there.claim(here.have)
    # Where a third handed over a part, what is superseded may have been taken for known: the sums say so.
    assert content(there) == content(whole) or differing(there.holding(), whole.holding())


@given(STEPS)
@settings(max_examples=50)
def test_numbers_rise_above_all_that_was_seen(steps: list[tuple[object, ...]]) -> None:
    """An entry's number is above that of every entry its writer held, and no agent uses one twice."""
    history = played(steps)
    used = Counter((entry.agent, entry.seq) for entry in history.known)
    assert all(count == 1 for count in used.values())
    for writer in history.writers:
        assert all(entry.seq <= writer.replica.top for entry in writer.replica)


@given(STEPS)
def test_entries_come_back_as_they_were_written(steps: list[tuple[object, ...]]) -> None:
    """JSON and back gives the same entry, byte for byte the second time."""
    for entry in played(steps).known:
        data = msgspec.json.encode(entry)
        assert msgspec.json.decode(data, type=Entry) == entry
        assert msgspec.json.encode(msgspec.json.decode(data, type=Entry)) == data
