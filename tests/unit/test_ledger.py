"""The ledger: ids, counters and the outbox over restarts and damage."""

from __future__ import annotations

from pathlib import Path

from support.clock import FixedClock

from outlast.store.ledger import Ledger


def open_ledger(folder: Path, now: float = 1000.0, *, begun: bool = False) -> Ledger:
    return Ledger(folder / "outlast.db", folder / "trash", FixedClock(now), begun=begun)


def test_an_id_is_known_after_a_restart(tmp_path: Path) -> None:
    """An id that was accepted is known to the next run, with the answer of the first time, as its sender's own."""
    first = open_ledger(tmp_path)
    first.accept("task_a", "coz", 1, 202, 1000.0, 0.0)
    first.close()
    assert open_ledger(tmp_path).seen("coz", "task_a") == 202
    assert open_ledger(tmp_path).seen("coz", "task_b") is None
    assert open_ledger(tmp_path).seen("witness", "task_a") is None


def test_gaps_and_repeats_are_counted(tmp_path: Path) -> None:
    """A number that is skipped counts as lost, one that comes again as a repeat; both are findings."""
    ledger = open_ledger(tmp_path)
    found = [ledger.accept(f"id{n}", "coz", seq, 202, 1000.0, 0.0) for n, seq in enumerate([1, 2, 5, 5, 3, 6])]
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
