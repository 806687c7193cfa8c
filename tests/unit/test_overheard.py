"""What anybody may send who listens on the way: signed as it should be, and worth nothing, neither here nor to its sender."""

from __future__ import annotations

import json
from pathlib import Path

from support.doorway import NOON, Doorway, envelope, note, signed

from outlast.core.ids import note_unit

PING = envelope({"type": "ping"}, 0, channel="control")


def test_an_answer_that_was_overheard_is_no_message(tmp_path: Path) -> None:
    """coz signs its answers with the key of its messages: sent to coz's inbox they are refused like a forgery, and take
    nothing from coz's rate."""
    door = Doorway(tmp_path, messages={"rate": 1, "rate_window": "10m"})
    answer = signed(json.dumps({"node": "coz", "status": 202, "now": NOON}).encode(), "res_note_1")
    assert door.statuses(*[answer] * 5) == [401] * 5
    assert door.refused() == {"an answer, which is no message": 5}
    assert door.statuses(signed(note())) == [202]
    door.close()


def test_what_was_refused_once_takes_from_the_rate_once(tmp_path: Path) -> None:
    """coz's messages to another node, sent to this one again and again, keep out neither coz's work nor its pings."""
    door = Doorway(tmp_path, messages={"rate": 2, "control_rate": 2, "rate_window": "10m"})
    elsewhere = signed(note(to="witness"), "note_2"), signed(PING.replace(b"axiom", b"witness"), "ping_2")
    answers = door.send(*elsewhere * 9)
    assert {answer.status for answer in answers} == {422} and len({answer.body for answer in answers}) == 1
    assert door.refused() == {"wrong address": 18}
    assert door.statuses(signed(note()), signed(PING, "ping_1")) == [202, 200]
    door.clock.now += 1
    assert door.statuses(signed(note("x", to="witness"), "note_2", at=door.clock.now)) == [429]
    door.close()


def test_refusals_that_are_known_again_are_bounded(tmp_path: Path) -> None:
    """Whoever has many of them does not fill our memory."""
    door = Doorway(tmp_path, messages={"rate": 100_000})
    door.statuses(*(signed(b"{", f"note_{number}") for number in range(1100)))
    assert len(door.node.ingress._unfit) == 1024
    door.close()


def test_a_refusal_does_not_say_a_long_text_again(tmp_path: Path) -> None:
    """A field's name of any length fills neither the log nor an answer, which its sender would not read."""
    door = Doorway(tmp_path)
    answer = door.send(signed(note(**{"f" * 200_000: 1})))[0]
    assert answer.status == 422 and "unknown field" in answer.body.decode() and len(answer.body) < 1000
    assert sum(path.stat().st_size for path in door.home.logs.iterdir()) < 2000
    door.close()


def test_no_sender_can_take_the_name_of_anothers_note() -> None:
    """Not even one that is called as the names begin that ids lead to: it could keep the other's note out of the journal."""
    name = note_unit("home", "msg_2")
    assert note_unit("note", f"note_{name}") != name
