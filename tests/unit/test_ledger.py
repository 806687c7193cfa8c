"""The ledger: ids, counters and the outbox over restarts and damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.clock import FixedClock

from outlast.errors import DurabilityError
from outlast.store.ledger import Accepted, Keep, Ledger, Taken
from outlast.store.ledgerview import LedgerView

KEEP = Keep(ids_s=10_000.0, record_s=10_000.0, record_most=100, ahead_s=300.0)


def taken(msg_id: str, seq: int = 1, at: float = 1000.0, about: str = "") -> Taken:
    return Taken(Accepted("coz", msg_id, at, int(at), "0123456789", "::1", "note", 9, seq, "", "", about), 202)


def open_ledger(folder: Path, now: float = 1000.0, *, begun: bool = False) -> Ledger:
    return Ledger(folder / "outlast.db", folder / "trash", FixedClock(now), begun=begun)


def test_an_id_is_known_after_a_restart(tmp_path: Path) -> None:
    """An id that was accepted is known to the next run, with the answer of the first time, as its sender's own."""
    first = open_ledger(tmp_path)
    first.accept([taken("task_a")], KEEP)
    first.close()
    assert open_ledger(tmp_path).seen("coz", "task_a") == 202
    assert open_ledger(tmp_path).seen("coz", "task_b") is None
    assert open_ledger(tmp_path).seen("witness", "task_a") is None


def test_gaps_and_repeats_are_counted(tmp_path: Path) -> None:
    """A number that is skipped counts as lost, one that comes again as a repeat; both are findings."""
    ledger = open_ledger(tmp_path)
    seqs = [1, 2, 5, 5, 3, 6]
    found = ledger.accept([taken(f"id{n}", seq) for n, seq in enumerate(seqs[:4])], KEEP)
    found += [finding for n, seq in enumerate(seqs[4:]) for finding in ledger.accept([taken(f"more{n}", seq)], KEEP)]
    assert found == ["", "", "gap of 2", "repeat", "repeat", ""]
    channel = ledger.channel("coz")
    assert (channel.received, channel.gaps, channel.repeats) == (6, 2, 2)


def test_the_outbox_is_in_order_and_takes_an_id_once(tmp_path: Path) -> None:
    """Messages come out oldest first, numbered without gaps; one that waits or was sent is not taken again."""
    ledger = open_ledger(tmp_path)
    for name in ("a", "b", "a"):
        ledger.enqueue("axiom", name, lambda seq: str(seq).encode(), 1000.0)
    assert ledger.queued("axiom") == 2
    first = ledger.next_outgoing("axiom")
    assert first is not None and (first.id, first.seq, first.body) == ("a", 1, b"1")
    ledger.settle("axiom", first, 202, 1000.0)
    ledger.enqueue("axiom", "a", lambda seq: str(seq).encode(), 1000.0)
    second = ledger.next_outgoing("axiom")
    assert second is not None and (second.id, second.seq) == ("b", 2)
    assert ledger.queued("axiom") == 1
    assert ledger.delivered("a")
    assert not ledger.delivered("b")


def test_a_damaged_ledger_is_set_aside_and_old_messages_stay_out(tmp_path: Path) -> None:
    """A ledger that is not one any more is kept in trash; nothing signed before its loss is taken from then on."""
    open_ledger(tmp_path).close()
    (tmp_path / "outlast.db").write_bytes(b"not a database" * 100)
    ledger = open_ledger(tmp_path, now=5000.0)
    assert "damaged" in ledger.finding
    assert ledger.not_before == 5000.0
    assert any(path.read_bytes().startswith(b"not a database") for path in (tmp_path / "trash").iterdir())
    ledger.close()
    assert open_ledger(tmp_path, now=9000.0).not_before == 5000.0


def test_a_ledger_that_is_gone_keeps_old_messages_out_too(tmp_path: Path) -> None:
    """A node that has worked before and finds no ledger takes nothing signed earlier, and says so; a new node takes all."""
    lost = open_ledger(tmp_path, now=5000.0, begun=True)
    assert "missing" in lost.finding
    assert lost.not_before == 5000.0
    lost.close()
    again = open_ledger(tmp_path, now=6000.0, begun=True)
    assert (again.finding, again.not_before) == ("", 5000.0)
    new = open_ledger(tmp_path / "new", now=5000.0)
    assert (new.finding, new.not_before) == ("", 0.0)


def test_a_clock_that_was_ahead_does_not_shut_the_door(tmp_path: Path) -> None:
    """A ledger that was begun anew while the clock was a year ahead takes messages again once the clock is right."""
    open_ledger(tmp_path, now=9e9, begun=True).close()
    assert open_ledger(tmp_path, now=5000.0).not_before == 5000.0
    assert open_ledger(tmp_path, now=6000.0).not_before == 5000.0


def test_all_of_a_batch_or_nothing(tmp_path: Path) -> None:
    """Where one of them cannot be written none is remembered, and none is counted."""
    ledger = open_ledger(tmp_path)
    broken = Taken(taken("b").message._replace(about=None), 202)  # type: ignore[arg-type]
    with pytest.raises(DurabilityError):
        ledger.accept([taken("a"), broken], KEEP)
    assert ledger.seen("coz", "a") is None and ledger.channel("coz").received == 0
    ledger.accept([taken("a")], KEEP)
    assert ledger.seen("coz", "a") == 202


def test_where_ids_are_forgotten_what_was_signed_then_is_too_old(tmp_path: Path) -> None:
    """The floor follows what was forgotten, over restarts; a clock that was ahead does not shut the door for good."""
    ledger = open_ledger(tmp_path)
    ledger.accept([taken("old", at=1000.0)], KEEP)
    assert ledger.floor(1000.0) == 0.0
    ledger.accept([taken("new", at=20_000.0)], KEEP)
    assert ledger.seen("coz", "old") is None
    assert ledger.floor(20_000.0) == 10_300.0
    ledger.close()
    assert open_ledger(tmp_path, now=20_000.0).floor(20_000.0) == 10_300.0
    assert open_ledger(tmp_path, now=2000.0).floor(2000.0) == 2000.0


def test_a_ledger_of_an_older_version_gets_what_it_lacks(tmp_path: Path) -> None:
    """A file without the record is taken as it is; from that moment on all is recorded, and it says so."""
    old = open_ledger(tmp_path)
    old.accept([taken("a")], KEEP)
    old._run("DROP TABLE accepted")
    old._run("DELETE FROM meta WHERE name != 'not_before'")
    old.close()
    ledger = open_ledger(tmp_path, now=5000.0, begun=True)
    assert (ledger.finding, ledger.not_before, ledger.seen("coz", "a")) == ("", 0.0, 202)
    ledger.accept([taken("b", 2, 5000.0, "unit")], KEEP)
    with LedgerView(tmp_path / "outlast.db") as view:
        assert view.begins() == 5000.0
        assert [row.id for row in view.naming("unit", 9)] == ["b"]


def test_what_waits_is_measured(tmp_path: Path) -> None:
    """The bytes that wait for each peer are known."""
    ledger = open_ledger(tmp_path)
    assert ledger.waiting_bytes("axiom") == 0
    for name in ("a", "b"):
        ledger.enqueue("axiom", name, lambda _: b"12345", 1000.0)
    assert (ledger.waiting_bytes("axiom"), ledger.waiting_bytes("coz")) == (10, 0)
