"""The plan of a rotation, carried out on a fleet of rings that are the runtime's own: nobody is refused, whatever cuts it off."""

from __future__ import annotations

import random
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.plugin_utils import rotation, rotation_gateways, rotation_words  # noqa: E402
from support.fleet import EVERYONE, NOW, Cut, Fleet, Play, left, signing

from outlast.core import keys  # noqa: E402
from outlast.core.ringtext import parse_ring, ring_text  # noqa: E402


def test_every_key_is_changed_and_nobody_is_refused_at_any_moment() -> None:
    """After each single order, what any node signs with is accepted by all its peers; at the end nothing is left to do."""
    fleet = Fleet()
    before = signing(fleet)
    run = Play(fleet, after_each=lambda: check(fleet)).run()
    assert fleet.settled()
    assert not set(before.values()) & set(signing(fleet).values())
    assert left(run) == []


def check(fleet: Fleet) -> None:
    """Nobody is refused."""
    assert fleet.honest() == []


@settings(max_examples=300)
@given(st.lists(st.integers(0, 25), max_size=4), st.integers(0, 2**16), st.sets(st.sampled_from(EVERYONE), max_size=2))
def test_it_may_be_cut_off_anywhere_and_go_on(cuts: list[int], seed: int, away: set[str]) -> None:
    """Runs that end after any number of orders, with nodes away or not: nobody is refused meanwhile; one more run with all
    nodes there completes, and says that it goes on where something was unfinished."""
    fleet, chance = Fleet(), random.Random(seed)
    for number, cut in enumerate(cuts):
        fleet.away = away if number % 2 else set()
        try:
            Play(
                fleet, orders_left=cut, order=chance, after_each=lambda: check(fleet), stamp=f"2026112{number}-0"
            ).run()
        except Cut:
            continue
    fleet.away = set()
    unfinished = not fleet.settled()
    last = Play(fleet, order=chance, after_each=lambda: check(fleet), stamp="20261130-0")
    run = last.run()
    assert fleet.settled()
    assert left(run) == []
    assert ("goes on with" in last.plan[0]) == unfinished


@settings(max_examples=300)
@given(
    st.lists(st.integers(0, 25), max_size=3),
    st.integers(0, 2**16),
    st.sets(st.sampled_from(EVERYONE), max_size=2),
    st.sets(st.sampled_from(EVERYONE), min_size=1, max_size=2),
    st.integers(0, 25),
)
def test_what_leaked_is_never_accepted_again(
    cuts: list[int], seed: int, away: set[str], leaked: set[str], first: int
) -> None:
    """A leak in whatever state an earlier rotation was left, cut off anywhere, with nodes away: once a run has come through
    and says that nothing is left that matters, no node accepts the leaked keys; what is reached refuses them from the first
    phase on; and it ends settled. It does not go back by old rings that come late."""
    fleet, chance = Fleet(), random.Random(seed)
    try:
        Play(fleet, orders_left=first, order=chance, stamp="20261119-0").run()
    except Cut:
        pass
    stolen = {key.id for name in leaked for key in fleet.own[name] if key.live}
    late = {name: ring_text(fleet.own[name]) for name in fleet.names}
    for number, cut in enumerate(cuts):
        fleet.away = away if number % 2 == 0 else set()
        try:
            run = Play(fleet, tuple(leaked), orders_left=cut, order=chance, stamp=f"2026112{number}-0").run()
        except Cut:
            continue
        if not any(one.fails for one in left(run)):
            assert not accepted_anywhere(fleet, stolen)
    fleet.away = set()
    run = Play(fleet, tuple(leaked), order=chance, stamp="20261130-0").run()
    assert left(run) == [] and fleet.settled()
    assert not accepted_anywhere(fleet, stolen)
    assert leaked <= fleet.emergencies
    for name in fleet.names:
        for agent in fleet.copies[name]:
            fleet.copies[name][agent] = keys.merge(fleet.copies[name][agent], parse_ring(late[agent], 0.0))
    assert not accepted_anywhere(fleet, stolen)


def accepted_anywhere(fleet: Fleet, ids: set[str]) -> set[str]:
    """Those of these ids that some node lets in."""
    return {key.id for rings in fleet.copies.values() for ring in rings.values() for key in ring if key.live} & ids


