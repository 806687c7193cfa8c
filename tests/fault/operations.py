"""What is cut at every I/O step, and what must hold afterwards: the store. See fault.powercut."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from fault.powercut import Operation, Said, Voice
from support.clock import FixedClock

from outlast.core.keys import Secret, prepare, signs, use
from outlast.core.record import Step
from outlast.core.ringtext import ring_text
from outlast.home import Home
from outlast.store import durable, heartbeat
from outlast.store.journal import Journal
from outlast.store.keyring import Keyring, make_key, read_ring
from outlast.store.ledger import Accepted, Keep, Ledger, Taken
from outlast.store.ledgerview import LedgerView
from outlast.store.memory import Memory

__all__ = ["NOON", "STORE"]

NOON = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))
_DAY = 86_400.0


def _subset(found: set[str], said: Said) -> None:
    """All that was acknowledged is there, and nothing else than what was begun."""
    lost, invented = set(said.done) - found, found - set(said.begun)
    assert not lost, f"acknowledged, and lost: {sorted(lost)}"
    assert not invented, f"never begun: {sorted(invented)}"


# The primitives: what their docstrings promise.


def _act_primitives(disk: Path, voice: Voice) -> None:
    """Each builds on the one before."""
    steps: dict[str, Callable[[], object]] = {
        "made": lambda: durable.make_dir(disk / "a" / "b"),
        "one": lambda: durable.replace(disk / "a" / "b" / "file", b"one" * 700),
        "two": lambda: durable.replace(disk / "a" / "b" / "file", b"two" * 900),
        "other": lambda: durable.make_dir(disk / "c"),
        "moved": lambda: durable.move(disk / "a" / "b" / "file", disk / "c" / "moved"),
        "aside": lambda: durable.set_aside(disk / "c" / "moved", disk / "trash", "now"),
    }
    for name, step in steps.items():
        with voice(name):
            step()
        if voice.failed:
            return


def _primitives_later(disk: Path, voice: Voice) -> None:
    with voice("later"):
        durable.make_dir(disk / "a" / "b")
        durable.replace(disk / "a" / "b" / "later", b"later")


def _check_primitives(disk: Path, said: Said) -> None:
    durable.sweep(disk / "a" / "b")
    where = {path.name.rpartition("-")[2]: path for path in disk.rglob("*") if path.is_file()}
    later = where.pop("later", None)
    assert "later" not in said.done or (later is not None and later.read_bytes() == b"later")
    expected = {b"one" * 700: "one", b"two" * 900: "two"}
    for path in where.values():
        assert path.read_bytes() in expected, f"{path.name} is neither the old nor the new"
    assert "made" not in said.done or (disk / "a" / "b").is_dir()
    if "one" in said.done:
        assert where, "the file is lost"
    if "two" in said.done:
        assert {expected[path.read_bytes()] for path in where.values()} == {"two"}
    if "moved" in said.done:
        assert set(where) == {"moved"}
    if "aside" in said.done:
        assert [path.parent.name for path in where.values()] == ["trash"]


# The journal.


def _act_journal(disk: Path, voice: Voice) -> None:
    clock = FixedClock(NOON)
    journal = Journal(disk / "memory", "axiom", clock)
    for day in range(2):
        clock.now = NOON + day * _DAY
        for number in range(3):
            what = f"day {day} number {number}"
            with voice(what):
                journal.append(Step.NOTE, "unit", what)
            daily = disk / "memory" / f"2026-11-{21 + day}.md"
            if number == 1 and daily.exists():
                # Somebody else's text, and its line is not ended.
                with open(daily, "a") as file:
                    file.write("remember the milk")
    journal.close()


def _journal_later(disk: Path, voice: Voice) -> None:
    journal = Journal(disk / "memory", "axiom", FixedClock(NOON))
    with voice("later"):
        journal.append(Step.NOTE, "unit", "later")
    journal.close()


def _check_journal(disk: Path, said: Said) -> None:
    journal = Journal(disk / "memory", "axiom", FixedClock(NOON + 2 * _DAY))
    records = list(journal.since(0)) if (disk / "memory").is_dir() else []
    whats = [record.what for record in records if record.what != "after"]
    assert len(whats) == len(set(whats)), whats
    _subset(set(whats), said)
    numbers = [record.seq for record in records]
    assert numbers == sorted(set(numbers)), numbers
    if records and records[-1].what != "after":
        # What comes next is on a line of its own, and has a number of its own.
        journal.append(Step.NOTE, "unit", "after")
        again = list(Journal(disk / "memory", "axiom", FixedClock(NOON)).since(0))
        assert again[:-1] == records and again[-1].what == "after"
    journal.close()


# The memory: journal and STATE.json together.


def _units(count: int) -> list[str]:
    return [f"axiom-d1zjstvszx{number:02d}" for number in range(count)]


def _act_memory(disk: Path, voice: Voice) -> None:
    home, clock = Home(disk), FixedClock(NOON)
    memory = Memory(home, "axiom", clock)
    for unit in _units(2):
        with voice(f"intent {unit}"):
            memory.intent(unit, "handoff", "coz", "host report")
        if voice.failed:
            continue
        with voice(f"update {unit}"):
            memory.update(unit, "done", "report.md")
        if voice.failed:
            continue
        with voice(f"confirm {unit}"):
            memory.confirm(unit, "done", "report.md")
        clock.now += _DAY
    with voice("emergency"):
        memory.note("mode", "emergency: the disk is full")
    with voice("flush"):
        memory.flush()
    memory.close()


def _memory_later(disk: Path, voice: Voice) -> None:
    memory = Memory(Home(disk), "axiom", FixedClock(NOON))
    seen = [f"intent {name}" for name in memory.state.units]
    unit = _units(9)[8]
    with voice(f"intent {unit}", *seen):
        memory.intent(unit, "handoff", "coz", "host report")
    with voice(f"update {unit}"):
        memory.update(unit, "done", "report.md")
    memory.close()


def _check_memory(disk: Path, said: Said) -> None:
    projected = Home(disk).state_file.exists()
    memory = Memory(Home(disk), "axiom", FixedClock(NOON + 3 * _DAY))
    state = memory.state
    found = {f"intent {name}" for name in state.units}
    found |= {f"update {name}" for name, unit in state.units.items() if unit.status == "done"}
    found |= {f"confirm {name}" for name, unit in state.units.items() if unit.confirmed}
    if state.emergency:
        assert state.emergency == "the disk is full"
        found.add("emergency")
    _subset(found | {"flush"}, Said((*said.begun, "flush"), said.done))
    # Each STATE.json is whole, the old one or the new.
    assert not projected or not any("rebuilt" in str(finding) for finding in memory.findings), memory.findings
    memory.close()


# The ledger.


_KEEP = Keep(ids_s=_DAY, record_s=_DAY, record_most=100, ahead_s=300.0)


def _taken(msg_id: str, seq: int) -> Taken:
    return Taken(
        Accepted("coz", msg_id, NOON, int(NOON), "0123456789", "::1", "note", 9, seq, "", "", f"about {msg_id}"), 202
    )


def _act_ledger(disk: Path, voice: Voice) -> None:
    ledger = Ledger(disk / "var" / "outlast.db", disk / "trash", FixedClock(NOON), begun=False)
    for number in range(3):
        with voice(f"queued {number}"):
            ledger.enqueue("coz", f"task_{number}", lambda seq: b"body %d" % seq, NOON)
        with voice(f"seen {number}"):
            ledger.accept([_taken(f"other_{number}", number + 1)], _KEEP)
    if out := ledger.next_outgoing("coz"):
        with voice(f"settled {out.id.removeprefix('task_')}"):
            ledger.settle("coz", out, 202, NOON)
    ledger.close()


def _check_ledger(disk: Path, said: Said) -> None:
    ledger = Ledger(disk / "var" / "outlast.db", disk / "trash", FixedClock(NOON), begun=False)
    assert not ledger.finding, ledger.finding
    numbers = range(4)
    found = {f"queued {n}" for n in numbers if ledger.waiting(f"task_{n}") or ledger.delivered(f"task_{n}")}
    found |= {f"seen {n}" for n in numbers if ledger.seen("coz", f"other_{n}") == 202}
    # One transaction: the id and the record of who sent it.
    with LedgerView(disk / "var" / "outlast.db") as view:
        recorded = {row.about for n in numbers for row in view.naming(f"other_{n}", 9)}
    assert recorded == {f"about other_{word[5:]}" for word in found if word.startswith("seen")}
    found |= {f"settled {n}" for n in numbers if ledger.delivered(f"task_{n}")}
    _subset(found, said)
    assert not any(ledger.waiting(f"task_{n}") and ledger.delivered(f"task_{n}") for n in numbers)
    # One transaction: the count and the message.
    assert ledger.channel("coz").sent == sum(word.startswith("queued") for word in found)
    assert ledger.channel("coz").received == max(
        [int(word[5:]) + 1 for word in found if word.startswith("seen")], default=0
    )
    ledger.close()


# What is replaced beside the memory.


def _act_heartbeat(disk: Path, voice: Voice) -> None:
    for lines in ("mode: degraded", "mode: emergency", ""):
        with voice(f"[{lines}]"):
            heartbeat.show(disk / "HEARTBEAT.md", lines)


def _check_heartbeat(disk: Path, said: Said) -> None:
    text = (disk / "HEARTBEAT.md").read_text()
    assert text.startswith("- feed the cat\n")
    shown = text.splitlines()[2] if "outlast: begin" in text else ""
    if said.done:
        assert f"[{shown}]" in said.begun[len(said.done) - 1 :], f"{shown!r} after {said}"


def _act_key(disk: Path, voice: Voice) -> None:
    with voice("key"):
        assert make_key(disk / "keys" / "axiom.key")


def _check_key(disk: Path, said: Said) -> None:
    path = disk / "keys" / "axiom.key"
    if "key" in said.done or path.exists():
        path.chmod(0o600)
        assert len(read_ring(path)) == 1


# A rotation and a leak: after each order the states of the node's own keys, of its peer's, and of an outside service's.
_ORDERS: dict[str, tuple[Callable[[Keyring], object], str]] = {
    "prepare": (lambda ring: ring.prepare("hmac", NOON, "r1"), "accepted active / / "),
    "use": (lambda ring: ring.use(), "active accepted / / "),
    "retire": (lambda ring: ring.retire(), "active retired / / "),
    "accept": (lambda ring: ring.accept("coz", _COZ), "active retired / active / "),
    "add": (lambda ring: ring.add("home", ("note",), 10, NOON), "active retired / active / active"),
    "remove": (lambda ring: ring.remove("home"), "active retired / active / revoked"),
    "revoke a peer's": (lambda ring: ring.revoke("coz"), "active retired / revoked / revoked"),
    "revoke its own": (lambda ring: ring.revoke("axiom"), "revoked retired / revoked / revoked"),
}
_COZ = ring_text(use(prepare((), Secret(b"c" * 32), NOON, "")))


def _act_ring(disk: Path, voice: Voice) -> None:
    ring = Keyring(disk / "keys", "axiom", ["coz"])
    for name, (change, _) in _ORDERS.items():
        with voice(name):
            change(ring)
        if voice.failed:
            return


def _ring_later(disk: Path, voice: Voice) -> None:
    """Who types the last order again is told that it is so: then it is."""
    ring = Keyring(disk / "keys", "axiom", ["coz"])
    with voice("again"):
        ring.revoke("axiom")


def _check_ring(disk: Path, said: Said) -> None:
    """The old ring or the new one, whole, and never none."""
    for path in (disk / "keys").rglob("*.key"):
        path.chmod(0o600)
    ring = Keyring(disk / "keys", "axiom", ["coz"])
    outside = ring.outside.get("home")
    rings = (ring.own, ring.peers.get("coz", ()), outside.ring if outside else ())
    found = " / ".join(" ".join(key.state for key in one) for one in rings)
    if "again" in said.begun:
        assert "again" not in said.done or not signs(ring.own), found
        return
    after = ["active / / ", *(told for _, told in _ORDERS.values())]
    expected = [" / ".join(part.strip() for part in told.split("/")) for told in after]
    assert found in expected[len(said.done) : len(said.begun) + 1], f"{found!r} after {said}"
    assert all((key.secret is None) != key.live for one in rings for key in one)


STORE = [
    Operation("primitives", _act_primitives, _check_primitives, later=_primitives_later),
    Operation("journal", _act_journal, _check_journal, later=_journal_later),
    Operation("memory", _act_memory, _check_memory, later=_memory_later),
    Operation("ledger", _act_ledger, _check_ledger),
    Operation(
        "heartbeat",
        _act_heartbeat,
        _check_heartbeat,
        lambda disk: bool((disk / "HEARTBEAT.md").write_text("- feed the cat\n")),
    ),
    Operation("key", _act_key, _check_key),
    Operation(
        "ring", _act_ring, _check_ring, lambda disk: _act_key(disk, Voice(lambda _: None)), later=_ring_later, stride=3
    ),
]
