"""The file of the ledger: SQLite with its write-ahead log and synchronous=FULL, its tables, and transactions.

Rules kept here: what was committed is on the disk; a file of an older version gets the tables that it lacks; every error is
one DurabilityError; a transaction that fails leaves nothing.

Left to others: what the tables mean, and a file that is damaged or missing (store.ledger).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from outlast.errors import DurabilityError
from outlast.store import durable

__all__ = ["LedgerFile"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS seen (
    peer TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, status INTEGER NOT NULL, PRIMARY KEY (peer, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS seen_at ON seen (at);
CREATE TABLE IF NOT EXISTS accepted (
    n INTEGER PRIMARY KEY, peer TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, signed INTEGER NOT NULL,
    key TEXT NOT NULL, remote TEXT NOT NULL, type TEXT NOT NULL, size INTEGER NOT NULL, seq INTEGER NOT NULL,
    trace_id TEXT NOT NULL, correlation_id TEXT NOT NULL, about TEXT NOT NULL
);
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


class LedgerFile:
    """The open file. As a context it is one transaction. Every method raises DurabilityError."""

    def __init__(self, path: Path, meta: dict[str, float]) -> None:
        """Open the file, or make it; ``meta`` is what it says from its first moment. Raises sqlite3.Error, OSError."""
        self._db = _open(path, meta)

    def run(self, query: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        """Execute one statement."""
        try:
            return self._db.execute(query, values)
        except sqlite3.Error as error:
            raise DurabilityError(f"the ledger could not be used: {error}") from error

    def run_many(self, query: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Execute one statement for each of some rows."""
        try:
            self._db.executemany(query, rows)
        except sqlite3.Error as error:
            raise DurabilityError(f"the ledger could not be used: {error}") from error

    def meta(self, name: str) -> float:
        """What the file says of itself."""
        return float(self.run("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0])

    def set_meta(self, name: str, value: float) -> None:
        """Change that."""
        self.run("UPDATE meta SET value = ? WHERE name = ?", (value, name))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> None:
        self.run("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            try:
                self.run("COMMIT")
                return
            except DurabilityError:
                self._roll_back()
                raise
        self._roll_back()

    def _roll_back(self) -> None:
        try:
            self.run("ROLLBACK")
        except DurabilityError:
            # SQLite has rolled back by itself after some errors (a full disk), and says so by refusing this one.
            return


def _open(path: Path, meta: dict[str, float]) -> sqlite3.Connection:
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
        db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", list(meta.items()))
        db.execute("COMMIT")
        # SQLite does not say when it could not bring the names of its files to the disk.
        durable.fsync_dir(path.parent)
    except (sqlite3.Error, OSError):
        db.close()
        raise
    return db