def test_a_node_that_is_away_keeps_the_others_waiting_and_is_named() -> None:
    """With the sibling away the new keys are made and not used: what waits, for whom, and the next command are said, and that
    is no failure; when it is back the same command completes, under the same label."""
    fleet = Fleet(("axiom", "coz"))
    before = signing(fleet)
    fleet.away = {"axiom"}
    run = Play(fleet, limit=fleet.names).run()
    assert signing(fleet) == before
    waits = next(one for one in left(run) if one.node == "coz")
    assert "waits until axiom has it" in waits.wrong and waits.mend == "ansible-playbook rotate-keys.yml"
    assert any(one.node == "axiom" and "switch it on; when it is back" in one.mend for one in left(run))
    assert not any(one.fails for one in left(run))
    fleet.away = set()
    again = Play(fleet, limit=fleet.names, stamp="20261122-0")
    assert left(again.run()) == []
    assert "20261121-030000: goes on" in again.plan[0]
    assert {key.rotation for name in fleet.names for key in fleet.own[name] if key.live} == {"20261121-030000"}


def test_a_limit_does_not_rotate_by_half() -> None:
    """With `-l coz` its new key waits, because axiom has not got it, and axiom is named."""
    fleet = Fleet(("axiom", "coz"))
    before = signing(fleet)
    run = Play(fleet, limit=("coz",)).run()
    assert signing(fleet) == before
    assert any(one.node == "axiom" and "left out of this run (-l)" in one.wrong for one in left(run))
    assert "rotate-keys.yml" in next(one.mend for one in left(run) if one.node == "coz")


def test_a_leak_with_the_leaked_node_away_is_refused_by_the_rest() -> None:
    """Its peers refuse it at once, which is what matters, so that the run does not fail; who may still accept it fails it."""
    fleet = Fleet()
    stolen = {keys.signing(fleet.own["axiom"]).id}
    fleet.away = {"axiom"}
    run = Play(fleet, ("axiom",)).run()
    assert not accepted_anywhere(fleet, stolen)
    assert not any(one.fails for one in left(run))
    assert any("signs with one that is refused" in one.wrong for one in left(run))
    other = Fleet()
    other.away = {"coz"}
    ended = left(Play(other, ("axiom",)).run())
    assert [one.node for one in ended if one.fails] == ["coz"]
    assert "may still accept axiom's leaked key" in ended[0].wrong and "leaked=axiom" in ended[0].mend


def test_a_second_leak_is_another_rotation() -> None:
    """Once all is settled, naming the same node again revokes what it has now; while it is unfinished, it does not."""
    fleet = Fleet()
    Play(fleet, ("axiom",)).run()
    first = keys.signing(fleet.own["axiom"]).id
    Play(fleet, ("axiom",), stamp="20261122-0").run()
    assert [key.state for key in fleet.own["axiom"] if key.id == first] == ["revoked"]
    unfinished = Fleet()
    unfinished.away = {"coz"}
    Play(unfinished, ("axiom",)).run()
    made = keys.signing(unfinished.own["axiom"]).id
    unfinished.away = set()
    Play(unfinished, ("axiom",), stamp="20261122-0").run()
    assert keys.signing(unfinished.own["axiom"]).id == made
    assert unfinished.settled()


def test_a_revocation_that_one_node_knows_reaches_all_without_being_named() -> None:
    """A key that was revoked by hand on one node is what any later run deals with first."""
    fleet = Fleet()
    stolen = keys.signing(fleet.own["axiom"]).id
    fleet.copies["coz"]["axiom"] = keys.revoke(fleet.copies["coz"]["axiom"], {stolen})
    play = Play(fleet)
    assert left(play.run()) == []
    assert f"leaked: axiom: {stolen}" in play.plan[1]
    assert not accepted_anywhere(fleet, {stolen})


