"""What the ledger says of messages, read beside whoever writes it: for a trace and for an audit.

Rules kept here: nothing is written, nothing is waited for, and the runtime is not asked, so that it works while the node is
down or busy; rows are read one after the other, not held.

Left to others: recording (store.ledger), what the rows mean (work.audit, work.tracing).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from outlast.errors import DurabilityError
from outlast.store.ledger import Accepted, Channel

__all__ = ["LedgerView", "Waiting"]

_COLUMNS = ", ".join(Accepted._fields)
_OF_ONE = f"SELECT {_COLUMNS} FROM accepted WHERE peer = ? AND at >= ? AND at < ? ORDER BY n"  # noqa: S608 (names of ours)
_NAMING = (
    f"SELECT {_COLUMNS} FROM accepted WHERE ?1 IN (id, about, trace_id, correlation_id)"  # noqa: S608 (names of ours)
    " AND type != 'trace'"
)
_NEWEST = " ORDER BY n DESC LIMIT ?2"
_PEERS = " AND peer = ?3 AND n > (SELECT max(n) FROM accepted) - ?4"
# A running node looks through so many of its newest rows for a peer: it must not be held up.
_FOR_PEER = 10_000


class Waiting(NamedTuple):
    """A message in the outbox; ``queued``: Unix seconds."""

    peer: str
    id: str
    seq: int
    queued: float


class LedgerView:
    """The ledger at ``path``, for reading. A ledger that is not there has no rows. Every method raises DurabilityError."""

    def __init__(self, path: Path) -> None:
        self._db: sqlite3.Connection | None = None
        self._name = path.name
        if path.exists():
            try:
                self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
                # All that is read here is as of one moment.
                self._db.execute("BEGIN")
            except sqlite3.Error as error:
                raise self._trouble(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._db is not None:
            self._db.close()

    def begins(self) -> float | None:
        """Since when every accepted message is recorded (Unix seconds); None where none ever was."""
        for (value,) in self._rows("SELECT value FROM meta WHERE name = 'record_begins'", ()):
            return float(value)
        return None

    def senders(self) -> list[str]:
        """Everybody whose messages are recorded."""
        return [str(name) for (name,) in self._rows("SELECT DISTINCT peer FROM accepted ORDER BY peer", ())]

    def accepted(self, peer: str, since: float, until: float) -> Iterator[Accepted]:
        """A sender's messages from ``since`` on and before ``until`` (Unix seconds), in the order of acceptance."""
        yield from map(Accepted._make, self._rows(_OF_ONE, (peer, since, until)))

    def naming(self, name: str, most: int, peer: str = "") -> list[Accepted]:
        """The newest messages whose id, trace or subject ``name`` is, oldest first.

        Where ``peer`` is named its own alone, and of the newest rows. Who asked about it is no part of its story.
        """
        values: tuple[object, ...] = (name, most, peer, _FOR_PEER) if peer else (name, most)
        rows = self._rows(f"{_NAMING}{_PEERS if peer else ''}{_NEWEST}", values)
        return list(map(Accepted._make, rows))[::-1]

    def waiting(self, msg_id: str) -> Waiting | None:
        """This message, where it waits in the outbox."""
        for row in self._rows("SELECT peer, id, seq, queued FROM outbox WHERE id = ?", (msg_id,)):
            return Waiting._make(row)
        return None

    def channel(self, peer: str) -> tuple[Channel, int, float | None]:
        """The counters of one peer's channel, how many messages wait for it, and since when the oldest does (Unix seconds)."""
        query = "SELECT sent, received, gaps, repeats, last_sent, last_received FROM channels WHERE peer = ?"
        channel = next((Channel(*row) for row in self._rows(query, (peer,))), Channel())
        waiting = self._rows("SELECT count(*), min(queued) FROM outbox WHERE peer = ?", (peer,))
        count, oldest = next(waiting, (0, None))
        return channel, count, oldest

    def settled(self, msg_id: str) -> tuple[float, int] | None:
        """When this message was taken out of the outbox (Unix seconds), and the answer's status; 0 where it was given up."""
        for at, status in self._rows("SELECT at, status FROM sent WHERE id = ?", (msg_id,)):
            return float(at), int(status)
        return None

    def _rows(self, query: str, values: tuple[object, ...]) -> Iterator[tuple[Any, ...]]:
        if self._db is None:
            return
        try:
            yield from self._db.execute(query, values)
        except sqlite3.OperationalError as error:
            # A ledger of before this version, which no runtime has opened since.
            if "no such table" not in str(error):
                raise self._trouble(error) from error
        except sqlite3.Error as error:
            raise self._trouble(error) from error

    def _trouble(self, error: sqlite3.Error) -> DurabilityError:
        return DurabilityError(f"the ledger {self._name} could not be read: {error}")
