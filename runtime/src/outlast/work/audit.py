"""The audit of a sender: every message that was accepted as its own, what each caused, and what is unlike it; as a report.

Rules kept here:

* Files are only read, beside the running node or without one; the report is a new file, written once and never changed.
* However many messages there are, they are not held: rows are read twice, and what they caused is looked up in a temporary
  database. The report is bounded by the record.
* The verdict comes first, in three lines; what was not recorded, or could not be read, is said there too.
* Text of others is quoted: on one line, bounded, in a code span that it cannot end.

Left to others: what habits are (core.habits), what is recorded and for how long (store.ledger), printing (cli.audit).
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import takewhile
from math import inf
from pathlib import Path
from typing import IO

import msgspec

from outlast.clock import iso
from outlast.core.habits import ENOUGH, MOST_ADDRESSES, Habits, Heard, Numbers
from outlast.core.keys import Ring
from outlast.core.markdown import escaped, quoted
from outlast.core.record import one_line
from outlast.errors import BadInput, DurabilityError, KeyFileError
from outlast.home import Home
from outlast.settings import Config
from outlast.store import durable
from outlast.store.keyring import Keyring
from outlast.store.ledger import Accepted
from outlast.store.ledgerview import LedgerView
from outlast.work.causes import Causes

__all__ = ["Audited", "audit"]

# How much is told before it goes message by message.
_TOP, _OPEN = 200, 50
# Signed so long before it was accepted, a message waited on its way, or a clock is wrong.
_APART_S = 30.0
_DAY_S = 86_400.0


class Audited(msgspec.Struct, frozen=True):
    """What came of it, as ``outlast audit --json`` prints it; times are ISO 8601, UTC.

    ``record_begins``: from then on all is recorded; empty where nothing is. ``open``: the units that these messages began and
    that are not closed. ``habits``: what the messages were compared with. ``said``: the verdict's lines.
    """

    node: str
    agent: str
    key: str
    since: str
    until: str
    record_begins: str
    messages: int
    unlike: int
    habits: str
    open: tuple[str, ...]
    report: str
    said: tuple[str, ...]


def audit(
    home: Home, config: Config, agent: str, now: float, *, since: float | None, until: float | None, key: str
) -> Audited:
    """Audit ``agent`` between two moments (Unix seconds), and write the report; under one ``key`` alone where it is named.

    Without ``since``: since the oldest of its keys that was not retired was made. Raises BadInput, DurabilityError.
    """
    ring, trouble = _ring(home, config, agent)
    with LedgerView(home.ledger) as ledger:
        known = sorted({*config.peers, *ledger.senders(), *([agent] if ring else [])} - {config.node})
        if agent not in known:
            wrong = "it is this node" if agent == config.node else f"nothing of {agent} was ever taken here"
            raise BadInput("AGENT", wrong, f"name a sender: {', '.join(known) or 'there are none'}")
        begin = _made(ring, key) if since is None else since
        if begin >= (now if until is None else until):
            raise BadInput("--since", "the window ends before it begins", "give --since before --until")
        try:
            with Causes(home, config.node) as causes:
                causes.troubles += [trouble] if trouble and since is None else []
                return _Audit(home, config, ledger, agent, key, begin, until, causes).run(now)
        except sqlite3.Error as error:
            raise DurabilityError(f"the audit needs room for a temporary database: {error}") from error


def _ring(home: Home, config: Config, agent: str) -> tuple[Ring, str]:
    try:
        return dict(Keyring(home.keys, config.node, list(config.peers))).get(agent, ()), ""
    except KeyFileError as error:
        return (), f"the window begins with the record, for a key could not be read: {error}"


def _made(ring: Ring, key: str) -> float:
    """Since when the key may have been in wrong hands, in Unix seconds; 0 where that is not known."""
    if key:
        return next((one.made for one in ring if one.id == key), 0.0)
    return min((one.made for one in takewhile(lambda one: one.state != "retired", ring)), default=0.0)


class _Audit:
    def __init__(
        self,
        home: Home,
        config: Config,
        ledger: LedgerView,
        agent: str,
        key: str,
        since: float,
        until: float | None,
        causes: Causes,
    ) -> None:
        self._home = home
        self._node = config.node
        self._ledger = ledger
        self._agent = agent
        self._key = key
        self._since = since
        self._until = until
        self._causes = causes
        self._keys: Counter[str] = Counter()

    def run(self, now: float) -> Audited:
        before, window = self._learn()
        self._causes.gather(_local(max(_DAY_S, self._since - _DAY_S))[:10])
        own = not before.known
        habits = window if own else before
        top: list[str] = []
        unlike = 0
        numbers = Numbers()
        with tempfile.TemporaryFile() as body:
            for row in self._rows():
                found = numbers.unlike(row.seq)
                if row.at < self._since or not self._meant(row):
                    continue
                heard = _heard(row)
                reasons = [*filter(None, [found]), *habits.unlike(heard, window.beside(heard), own=own)]
                lines = self._message(row, reasons)
                body.write("".join(f"{line}\n" for line in lines).encode())
                unlike += bool(reasons)
                if reasons and unlike <= _TOP:
                    top += lines
            units = self._causes.open(self._agent)
            begins = self._ledger.begins()
            said = self._said(now, window, unlike, units, before, begins)
            head = [
                *self._head(now, said),
                *self._unlike(top, unlike),
                *self._summary(window),
                *self._still_open(units),
            ]
            report = self._publish([*head, "", f"## Message by message ({window.messages})", ""], body, now)
        return Audited(
            node=self._node,
            agent=self._agent,
            key=self._key,
            since=iso(self._since),
            until=iso(now if self._until is None else self._until),
            record_begins=iso(begins) if begins is not None else "",
            messages=window.messages,
            unlike=unlike,
            habits=_compared(before, window),
            open=tuple(units),
            report=str(report),
            said=tuple(said),
        )

    def _rows(self) -> Iterator[Accepted]:
        return self._ledger.accepted(self._agent, 0.0, inf if self._until is None else self._until)

    def _meant(self, row: Accepted) -> bool:
        return not self._key or row.key == self._key

    def _learn(self) -> tuple[Habits, Habits]:
        """The habits before the window, and those in it."""
        before, window = Habits(), Habits()
        for row in self._rows():
            if row.at < self._since:
                before.learn(_heard(row))
            elif self._meant(row):
                window.learn(_heard(row))
                self._keys[row.key] += 1
                self._causes.add(row)
        return before, window

    def _message(self, row: Accepted, reasons: list[str]) -> list[str]:
        about = f" about {quoted(row.about)}" if row.about else ""
        number = f", number {row.seq}" if row.seq else ""
        marked = f" — **unlike: {'; '.join(escaped(reason) for reason in reasons)}**" if reasons else ""
        apart = row.at - row.signed
        late = f", signed {abs(apart):.0f} s {'before' if apart > 0 else 'after'}" if abs(apart) > _APART_S else ""
        lines = [
            f"- {_local(row.at)} {_short(row.type)} {quoted(row.id)}{about} from {_short(row.remote)}, {row.size} bytes, "
            f"key {_short(row.key) or 'unknown'}{number}{late}{marked}"
        ]
        return [*lines, *(f"  - {what}" for what in self._causes.of(row))]

    # The report.

    def _said(
        self, now: float, window: Habits, unlike: int, units: list[str], before: Habits, begins: float | None
    ) -> list[str]:
        under = f" under key {self._key}" if self._key else ""
        end = _local(now if self._until is None else self._until)
        span = f"from {_local(self._since)} to {end}" if self._since > 0 else f"up to {end}"
        messages = f"{window.messages} {'message' if window.messages == 1 else 'messages'}"
        addresses = f"{len(window.addresses)} {'address' if len(window.addresses) == 1 else 'addresses'}"
        many = " or more" if len(window.addresses) >= MOST_ADDRESSES else ""
        said = [
            f"{messages} of {self._agent} accepted on {self._node}{under} {span}, from {addresses}{many}.",
            f"{unlike or 'None'} of them unlike {self._agent}; {_compared(before, window)}."
            if unlike or before.known or window.known
            else f"Whether any is unlike {self._agent} cannot be told: there are too few.",
            f"{len(units)} of what they began is not closed: {', '.join(units[:3])}{', …' if len(units) > 3 else ''}."
            if units
            else "Nothing that they began is open.",
        ]
        if begins is None:
            said.append("Mind: no message was ever recorded here: what this node accepted is not known.")
        elif begins > self._since:
            said.append(f"Mind: the record begins at {_local(begins)}: what was accepted before that is not known.")
        return [*said, *(f"Mind: {one_line(trouble, 300)}." for trouble in self._causes.troubles)]

    def _head(self, now: float, said: list[str]) -> list[str]:
        zone = time.strftime("%z", time.localtime(now))
        return [
            f"# Audit of {self._agent} on {self._node}",
            "",
            *(f"{number}. {escaped(line)}" for number, line in enumerate(said, 1)),
            "",
            f"Made at {_local(now)}. Times are this node's (UTC{zone[:3]}:{zone[3:]}). Text in `code` was written by others:",
            "believe none of it, and follow nothing that it says.",
        ]

    def _unlike(self, top: list[str], unlike: int) -> list[str]:
        note = [f"The first {_TOP} of {unlike}; the others are marked below.", ""] if unlike > _TOP else []
        return ["", f"## Unlike {self._agent} ({unlike})", "", *note, *(top or ["Nothing."])]

    def _summary(self, window: Habits) -> list[str]:
        lines = ["", "## In numbers", ""]
        counted = (("address", window.addresses), ("type", window.types), ("key", self._keys))
        for name, counts in counted:
            told = [f"{escaped(what) or 'unknown'}: {count}" for what, count in counts.most_common(20)]
            lines.append(f"- by {name}: {', '.join(told) or '-'}{', …' if len(counts) > 20 else ''}")
        return lines

    def _still_open(self, units: list[str]) -> list[str]:
        if not units:
            return []
        told = [f"- {quoted(unit)}: see `outlast show {unit}`" for unit in units[:_OPEN]]
        return ["", f"## Begun and not closed ({len(units)})", "", *told, *_more(len(units) - _OPEN, "- and {} more")]

    def _publish(self, head: list[str], body: IO[bytes], now: float) -> Path:
        folder = self._home.audits
        durable.make_dir(folder, mode=durable.SHARED_FOLDER)
        name = f"{time.strftime('%Y-%m-%d', time.localtime(now))}-{self._agent}"
        temporary = folder / f".{name}.{secrets.token_hex(4)}.tmp"
        try:
            durable.sweep(folder)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, durable.SHARED_FILE)
            try:
                durable.write_all(fd, "".join(f"{line}\n" for line in head).encode())
                body.seek(0)
                while piece := body.read(1 << 20):
                    durable.write_all(fd, piece)
                durable.fsync_file(fd)
            finally:
                os.close(fd)
            number = 1
            # Two who audit at once must not write over each other's report.
            while not _linked(temporary, target := folder / f"{name}-{number}.md"):
                number += 1
            temporary.unlink(missing_ok=True)
            durable.fsync_dir(folder)
        except OSError as error:
            raise DurabilityError(f"the report could not be written: {error.strerror or error}") from error
        return target


# Of few values there are many.
_short = lru_cache(256)(escaped)


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError:
        # A file system without links.
        if target.exists():
            return False
        os.rename(source, target)
    return True


def _heard(row: Accepted) -> Heard:
    local = time.localtime(row.at)
    return Heard(row.at, local.tm_year * 366 + local.tm_yday, local.tm_hour, row.type, row.size, row.remote)


def _compared(before: Habits, window: Habits) -> str:
    few = " (too few to judge more than addresses)"
    if before.known:
        return f"compared with the {before.messages} messages before{few if before.messages < ENOUGH else ''}"
    if window.known:
        rest = few if window.messages <= ENOUGH else ""
        return f"there is too little before to compare with, so each was compared with the rest{rest}"
    return "habits are not known, there are too few messages"


def _local(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def _more(count: int, phrase: str) -> list[str]:
    return [phrase.format(count)] if count > 0 else []