@pytest.mark.parametrize(
    ("leaked", "since", "words"),
    [
        (["axoim"], "", "leaked: axoim is no node of the inventory; mend: one of axiom, coz, witness"),
        ([], "yesterday", "since: 'yesterday' is no moment; mend: write 2026-11-20"),
        ([], "36h", ""),
        ([], "3d ago", ""),
        ([], "2026-11-20T14:00Z", ""),
    ],
)
def test_what_a_person_mistypes_is_said_before_anything_is_changed(leaked: list[str], since: str, words: str) -> None:
    """An unknown node or moment is one line with the mend."""
    run = rotation.Run(EVERYONE, {}, {}, EVERYONE, since=since)
    assert words in " ".join(rotation.findings(run, leaked)) and bool(words) == bool(rotation.findings(run, leaked))


def test_the_window_begins_when_the_leaked_key_was_made() -> None:
    """Without `since`, the audit looks back to the oldest key that is revoked now; a person's word outweighs that."""
    fleet = Fleet()
    told = {name: fleet.look(name) for name in EVERYONE}
    about = {"members": EVERYONE, "talks": {}, "asked": EVERYONE, "leaked": ("coz",), "label": "x-leak"}
    made = datetime.fromtimestamp(fleet.own["coz"][0].made, UTC).isoformat()
    assert rotation.starts(rotation.gathered(told, **about)) == {"coz": made}
    assert rotation.starts(rotation.gathered(told, since="2h", **about)) == {"coz": "2h"}


def test_the_table_and_the_proofs_are_a_persons() -> None:
    """A runtime that is down or holds other keys, a failed ping, a process with an old key, an emergency: each is a line that
    names the next command, and only what matters fails."""
    fleet = Fleet(("axiom", "coz"))
    play = Play(fleet, limit=fleet.names)
    play.run()
    proofs: dict[str, dict[str, Any]] = {
        "axiom": {"pings": {"coz": {"ok": True}}, "mode": "emergency", "unlike": ["coz 0123456789"]},
        "coz": {
            "pings": {"axiom": {"ok": False, "error": "axiom answers nothing"}},
            "mode": "normal",
            "held": [{"pid": "42", "program": "agent", "where": "environment", "id": "aaaaaaaaaa"}],
        },
    }
    told = {
        name: {**play.told[name], "proof": proofs[name], "command": f"outlast --node {name}"} for name in fleet.names
    }
    about = {
        "members": fleet.names,
        "talks": {"axiom": ("coz",), "coz": ("axiom",)},
        "asked": fleet.names,
        "label": "x",
    }
    run = rotation.gathered(told, **about)
    said = {(one.node, one.fails): one.line() for one in left(run)}
    assert "process 42 (agent) has the old key aaaaaaaaaa in its environment" in said["coz", True]
    assert 'outlast --node axiom resume --reason "' in said["axiom", False]
    assert any("site.yml -l axiom" in one.mend for one in left(run))
    rows = rotation_words.rows(run, NOW)
    assert [len(row) for row in rows] == [len(rotation_words.HEAD)] * 2
    assert rows[1][5:] == ("axiom", "axiom:failed", "normal")


def test_gateways_are_told_of_after_the_keys() -> None:
    """What came of each: proven, or not running; who is away waits and fails nothing; what failed, and what still holds an old
    token, must not wait."""
    away = {"field": "ansible_host", "wrong": "it is off", "mend": "switch it on"}
    told: dict[str, dict[str, Any]] = {
        "coz": {"answer": {"proved": True, "held": []}},
        "axiom": {"answer": {"proved": False, "held": ["process 7 (node)"]}},
        "witness": {"away": away, "answer": {}},
        "other": {"msg": "openclaw: the gateway goes on with an old token; mend: stop it"},
        "none": {},
    }
    lines, left = rotation_gateways.ended(told, "AGAIN")
    assert lines == [
        "coz: OpenClaw's tokens are new; the gateway refuses the old ones",
        "axiom: OpenClaw's tokens are new; the gateway does not run, and starts with these",
    ]
    assert [(one.node, one.fails) for one in left] == [
        ("axiom", True),
        ("witness", False),
        ("other", True),
        ("none", True),
    ]
    assert [one.mend for one in left] == [
        "end it, or delete it there",
        "switch it on; when it is back: AGAIN",
        "stop it; then: AGAIN",
        "AGAIN",
    ]
    assert rotation_gateways.intent([]) == [] and "coz, axiom" in rotation_gateways.intent(["coz", "axiom"])[0]
