"""Rotations in any order, over any number of nodes, with copies of any age: no honest message is refused, nothing revoked
comes back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from outlast.core import keys
from outlast.core.keys import Ring, Secret
from outlast.core.ringtext import parse_ring, ring_text
from outlast.errors import SignatureError

NOON = 1_795_262_400.0
_RANK = {"active": 0, "accepted": 0, "retired": 1, "revoked": 2}

times = st.floats(-3 * 86_400.0, 3 * 86_400.0).map(lambda moved: NOON + moved)
"""Clocks are set back and forth."""


def ranks(ring: Ring) -> dict[str, int]:
    return {key.id: _RANK[key.state] for key in ring}


def ids(ring: Ring) -> set[str]:
    return {key.id for key in keys.accepted(ring)}


class Rotation(RuleBasedStateMachine):
    """An owner that follows the protocol, and peers that are told its ring early, late, twice, or an old one."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.own: Ring = ()
        self.past: list[Ring] = []
        self.copies: list[Ring] = []
        # By place: the owner is -1.
        self.revoked: dict[int, set[str]] = {}
        # Used when nothing signed: its peers have yet to hear of it.
        self.unheard: set[str] = set()

    def secret(self) -> Secret:
        self.made += 1
        return Secret(self.made.to_bytes(32, "big"))

    def keep(self, ring: Ring) -> None:
        before, after = ranks(self.own), ranks(ring)
        assert all(after.get(key_id, 1) >= rank for key_id, rank in before.items()), "something came back"
        assert parse_ring(ring_text(ring)) == ring
        self.own = ring
        self.past.append(ring)

    @initialize(peers=st.integers(1, 4), now=times)
    def begin(self, peers: int, now: float) -> None:
        self.keep(keys.use(keys.prepare((), self.secret(), now, "")))
        self.copies = [keys.merge((), self.own) for _ in range(peers)]
        self.revoked = {place: set() for place in range(-1, peers)}

    @rule(now=times)
    def prepare(self, now: float) -> None:
        self.keep(keys.prepare(self.own, self.secret(), now, "r"))

    @rule()
    def use(self) -> None:
        """Only when every peer holds it, or nothing signs anyway."""
        waiting = keys.pending(self.own)
        blind = [ids(copy) | self.revoked[place] for place, copy in enumerate(self.copies)]
        if not keys.signs(self.own):
            self.unheard |= ids(self.own)
        elif any(waiting is not None and waiting.id not in held for held in blind):
            return
        self.keep(keys.use(self.own))
        assert not keys.accepted(self.own) or keys.signing(self.own) == keys.accepted(self.own)[0]

    @rule()
    def retire(self) -> None:
        if keys.signs(self.own):
            self.keep(keys.retire(self.own))
        else:
            try:
                keys.retire(self.own)
            except SignatureError:
                return
            raise AssertionError("retired although nothing signs")

    @rule(data=st.data(), every=st.booleans())
    def revoke(self, data: st.DataObject, every: bool) -> None:
        """At any node: keys that it knows, all that it accepts, or one that it has yet to see."""
        place = data.draw(st.integers(-1, len(self.copies) - 1))
        ring = self.own if place < 0 else self.copies[place]
        known = sorted({key.id for one in [ring, self.own] for key in one})
        chosen = None if every else set(data.draw(st.lists(st.sampled_from(known), max_size=2)))
        self.revoked[place] |= ids(ring) if chosen is None else chosen
        if place < 0:
            self.keep(keys.revoke(ring, chosen))
        else:
            self.copies[place] = keys.revoke(ring, chosen)

    @rule(data=st.data())
    def tell(self, data: st.DataObject) -> None:
        """A peer is told the owner's ring as it was at some time, mostly now; once and again is the same."""
        place = data.draw(st.integers(0, len(self.copies) - 1))
        incoming = data.draw(st.one_of(st.just(self.own), st.sampled_from(self.past)))
        before = self.copies[place]
        after = self.copies[place] = keys.merge(before, keys.shared(incoming))
        assert keys.merge(after, incoming) == after
        rose, kept = ranks(after), ranks(before)
        assert all(rose.get(key_id, 1) >= rank for key_id, rank in kept.items()), "something came back"
        assert parse_ring(ring_text(after)) == after

    @rule(data=st.data())
    def order_is_no_matter(self, data: st.DataObject) -> None:
        """Whoever hears of two states of the owner has the same keys accepted, whichever came first."""
        copy = data.draw(st.sampled_from(self.copies))
        one, other = data.draw(st.sampled_from(self.past)), data.draw(st.sampled_from(self.past))
        first, second = keys.merge(keys.merge(copy, one), other), keys.merge(keys.merge(copy, other), one)
        assert ids(first) == ids(second)

    @invariant()
    def nothing_revoked_verifies(self) -> None:
        for place, gone in self.revoked.items():
            ring = self.own if place < 0 else self.copies[place]
            assert not gone & ids(ring)
            assert all(key.secret is None for key in ring if key.id in gone)

    @invariant()
    def what_the_owner_signs_is_verified(self) -> None:
        """By every peer that did not revoke that key."""
        if not keys.signs(self.own) or (signs := keys.signing(self.own)).id in self.unheard:
            return
        for place, copy in enumerate(self.copies):
            assert signs.id in ids(copy) | self.revoked[place]

    @invariant()
    def who_is_told_all_knows_all(self) -> None:
        """A peer that is told the owner's ring as it is now accepts what the owner does, but for what it revoked itself."""
        for place, copy in enumerate(self.copies):
            assert ids(keys.merge(copy, self.own)) == ids(self.own) - self.revoked[place]

    @invariant()
    def rings_are_in_order(self) -> None:
        for ring in [self.own, *self.copies]:
            named = [key for key in ring if key.made]
            assert [key.made for key in named] == sorted((key.made for key in named), reverse=True)
            assert sum(key.state == "active" for key in ring) <= 1


def test_any_rotation_keeps_its_promises() -> None:
    """Prepare, use, retire, revoke and tell, in any order, with any clock and copies of any age."""
    run_state_machine_as_test(Rotation, settings=settings(max_examples=150, stateful_step_count=40, deadline=None))


@given(st.text(max_size=400), st.floats(0, 2e9))
def test_any_text_is_a_ring_or_is_refused(text: str, made: float) -> None:
    """Whatever is in a key file, one SignatureError or a ring that reads back as it is written."""
    try:
        ring = parse_ring(text, made)
    except SignatureError as error:
        assert "\n" not in str(error)
    else:
        assert parse_ring(ring_text(ring)) == ring


@given(st.data())
def test_any_change_of_a_line_is_noticed_or_harmless(data: st.DataObject) -> None:
    """A bit that flipped in a file never makes another key of it: the id no longer fits."""
    ring = keys.prepare(keys.use(keys.prepare((), Secret(b"1" * 32), NOON, "")), Secret(b"2" * 32), NOON + 1, "r1")
    text = ring_text(ring).encode()
    place, bit = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 6))
    changed = (text[:place] + bytes([text[place] ^ 1 << bit]) + text[place + 1 :]).decode("ascii")
    try:
        found = parse_ring(changed, NOON)
    except SignatureError:
        return
    assert [(key.id, key.secret) for key in found] == [(key.id, key.secret) for key in ring]
