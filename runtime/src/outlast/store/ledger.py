"""The ledger: transport bookkeeping that must be transactional (SQLite; write-ahead log, synchronous=FULL).

Rules kept here:

* An id that was accepted is known after any restart, for at least twice the timestamp tolerance (facts.md).
* A message's sequence number and its place in the outbox are given in one transaction.
* What is here may be lost without losing state. A ledger that is damaged is set aside, one that is missing is begun anew,
  and the moment is kept (``not_before``). The replay store: from then on nothing that was signed before is taken, so that its
  loss does not open the door to old messages. The outbox and what was sent: hand-offs that are open and results of the last
  days are queued again from their files under the same ids, which peers take once (work.handoffs, work.tasks). The counters
  of the channels: they begin anew, which a peer counts as repeats and nothing else.

Left to others: when to send and what to accept (net), what became of the work (store.memory).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from outlast.clock import Clock, stamp
from outlast.errors import DurabilityError
from outlast.store import durable

__all__ = ["Channel", "Ledger", "Outgoing"]

_REMEMBER_SENT = 90 * 86_400.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (
    peer TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, status INTEGER NOT NULL, PRIMARY KEY (peer, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_at ON seen (at);
CREATE TABLE IF NOT EXISTS channels (
    peer TEXT PRIMARY KEY, sent INTEGER NOT NULL DEFAULT 0, received INTEGER NOT NULL DEFAULT 0,
    gaps INTEGER NOT NULL DEFAULT 0, repeats INTEGER NOT NULL DEFAULT 0, last_sent REAL, last_received REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    peer TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL, queued REAL NOT NULL,
    PRIMARY KEY (peer, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sent (id TEXT PRIMARY KEY, at REAL NOT NULL, status INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sent_at ON sent (at);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
"""


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
        try:
            self._db = _open(path, now if begun else 0.0)
        except (sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, sqlite3.OperationalError | OSError):
                raise DurabilityError(f"the ledger {path.name} could not be opened: {error}") from error
            for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
                if path.with_name(name).exists():
                    durable.set_aside(path.with_name(name), trash, stamp(now))
            self.finding = f"the ledger was damaged ({error}) and begun anew; the old one is in trash"
            self._db = _open(path, now)
        self.not_before: float = self._run("SELECT value FROM meta WHERE name = 'not_before'").fetchone()[0]
        if self.not_before > now:
            # The clock was ahead when it was begun. Its moment lies before now, whatever that clock said.
            self.not_before = now
            self._run("UPDATE meta SET value = ? WHERE name = 'not_before'", (now,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def seen(self, peer: str, msg_id: str) -> int | None:
        """The HTTP status with which this id of ``peer``'s was first answered; None when it is new."""
        row = self._run("SELECT status FROM seen WHERE peer = ? AND id = ?", (peer, msg_id)).fetchone()
        return int(row[0]) if row else None

    def accept(self, msg_id: str, peer: str, seq: int, status: int, now: float, forget_before: float) -> str:
        """Remember an accepted message and count it, in one transaction.

        ``seq`` 0 is not counted. Ids from before ``forget_before`` are forgotten. Returns what was found: ``""``, ``gap of N``
        or ``repeat``.
        """
        found = ""
        with self._transaction():
            self._run("INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?)", (peer, msg_id, now, status))
            self._run("DELETE FROM seen WHERE at < ?", (forget_before,))
            if seq:
                last = self.channel(peer).received
                gap, repeat = max(0, seq - last - 1), int(seq <= last)
                found = f"gap of {gap}" if gap else "repeat" if repeat else ""
                self._count(
                    peer, "received = max(received, ?), gaps = gaps + ?, repeats = repeats + ?", (seq, gap, repeat)
                )
            self._count(peer, "last_received = ?", (now,))
        return found

    def enqueue(self, peer: str, msg_id: str, body: Callable[[int], bytes], now: float) -> None:
        """Put a message in the outbox under the channel's next number. An id that is there, or was sent, is left alone."""
        with self._transaction():
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
        with self._transaction():
            self._run("DELETE FROM outbox WHERE peer = ? AND seq = ?", (peer, out.seq))
            self._run("INSERT OR REPLACE INTO sent VALUES (?, ?, ?)", (out.id, now, status))
            self._run("DELETE FROM sent WHERE at < ?", (now - _REMEMBER_SENT,))
            if status:
                self._count(peer, "last_sent = ?, last_received = ?", (now, now))

    def sent(self, peer: str, now: float) -> None:
        """A message that is not counted (a ping) was taken by ``peer``."""
        with self._transaction():
            self._count(peer, "last_sent = ?, last_received = ?", (now, now))

    def channel(self, peer: str) -> Channel:
        """The counters of one peer's channel."""
        query = "SELECT sent, received, gaps, repeats, last_sent, last_received FROM channels WHERE peer = ?"
        row = self._run(query, (peer,)).fetchone()
        return Channel(*row) if row else Channel()

    def queued(self, peer: str) -> int:
        """How many messages wait for ``peer``."""
        return int(self._run("SELECT count(*) FROM outbox WHERE peer = ?", (peer,)).fetchone()[0])

    def _count(self, peer: str, what: str, values: tuple[object, ...]) -> None:
        self._run("INSERT OR IGNORE INTO channels (peer) VALUES (?)", (peer,))
        self._run(f"UPDATE channels SET {what} WHERE peer = ?", (*values, peer))

    def _run(self, query: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(query, values)
        except sqlite3.Error as error:
            raise DurabilityError(f"the ledger could not be used: {error}") from error

    def _transaction(self) -> _Transaction:
        return _Transaction(self._run)


class _Transaction:
    def __init__(self, run: Callable[[str], object]) -> None:
        self._run = run

    def __enter__(self) -> None:
        self._run("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            try:
                self._run("COMMIT")
                return
            except DurabilityError:
                self._roll_back()
                raise
        self._roll_back()

    def _roll_back(self) -> None:
        try:
            self._run("ROLLBACK")
        except DurabilityError:
            # SQLite has rolled back by itself after some errors (a full disk), and says so by refusing this one.
            return


def _open(path: Path, not_before: float) -> sqlite3.Connection:
    """Open the file, or make it with ``not_before`` in it from the first moment. Raises sqlite3.Error, OSError."""
    log = path.with_name(f"{path.name}-wal")
    if log.is_file():
        # Before SQLite has it open: closing it would take the locks away.
        durable.settle(log)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        if (mode := db.execute("PRAGMA journal_mode = WAL").fetchone()[0]) != "wal":
            # A failed fsync makes SQLite stay in a mode that does not bring its commits to the disk, and it does not raise.
            raise sqlite3.OperationalError(f"it stays in mode {mode}")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")
        # The default cache of 2 MB would be a sixteenth of all that an idle node may take.
        db.execute("PRAGMA cache_size = -256")
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        db.executescript(f"BEGIN; {_SCHEMA} INSERT OR IGNORE INTO meta VALUES ('not_before', {not_before!r}); COMMIT;")
        # SQLite does not say when it could not bring the names of its files to the disk.
        durable.fsync_dir(path.parent)
    except (sqlite3.Error, OSError):
        db.close()
        raise
    return db
