"""What the nodes know together, as people, agents and peers use it: registers, sets and facts, by name.

Rules kept here: what is wrong with a name or a value is said with the mend; a write is on the disk before it is acknowledged; a
fact of our own is told to the journal first; nothing is read from the disk before somebody asks.

A peer may pass on what others wrote, because that is how it reaches a node that the writer cannot reach. Whoever has a peer's
key can therefore write entries in any agent's name: names say who is said to have written, not who is proven to.

Left to others: what entries mean (core.crdt), files (store.shared), exchanging (net.exchange).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from outlast.clock import Clock, iso
from outlast.control import Order
from outlast.core.crdt import MOST_AGENTS, NAME, SEQ_LIMIT, Entry, Holding, Kind, Replica
from outlast.core.findings import Finding
from outlast.core.record import one_line
from outlast.errors import BadInput, DurabilityError
from outlast.home import Home
from outlast.settings import Config
from outlast.store.events import EventLog
from outlast.store.shared import SharedFiles

__all__ = ["FACT", "Shared", "ShareOrder"]

# The journal's unit of notes about facts.
FACT = "fact"
_VALUE_BYTES = 16 << 10
_LISTED = 1000
_SHOWN = 120
# What one answer holds of facts.
_ANSWER_BYTES = 4 << 20
_NAME_MEND = "use 1 to 128 of A-Z a-z 0-9 . _ / -, the first a letter or digit"


class ShareOrder(msgspec.Struct, forbid_unknown_fields=True):
    """What an order names: ``key`` of a register or set, or ``entity`` and ``attribute`` of a fact."""

    key: str = ""
    value: str = ""
    prefix: str = ""
    entity: str = ""
    attribute: str = ""
    history: bool = False


class Shared:
    """What the nodes know together. One process at a time holds it."""

    def __init__(
        self, home: Home, config: Config, clock: Clock, note: Callable[[str, str], object], events: EventLog
    ) -> None:
        """``note(unit, what)`` appends to the journal, and raises DurabilityError."""
        # Called after every change, whoever made it.
        self.changed: Callable[[], None] = lambda: None
        self._home = home
        self._node = config.node
        self._priority = tuple(config.shared.priority)
        self._clock = clock
        self._note = note
        self._events = events
        self._opened: SharedFiles | None = None
        self._told = 0

    def orders(self) -> dict[str, Order]:
        """What may be asked of it, by name."""
        return {
            "state/get": lambda body: self.get(_order(body).key),
            "state/set": lambda body: self.set(_order(body).key, _order(body).value),
            "state/unset": lambda body: self.unset(_order(body).key),
            "state/add": lambda body: self.add(_order(body).key, _order(body).value),
            "state/discard": lambda body: self.discard(_order(body).key, _order(body).value),
            "state/ls": lambda body: self.ls(_order(body).prefix),
            "facts/add": lambda body: self.fact(_order(body).entity, _order(body).attribute, _order(body).value),
            "facts/query": lambda body: self.query(
                _order(body).entity, _order(body).attribute, history=_order(body).history
            ),
        }

    def close(self) -> None:
        """Let go of the files."""
        if self._opened is not None:
            self._opened.close()

    def check(self) -> tuple[Finding, ...]:
        """What was found in the files since they were opened; opens them. Raises DurabilityError."""
        self._replica()
        return tuple(self._files().findings)

    def look(self) -> None:
        """Take in what others (git) wrote into the files. Costs next to nothing where they did not, or nobody has asked yet.

        Raises DurabilityError.
        """
        if self._opened is not None and self._opened.look():
            self.changed()
        self._tell()

    # What people and agents ask for. Every method raises DurabilityError.

    def get(self, key: str) -> dict[str, object]:
        """What a key holds: a value, or the elements of a set. Where nodes made both of it at once, both. Raises BadInput."""
        _named("KEY", key)
        replica = self._replica()
        held, elements = replica.register(key), replica.elements(key)
        if held is None and not elements:
            return {"key": key, "found": False}
        newest = replica.newest([*([held] if held else []), *elements.values()])
        return {
            "key": key,
            "found": True,
            **({"value": held.value} if held else {}),
            **({"elements": list(elements)} if elements else {}),
            **_by(newest),
        }

    def set(self, key: str, value: str) -> dict[str, object]:
        """Give a key a value. Raises BadInput."""
        _named("KEY", key)
        _fitting("VALUE", value)
        if count := len(self._replica().elements(key)):
            raise BadInput("KEY", f"{key} is a set of {count}", "discard its elements first, or take another key")
        return self._write("set", key, value)

    def unset(self, key: str) -> dict[str, object]:
        """Take a key's value away. Raises BadInput."""
        _named("KEY", key)
        if self._replica().register(key) is None:
            return {"key": key, "changed": False}
        return self._write("set", key, None)

    def add(self, key: str, element: str) -> dict[str, object]:
        """Add an element to a set; one that is there is added again, so that no removal elsewhere wins. Raises BadInput."""
        _named("KEY", key)
        _fitting("ELEMENT", element)
        if self._replica().register(key) is not None:
            raise BadInput("KEY", f"{key} holds a value, it is no set", "unset it first, or take another key")
        return self._write("add", key, element)

    def discard(self, key: str, element: str) -> dict[str, object]:
        """Remove an element, as far as it was added by what is known here. Raises BadInput."""
        _named("KEY", key)
        if element not in self._replica().elements(key):
            return {"key": key, "changed": False}
        return self._write("remove", key, element)

    def ls(self, prefix: str = "") -> dict[str, object]:
        """The first keys that begin with ``prefix``, with values cut to a line; ``more`` is how many there are besides."""
        replica = self._replica()
        keys = replica.keys(prefix)
        listed: list[dict[str, object]] = []
        for key in keys[:_LISTED]:
            held, elements = replica.register(key), replica.elements(key)
            if held is not None:
                listed.append({"key": key, "value": one_line(held.value or "", _SHOWN), **_by(held)})
            if elements:
                few = one_line(", ".join(list(elements)[:_SHOWN]), _SHOWN)
                listed.append(
                    {"key": key, "elements": len(elements), "value": few, **_by(replica.newest(elements.values()))}
                )
        return {"keys": listed, "more": len(keys) - min(len(keys), _LISTED)}

    def fact(self, entity: str, attribute: str, value: str) -> dict[str, object]:
        """Add a fact. Older ones about the same stay, and it counts instead of them. Raises BadInput."""
        _named("ENTITY", entity)
        _named("ATTRIBUTE", attribute)
        _fitting("VALUE", value)
        self._replica()
        self._note(FACT, f"{entity} {attribute} = {one_line(value)}")
        told = self._write("fact", f"{entity} {attribute}", value)
        return {
            "entity": entity,
            "attribute": attribute,
            **{name: told[name] for name in ("value", "agent", "seq", "at")},
        }

    def query(self, entity: str = "", attribute: str = "", *, history: bool = False) -> dict[str, object]:
        """The facts that count, or (``history``) all; about everything where nothing is named. Raises BadInput."""
        for field, text in (("ENTITY", entity), ("ATTRIBUTE", attribute)):
            if text:
                _named(field, text)
        found: list[dict[str, object]] = []
        room, more = _ANSWER_BYTES, 0
        for key, facts in self._replica().facts(entity, attribute).items():
            about, _, what = key.partition(" ")
            for number, entry in enumerate(facts if history else facts[:1]):
                room -= 200 + len((entry.value or "").encode())
                more += room < 0
                if room >= 0:
                    fact = {"entity": about, "attribute": what, "value": entry.value, "current": number == 0}
                    found.append({**fact, **_by(entry)})
        return {"facts": found, "more": more}

    # What the exchange asks for. Every method raises DurabilityError.

    def holding(self) -> Holding:
        """What is held, in short."""
        return self._replica().holding()

    def lacking(self, have: dict[str, int]) -> list[Entry]:
        """What somebody with this ``have`` lacks."""
        return self._replica().lacking(have)

    def of(self, agents: Iterable[str]) -> list[Entry]:
        """All entries of these agents that are held."""
        return self._replica().of(agents)

    def heed(self, holding: Holding) -> None:
        """A number of ours that a peer knows was used, whatever our own file says: it is not used again."""
        replica = self._files().replica
        replica.top = max(replica.top, holding.have.get(self._node, 0))

    def take(self, holding: Holding, entries: tuple[Entry, ...], *, whole: bool) -> Holding:
        """Take in, durably, what a peer holds. Returns what is held then. Raises BadInput."""
        files = self._files()
        last: dict[str, int] = {}
        for entry in entries:
            if entry.seq < last.get(entry.agent, 0):
                raise BadInput("entries", f"those of {entry.agent} are not in order", "send the older ones first")
            last[entry.agent] = entry.seq
        if len({*files.replica.have, *last, *holding.have}) > MOST_AGENTS:
            raise BadInput("entries", f"more than {MOST_AGENTS} agents", "let fewer agents write")
        fresh = files.commit(entries)
        if whole:
            files.replica.claim(holding.have)
        self.heed(holding)
        self._tell()
        if fresh or whole:
            self.changed()
        return files.replica.holding()

    def _files(self) -> SharedFiles:
        if self._opened is None:
            self._opened = SharedFiles(self._home.shared, self._home.trash, self._priority, self._clock)
            self._tell()
        return self._opened

    def _replica(self) -> Replica:
        files = self._files()
        self.look()
        return files.replica

    def _write(self, kind: Kind, key: str, value: str | None) -> dict[str, object]:
        files = self._files()
        entry = files.replica.entry(self._node, kind, key, value, iso(self._clock.time()))
        if entry.seq >= SEQ_LIMIT:
            raise DurabilityError(
                "the numbers are used up: some node wrote one that is far too high; see docs/operations.md"
            )
        files.commit([entry])
        self.changed()
        return {"key": key, "changed": True, "value": value, "seq": entry.seq, **_by(entry)}

    def _tell(self) -> None:
        """Write down what was found since the last time."""
        if self._opened is not None:
            for finding in self._opened.findings[self._told :]:
                self._events.emit("shared.found", finding=finding.line(), ok=finding.ok)
            self._told = len(self._opened.findings)


def _order(body: bytes) -> ShareOrder:
    return msgspec.json.decode(body or b"{}", type=ShareOrder)


def _by(entry: Entry) -> dict[str, object]:
    return {"agent": entry.agent, "at": entry.at}


def _named(field: str, text: str) -> None:
    if re.fullmatch(NAME, text) is None:
        raise BadInput(field, f"{one_line(text, 60)!r} is not a name", _NAME_MEND)


def _fitting(field: str, text: str) -> None:
    if (long := len(text.encode(errors="replace"))) > _VALUE_BYTES:
        raise BadInput(field, f"{long} bytes are too many", f"use at most {_VALUE_BYTES}, or name a file in it")
