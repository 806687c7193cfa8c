"""The ledger: transport bookkeeping that must be transactional.

Rules kept here:

* An id that was accepted is known after any restart, for at least twice the timestamp tolerance (facts.md). Where ids are
  forgotten, because they are old or because a clock said so, nothing that was signed before is taken any more (``floor``):
  whatever the clock does, what was accepted once is not accepted again.
* A message's id, its sequence number, and the record of who sent it, under which key and from where, are written in one
  transaction; many messages may share one.
* An outgoing message's sequence number and its place in the outbox are given in one transaction.
* What is here may be lost without losing state. A ledger that is damaged is set aside, one that is missing is begun anew,
  and the moment is kept (``not_before``). The replay store: from then on nothing that was signed before is taken, so that its
  loss does not open the door to old messages. The outbox and what was sent: hand-offs that are open and results of the last
  days are queued again from their files under the same ids, which peers take once (work.handoffs, work.tasks). The counters
  of the channels: they begin anew, which a peer counts as repeats and nothing else.

Left to others: the file (store.ledgerfile), when to send and what to accept (net), what became of the work (store.memory).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from outlast.clock import Clock, iso, stamp
from outlast.errors import DurabilityError
from outlast.store import durable
from outlast.store.ledgerfile import LedgerFile

__all__ = ["Accepted", "Channel", "Keep", "Ledger", "Outgoing", "Taken"]

_REMEMBER_SENT = 90 * 86_400.0
_COLUMNS = "peer, id, at, signed, key, remote, type, size, seq, trace_id, correlation_id, about"
_RECORD = f"INSERT INTO accepted ({_COLUMNS}) VALUES ({', '.join('?' * 12)})"


class Accepted(NamedTuple):
    """A message that was accepted.

    ``at``: when, seconds since 1970; ``signed``: when it says that it was signed; ``key``: the id of the key that proved it;
    ``remote``: the address that it came from; ``size``: of its body, in bytes; ``seq``: 0 where it is not counted;
    ``about``: the unit, or of shared entries ``agent:first-last``, those of several agents with a space in between.
    """

    peer: str
    id: str
    at: float
    signed: int
    key: str
    remote: str
    type: str
    size: int
    seq: int
    trace_id: str
    correlation_id: str
    about: str


class Taken(NamedTuple):
    """What is to be remembered of a message: its HTTP ``status``, and whether it is recorded for an audit."""

    message: Accepted
    status: int
    recorded: bool = True


@dataclass(frozen=True, slots=True)
class Keep:
    """How long what is known: ids and the record, in seconds, and so many rows of that; and how far ahead of its acceptance
    a message may be signed, in seconds.
    """

    ids_s: float
    record_s: float
    record_most: int
    ahead_s: float


@dataclass(frozen=True, slots=True)
class Channel:
    """The counters of the channel to and from one peer; times are seconds since 1970.

    ``last_received`` is when something that the peer signed last came in: a message, or the answer to one of ours.
    """

    sent: int = 0
    received: int = 0
    gaps: int = 0
    repeats: int = 0
    last_sent: float | None = None
    last_received: float | None = None

    def after(self, seq: int, at: float) -> tuple[Channel, str]:
        """The counters after a message came in, and what was found: ``""``, ``gap of N`` or ``repeat``; 0 is not counted."""
        if not seq:
            return replace(self, last_received=at), ""
        gap, repeat = max(0, seq - self.received - 1), int(seq <= self.received)
        after = replace(
            self,
            received=max(self.received, seq),
            gaps=self.gaps + gap,
            repeats=self.repeats + repeat,
            last_received=at,
        )
        return after, f"gap of {gap}" if gap else "repeat" if repeat else ""

    def report(self) -> dict[str, Any]:
        """The counters as they are printed: times as text."""
        times = {"last_sent": self.last_sent, "last_received": self.last_received}
        return {**asdict(self), **{name: at and iso(at) for name, at in times.items()}}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that waits for its peer; ``queued`` is when it was put there, seconds since 1970."""

    seq: int
    id: str
    body: bytes
    queued: float


