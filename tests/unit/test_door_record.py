"""The record of what came through the door: bounded, and true about where it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.doorway import NOON, Doorway, envelope, note, signed

PING = envelope({"type": "ping"}, 0, channel="control")


def test_the_record_is_bounded_and_says_from_when_on_it_is_whole(tmp_path: Path) -> None:
    """No more rows than ``audit_most``, none older than ``audit_keep``, and the moment from which on nothing is missing."""
    door = Doorway(tmp_path, messages={"audit_most": 3, "audit_keep": "1h"})
    begins = door.node.ledger._file.meta
    assert begins("record_begins") == 0.0
    for number in range(5):
        door.clock.now = NOON + number
        door.statuses(signed(note("x", number + 1), f"note_{number}", at=door.clock.now))
    assert [row["id"] for row in door.recorded()] == ["note_2", "note_3", "note_4"]
    assert begins("record_begins") == NOON + 1
    door.clock.now = NOON + 3603.5
    door.statuses(signed(note("x", 9), "note_9", at=door.clock.now))
    assert [row["id"] for row in door.recorded()] == ["note_4", "note_9"]
    assert begins("record_begins") == NOON + 3
    door.close()


def test_pings_are_not_recorded_and_not_taken_twice(door: Doorway) -> None:
    """They cause nothing; their ids are known all the same."""
    assert door.statuses(signed(PING, "ping_1")) == [200]
    assert not door.recorded() and door.node.ledger.seen("coz", "ping_1") == 200


def test_what_is_shared_is_recorded_by_its_span(door: Doorway) -> None:
    """An audit can find the very entries that came in."""
    entries = [{"agent": "coz", "seq": seq, "kind": "set", "key": f"k{seq}", "value": "v"} for seq in (3, 4, 7)]
    holding: dict[str, Any] = {"have": {}, "sums": {}}
    answer = door.send(signed(envelope({"type": "share", "holding": holding, "entries": entries}, 0), "share_1"))[0]
    assert answer.status == 202, answer.body
    assert door.recorded()[0]["about"] == "coz:3-7"
