"""Tokens of sub-agents: what they allow, and what no holder can make of them."""

from __future__ import annotations

import hmac

import pytest

from outlast.core.capability import ACTIONS, check_actions, mint, narrow, permits, read, verify
from outlast.errors import BadInput

ROOT = bytes(range(32))
AGENT = "subd1zkffdmvrmx"
TOKEN = mint(ROOT, AGENT, 2, ["write:artifacts", "message:note"], 2_000_000_000)


def test_a_token_says_what_it_was_minted_for() -> None:
    """Who it is for, which run, what is allowed and until when: read with and without the key."""
    grant = verify(ROOT, TOKEN)
    assert grant == read(TOKEN)
    assert (grant.id, grant.issued, grant.until) == (AGENT, 2, 2_000_000_000)
    assert grant.actions == {"message:note", "write:artifacts"}


def test_the_chain_is_that_of_macaroons() -> None:
    """Each link is the HMAC-SHA256 of a caveat under the link before: written out here by other means."""
    caveats = [f"id={AGENT}", "issued=2", "allow=message:note,write:artifacts", "until=2000000000"]
    link = hmac.new(ROOT, b"outlast1", "sha256").digest()
    for caveat in caveats:
        link = hmac.new(link, caveat.encode(), "sha256").digest()
    assert ".".join(["outlast1", *caveats, link.hex()]) == TOKEN


def test_another_nodes_token_is_refused() -> None:
    """The same words under another key are worth nothing."""
    with pytest.raises(BadInput, match="not one that this node gave out"):
        verify(ROOT, mint(b"x" * 32, AGENT, 2, ["write:artifacts"], 2_000_000_000))


def test_what_is_passed_on_is_less() -> None:
    """A holder without the key makes a narrower token; the node believes it, and sees the narrower."""
    narrowed = narrow(TOKEN, actions=["message:note"], until=1_900_000_000)
    grant = verify(ROOT, narrowed)
    assert grant.actions == {"message:note"}
    assert grant.until == 1_900_000_000
    assert verify(ROOT, narrow(narrowed, until=3_000_000_000)).until == 1_900_000_000


def test_what_one_does_not_have_cannot_be_passed_on() -> None:
    """The holder is told so at once, in a line that says what can be."""
    with pytest.raises(BadInput, match="use:network is not yours to pass on; some of: message:note,write:artifacts"):
        narrow(TOKEN, actions=["use:network"])


def test_a_caveat_cannot_be_taken_away() -> None:
    """The token from before a caveat cannot be had from the one after it: its signature went into the next."""
    narrowed = narrow(TOKEN, actions=["message:note"])
    head, signature = narrowed.rsplit(".", 1)
    without = ".".join([head.rsplit(".", 1)[0], signature])
    with pytest.raises(BadInput, match="not one that this node gave out"):
        verify(ROOT, without)


@pytest.mark.parametrize(
    "widened",
    [
        "allow=message:note,use:network,write:artifacts",
        "until=3000000000",
        "issued=3",
        "id=subzzzzzzzzzzzz",
    ],
)
def test_a_caveat_cannot_be_changed(widened: str) -> None:
    """More actions, more time, another run, another sub-agent: each breaks the signature."""
    name = widened.split("=")[0]
    changed = ".".join(widened if part.startswith(f"{name}=") else part for part in TOKEN.split("."))
    assert changed != TOKEN
    with pytest.raises(BadInput):
        verify(ROOT, changed)


@pytest.mark.parametrize(
    "added", ["id=subd1zkffdmvrmx", "issued=3", "root=yes", "allow=use:network ", "until=0", "", "Allow=a"]
)
def test_an_unknown_caveat_is_refused_even_where_it_is_signed(added: str) -> None:
    """Whoever holds a token can sign anything after it: what is not known to narrow is no token at all."""
    head, signature = TOKEN.rsplit(".", 1)
    chained = hmac.digest(bytes.fromhex(signature), added.encode(), "sha256").hex()
    with pytest.raises(BadInput, match="it is not a token"):
        verify(ROOT, f"{head}.{added}.{chained}")


@pytest.mark.parametrize(
    "text", ["", "outlast1", "x" * 5000, TOKEN + "\n", " " + TOKEN, TOKEN.upper(), TOKEN[:-1], TOKEN + "é"]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    """Whatever is sent, the answer is one line that holds nothing of it."""
    with pytest.raises(BadInput, match="it is not a token; use the one"):
        verify(ROOT, text)


def test_a_grant_is_good_for_its_run_its_time_and_its_actions() -> None:
    """Each of the three is looked at for every call, and the reason is said."""
    grant = verify(ROOT, TOKEN)
    assert permits(grant, "message:note", 1_999_999_999, 2) == ""
    assert permits(grant, "", 1_999_999_999, 2) == ""
    assert permits(grant, "use:network", 0, 2) == "it does not allow use:network"
    assert permits(grant, "message:note", 2_000_000_000, 2) == "its time is over"
    assert (
        permits(grant, "message:note", 0, 3) == permits(grant, "message:note", 0, None) == f"its run of {AGENT} is over"
    )


def test_an_action_that_nobody_knows_is_refused() -> None:
    """A misspelt action is not quietly worth nothing."""
    assert check_actions(ACTIONS) == set(ACTIONS)
    with pytest.raises(BadInput, match="'write:artefacts' is not known; some of: message:handoff"):
        check_actions(["write:artefacts"])