class Ledger:
    """The node's ledger. One process at a time holds it. Every method raises DurabilityError."""

    def __init__(self, path: Path, trash: Path, clock: Clock, *, begun: bool) -> None:
        """Open the ledger. One that is damaged is set aside, and one that is missing though the node has ``begun`` is lost."""
        self.finding = ""
        durable.make_dir(path.parent)
        if path.exists() and not path.is_file():
            durable.set_aside(path, trash, stamp(clock.time()))
        if begun and not path.exists():
            self.finding = "the ledger was missing and begun anew"
        now = clock.time()
        # Of a node that never ran before all is recorded.
        record_begins = now if begun or path.exists() else 0.0
        meta = {"not_before": now if begun else 0.0, "forgotten": 0.0, "record_begins": record_begins}
        try:
            self._file = LedgerFile(path, meta)
        except (sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, sqlite3.OperationalError | OSError):
                raise DurabilityError(f"the ledger {path.name} could not be opened: {error}") from error
            for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                if path.with_name(name).exists():
                    durable.set_aside(path.with_name(name), trash, stamp(now))
            self.finding = f"the ledger was damaged ({error}) and begun anew; the old one is in trash"
            self._file = LedgerFile(path, {**meta, "not_before": now, "record_begins": now})
        self._run = self._file.run
        self.not_before = self._file.meta("not_before")
        self._forgotten = self._file.meta("forgotten")
        if self.not_before > now:
            # The clock was ahead when it was begun. Its moment lies before now, whatever that clock said.
            self.not_before = now
            self._file.set_meta("not_before", now)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def seen(self, peer: str, msg_id: str) -> int | None:
        """The HTTP status with which this id of ``peer``'s was first answered; None when it is new."""
        row = self._run("SELECT status FROM seen WHERE peer = ? AND id = ?", (peer, msg_id)).fetchone()
        return int(row[0]) if row else None

    def floor(self, now: float) -> float:
        """What was signed before this moment (seconds since 1970) is not taken: its id may not be known any more."""
        if self._forgotten > now:
            # The clock was ahead when it forgot.
            self._forgotten = now
        return max(self.not_before, self._forgotten)

    def accept(self, batch: Sequence[Taken], keep: Keep) -> list[str]:
        """Remember accepted messages, count them, and forget what is older than ``keep``, in one transaction.

        Returns what was found of each: ``""``, ``gap of N`` or ``repeat``.
        """
        findings = []
        channels: dict[str, Channel] = {}
        with self._file:
            seen = [(message.peer, message.id, message.at, status) for message, status, _ in batch]
            self._file.run_many("INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?)", seen)
            self._file.run_many(_RECORD, [message for message, _, recorded in batch if recorded])
            for message, _, _ in batch:
                peer = message.peer
                before = channels[peer] if peer in channels else self.channel(peer)
                channels[peer], finding = before.after(message.seq, message.at)
                findings.append(finding)
            for peer, after in channels.items():
                self._count(
                    peer,
                    "received = ?, gaps = ?, repeats = ?, last_received = ?",
                    (after.received, after.gaps, after.repeats, after.last_received),
                )
            self._forget(batch[-1].message.at, keep)
        return findings

    def enqueue(self, peer: str, msg_id: str, body: Callable[[int], bytes], now: float) -> None:
        """Put a message in the outbox under the channel's next number. An id that is there, or was sent, is left alone."""
        with self._file:
            if self._run("SELECT 1 FROM outbox WHERE id = ?", (msg_id,)).fetchone() or self.delivered(msg_id):
                return
            self._count(peer, "sent = sent + 1", ())
            seq = self.channel(peer).sent
            self._run("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", (peer, seq, msg_id, body(seq), now))

    def next_outgoing(self, peer: str) -> Outgoing | None:
        """The oldest message that waits for ``peer``."""
        query = "SELECT seq, id, body, queued FROM outbox WHERE peer = ? ORDER BY seq LIMIT 1"
        row = self._run(query, (peer,)).fetchone()
        return Outgoing(*row) if row else None

    def waiting(self, msg_id: str) -> bool:
        """Is this message in the outbox?"""
        return self._run("SELECT 1 FROM outbox WHERE id = ?", (msg_id,)).fetchone() is not None

    def delivered(self, msg_id: str) -> bool:
        """Was this message taken out of the outbox: answered by its peer, or given up?"""
        return self._run("SELECT 1 FROM sent WHERE id = ?", (msg_id,)).fetchone() is not None

    def settle(self, peer: str, out: Outgoing, status: int, now: float) -> None:
        """Take a message out of the outbox: it was answered with ``status``, or (0) it is given up."""
        with self._file:
            self._run("DELETE FROM outbox WHERE peer = ? AND seq = ?", (peer, out.seq))
            self._run("INSERT OR REPLACE INTO sent VALUES (?, ?, ?)", (out.id, now, status))
            self._run("DELETE FROM sent WHERE at < ?", (now - _REMEMBER_SENT,))
            if status:
                self._count(peer, "last_sent = ?, last_received = ?", (now, now))

    def sent(self, peer: str, now: float) -> None:
        """A message that is not counted (a ping) was taken by ``peer``."""
        with self._file:
            self._count(peer, "last_sent = ?, last_received = ?", (now, now))

    def channel(self, peer: str) -> Channel:
        """The counters of one peer's channel."""
        query = "SELECT sent, received, gaps, repeats, last_sent, last_received FROM channels WHERE peer = ?"
        row = self._run(query, (peer,)).fetchone()
        return Channel(*row) if row else Channel()

    def queued(self, peer: str) -> int:
        """How many messages wait for ``peer``."""
        return int(self._run("SELECT count(*) FROM outbox WHERE peer = ?", (peer,)).fetchone()[0])

    def waiting_bytes(self, peer: str) -> int:
        """How many bytes of messages wait for ``peer``."""
        query = "SELECT coalesce(sum(length(body)), 0) FROM outbox WHERE peer = ?"
        return int(self._run(query, (peer,)).fetchone()[0])

    def _forget(self, now: float, keep: Keep) -> None:
        before = now - keep.ids_s
        if self._run("DELETE FROM seen WHERE at < ?", (before,)).rowcount:
            self._forgotten = max(self._forgotten, before + keep.ahead_s)
            self._file.set_meta("forgotten", self._forgotten)
        # Rows are in the order of their acceptance: only the oldest are looked at.
        query = "SELECT coalesce(min(n), 0) FROM (SELECT n FROM accepted WHERE at >= ? ORDER BY n LIMIT 1)"
        young = self._run(query, (now - keep.record_s,)).fetchone()[0]
        newest = self._run("SELECT coalesce(max(n), 0) FROM accepted").fetchone()[0]
        first = max(young, newest - keep.record_most + 1)
        gone = self._run("SELECT max(at) FROM accepted WHERE n < ?", (first,)).fetchone()[0]
        if gone is not None:
            self._run("DELETE FROM accepted WHERE n < ?", (first,))
            self._file.set_meta("record_begins", max(gone, self._file.meta("record_begins")))

    def _count(self, peer: str, what: str, values: tuple[object, ...]) -> None:
        self._run("INSERT OR IGNORE INTO channels (peer) VALUES (?)", (peer,))
        self._run(f"UPDATE channels SET {what} WHERE peer = ?", (*values, peer))
