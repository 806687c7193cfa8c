"""Tokens of sub-agents, whatever their holders do: narrower, never wider; and nothing but what the node signed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from outlast.core.capability import ACTIONS, Grant, mint, narrow, permits, read, verify
from outlast.errors import BadInput

ROOT = bytes(range(32))
_actions = st.frozensets(st.sampled_from(sorted(ACTIONS)))
_moments = st.integers(1, 9_999_999_999)
_agents = st.text("0123456789abcdefghjkmnpqrstvwxyz", min_size=12, max_size=12).map("sub".__add__)


def _refused(token: str) -> bool:
    try:
        verify(ROOT, token)
    except BadInput:
        return True
    return False


@given(_agents, st.integers(1, 999), _actions, _moments)
def test_what_is_minted_is_what_is_read(agent: str, issued: int, actions: frozenset[str], until: int) -> None:
    """Every token that the node gives out says exactly what it was given out for."""
    assert verify(ROOT, mint(ROOT, agent, issued, actions, until)) == Grant(agent, issued, actions, until)


@given(_agents, _actions, _moments, _actions, _moments, st.data())
def test_any_bit_that_is_flipped_is_refused(
    agent: str, actions: frozenset[str], until: int, fewer: frozenset[str], sooner: int, data: st.DataObject
) -> None:
    """There is no second text for the same token: not one bit of it can be changed, of a narrowed one neither."""
    token = narrow(mint(ROOT, agent, 1, actions, until), actions=fewer & actions, until=sooner).encode()
    at = data.draw(st.integers(0, len(token) * 8 - 1))
    changed = bytearray(token)
    changed[at // 8] ^= 1 << at % 8
    assert _refused(changed.decode("latin-1"))


@given(_agents, _actions, _moments, st.data())
def test_pieces_of_tokens_make_no_token(agent: str, actions: frozenset[str], until: int, data: st.DataObject) -> None:
    """Caveats left out, doubled, reordered or taken from another token: only the node's own order of them is believed."""
    token = narrow(mint(ROOT, agent, 1, actions, until), until=until)
    other = mint(ROOT, agent, 2, frozenset(ACTIONS), 9_999_999_999)
    pieces = [*token.split("."), *other.split(".")]
    mixed = ".".join(data.draw(st.lists(st.sampled_from(pieces), max_size=12)))
    assert mixed in (token, other) or _refused(mixed)


class Passing(RuleBasedStateMachine):
    """A token goes from hand to hand; each narrows it as it likes, and tries to get more."""

    @initialize(actions=_actions, until=_moments)
    def given_out(self, actions: frozenset[str], until: int) -> None:
        """The node gives out the first."""
        self.first = Grant("sub000000000000", 1, actions, until)
        self.token = mint(ROOT, self.first.id, 1, actions, until)
        self.actions, self.until = actions, until

    @rule(actions=_actions)
    def fewer(self, actions: frozenset[str]) -> None:
        """For fewer actions; asking for what is not there is refused and changes nothing."""
        try:
            narrowed = narrow(self.token, actions=actions)
        except BadInput:
            assert not actions <= self.actions or self.token.count(".") > 30
            return
        assert actions <= self.actions
        self.token, self.actions = narrowed, actions

    @rule(until=_moments)
    def sooner(self, until: int) -> None:
        """For a shorter time; a longer one is no gain."""
        try:
            self.token = narrow(self.token, until=until)
        except BadInput:
            assert self.token.count(".") > 30
            return
        self.until = min(self.until, until)

    @invariant()
    def never_wider(self) -> None:
        """It allows what it should, and no call that the first one does not allow."""
        if not hasattr(self, "token"):
            return
        grant = verify(ROOT, self.token)
        assert grant == read(self.token) == Grant(self.first.id, 1, self.actions, self.until)
        for action in ACTIONS:
            for now in (0, grant.until - 1, grant.until, self.first.until):
                if not permits(grant, action, now, 1):
                    assert not permits(self.first, action, now, 1)


TestPassing = Passing.TestCase
