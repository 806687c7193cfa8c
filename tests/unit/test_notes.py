"""Notes that this node sends, and the limit on what may wait for a peer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.doorway import UNITS, Doorway, note, signed

from outlast.core.ids import note_unit, valid_unit
from outlast.errors import BadInput

UNIT = "axiom-d1zjz7qv76sa"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Doorway]:
    made = Doorway(tmp_path, messages={"outbox_limit": "1KiB"})
    yield made
    made.close()


def test_a_note_is_in_our_journal_and_in_the_outbox(door: Doorway) -> None:
    """Asked twice, also after a restart, it is sent once; the peer is told the text and nothing else."""
    for _ in range(2):
        door.node.notes.make(UNIT, "coz", "the backup disk is new")
    door.again()
    door.node.notes.make(UNIT, "coz", "the backup disk is new")
    assert door.noted() == ["to coz: the backup disk is new"]
    out = door.node.ledger.next_outgoing("coz")
    assert out is not None and out.id == f"note_{UNIT}" and door.node.ledger.queued("coz") == 1
    assert json.loads(out.body)["message"] == {"type": "note", "text": "the backup disk is new"}
    assert note_unit("axiom", out.id) == UNIT


def test_what_would_make_too_much_wait_is_refused_before_it_is_remembered(door: Doorway) -> None:
    """A note and a hand-off over ``messages.outbox_limit``: one line that says what waits and what to do; no record, no
    message; the other peer is not concerned; and there is room again once something was delivered."""
    door.node.notes.make(UNIT, "coz", "x" * 700)
    before = door.noted()
    for make in (door.node.notes.make, door.node.handoffs.make):
        with pytest.raises(BadInput, match="bytes wait for coz already") as caught:
            make("axiom-d1zjz7qv76sb", "coz", "y" * 500)
        assert caught.value.field == "messages.outbox_limit" and "\n" not in str(caught.value)
    assert door.noted() == before and "axiom-d1zjz7qv76sb" not in door.node.state.units
    assert door.node.ledger.queued("coz") == 1
    door.node.notes.make("axiom-d1zjz7qv76sc", "witness", "y" * 500)
    out = door.node.ledger.next_outgoing("coz")
    assert out is not None
    door.node.ledger.settle("coz", out, 202, door.clock.now)
    door.node.handoffs.make("axiom-d1zjz7qv76sb", "coz", "y" * 500)
    assert door.node.ledger.queued("coz") == 1


def test_a_note_that_is_given_up_is_named(door: Doorway) -> None:
    """It is in the journal which note did not arrive, and why; `outlast status` shows it."""
    door.node.notes.make(UNIT, "coz", "the backup disk is new")
    door.node._given_up("coz", f"note_{UNIT}", "in doubt", "it is too old")
    assert [(one.unit, one.what) for one in door.node.state.recovered] == [
        (UNIT, "the note could not be told to coz: it is too old")
    ]


def test_names_of_notes() -> None:
    """The sender's own name for it where it is one of the sender's; else one that its id leads to, the same on every node."""
    assert note_unit("coz", f"note_{UNITS[0]}") == UNITS[0]
    for sender, msg_id in (
        ("witness", f"note_{UNITS[0]}"),
        ("coz", f"task_{UNITS[0]}"),
        ("home", "msg_1"),
        ("coz", "note_x"),
    ):
        name = note_unit(sender, msg_id)
        assert valid_unit(name) and name.startswith("note-") and name == note_unit(sender, msg_id)
    assert note_unit("a", "msg_1") != note_unit("b", "msg_1") != note_unit("b", "msg_2")


def test_texts_that_look_like_our_own_words(door: Doorway) -> None:
    """A text is text: line breaks, control characters, what looks like a record or a piece; one line each, once each."""
    texts = [
        "two\nlines",
        "- 14:03:07 NOTE mode emergency: no [axiom:1 00000000]",
        "(1/2): half",
        "\x00\x1b[31mred",
        "\u202e",
        " ",
    ]
    sent = [signed(note(text, number), f"note_{number}") for number, text in enumerate(texts, 1)]
    assert door.statuses(*sent) == [202] * len(texts)
    said = door.noted()
    assert said[0] == "from coz: two lines" and said[1].startswith("from coz: - 14:03:07") and len(said) == len(texts)
    assert all(line.isprintable() and line.startswith("from coz: ") for line in said[:4])
    door.node.ledger._run("DELETE FROM seen")
    door.again()
    assert door.statuses(*sent) == [202] * len(texts)
    assert door.noted() == said and door.node.state.emergency == ""
