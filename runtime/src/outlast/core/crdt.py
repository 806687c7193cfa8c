"""State that several nodes change at the same time and that converges all the same: registers, sets, facts.

A *replica* is a set of *entries*, one an operation. Joining two is their union, without the entries that others of it
supersede. Rules kept here:

* The laws: join is commutative, associative, idempotent and monotone; nothing goes but what an operation that knew it, or a
  stronger one, supersedes. An entry is known by its whole content, so where a number was used twice (by a node that was put
  back to an old backup) both entries stay.
* Sequence numbers are Lamport's: one more than the highest that the writer had seen of anybody. So what was written by
  one who knew the other always wins; no clock decides anything (``at`` is for people only).
* A register (``set``; without a value it is a tombstone) goes to the highest number; a tie goes to the agent that stands
  first in ``priority``, then by name.
* A set is observed-remove: an ``add`` lives until an operation on the same element lists it in ``over``, which holds,
  for each agent, the highest number that the writer had seen of it *on this element*, transitively.
* Facts are never superseded; the highest number is the one that counts today.
* An exchange is incremental: by ``have`` (the highest number of each agent) only what the other lacks is sent, found from
  the end. What ``have`` claims may be wrong, after damage say; then ``sums`` of equal holdings differ, and tell where.

Left to others: files (store.shared), exchanging (net.exchange), which names and values a person may write (work.shared).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2s
from typing import Annotated, Literal

import msgspec

__all__ = ["AGENT", "MOST_AGENTS", "NAME", "SEQ_LIMIT", "Entry", "Holding", "Kind", "Replica", "differing", "join"]

AGENT = r"^[a-z][a-z0-9-]{0,31}\Z"
NAME = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}"
# What every JSON reader can hold in a number.
SEQ_LIMIT = 1 << 53
MOST_AGENTS = 64

Kind = Literal["set", "add", "remove", "fact"]
Agent = Annotated[str, msgspec.Meta(pattern=AGENT)]
Seq = Annotated[int, msgspec.Meta(ge=1, lt=SEQ_LIMIT)]
Sum = Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)]

_AGENT, _ONE_NAME, _TWO_NAMES = re.compile(AGENT), re.compile(NAME), re.compile(f"{NAME} {NAME}")
_encode = msgspec.json.Encoder().encode


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One operation.

    ``key`` is a name; of a fact two, entity and attribute, with a space between. ``value`` is the register's value (None:
    it is unset), the element, or what the fact says. ``over`` is for ``add`` and ``remove``. ``at`` is ISO 8601.
    """

    agent: str
    seq: Seq
    kind: Kind
    key: str
    value: Annotated[str, msgspec.Meta(max_length=16_384)] | None = None
    over: Annotated[tuple[tuple[str, Seq], ...], msgspec.Meta(max_length=MOST_AGENTS)] = ()
    at: Annotated[str, msgspec.Meta(max_length=32)] = ""

    def unsound(self) -> str:
        """What is wrong with an entry that comes from outside; empty where nothing is.

        Apart from decoding, because it costs more than that, and what was checked once need not be again.
        """
        if not all(_AGENT.fullmatch(agent) for agent in (self.agent, *(agent for agent, _ in self.over))):
            return "an agent's name that is none"
        if not (_TWO_NAMES if self.kind == "fact" else _ONE_NAME).fullmatch(self.key):
            return f"a {self.kind} about something that has no such name"
        if self.value is None and self.kind != "set":
            return f"a {self.kind} without a value"
        return f"a {self.kind} that is over something" if self.over and self.kind in ("set", "fact") else ""


class Holding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a replica says of itself: the highest number of each agent, and a sum over each agent's live entries."""

    have: Annotated[dict[Agent, Seq], msgspec.Meta(max_length=MOST_AGENTS)] = {}
    sums: Annotated[dict[Agent, Sum], msgspec.Meta(max_length=MOST_AGENTS)] = {}


class Replica:
    """Live entries, and ``have``: of each agent the highest number that was ever taken in. ``absorb`` changes it in place."""

    def __init__(self, priority: Sequence[str] = ()) -> None:
        """``priority``: agents, the first wins ties; it must be the same on every node."""
        self.have: dict[str, int] = {}
        self.top = 0
        self._priority = tuple(priority)
        # By agent, ascending by number but for those in _unsorted; a dict, because it is ordered and forgets cheaply. Its key
        # is the number, and for the second entry of a number that was used twice the entry itself.
        self._logs: dict[str, dict[int | Entry, Entry]] = {}
        self._unsorted: set[str] = set()
        self._registers: dict[str, Entry] = {}
        self._sets: dict[str, dict[str, tuple[Entry, ...]]] = {}
        self._facts: dict[str, list[Entry]] = {}
        # None until somebody asks, for a join alone has no use for it.
        self._sums: dict[str, int] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._logs.values()))

    def __iter__(self) -> Iterator[Entry]:
        for log in self._logs.values():
            yield from log.values()

    def __contains__(self, entry: Entry) -> bool:
        log = self._logs.get(entry.agent, {})
        return log.get(entry.seq) == entry or entry in log

    def copy(self) -> Replica:
        """Another with the same entries."""
        made = Replica(self._priority)
        made.have, made.top, made._unsorted = dict(self.have), self.top, set(self._unsorted)
        made._logs = {agent: dict(log) for agent, log in self._logs.items()}
        made._registers = dict(self._registers)
        made._sets = {key: dict(elements) for key, elements in self._sets.items()}
        made._facts = {key: list(facts) for key, facts in self._facts.items()}
        return made

    # Taking in.

    def absorb(self, entries: Iterable[Entry]) -> list[Entry]:
        """Take entries in, in any order, any number of times. Returns those that changed something."""
        fresh = []
        for entry in entries:
            agent, seq = entry.agent, entry.seq
            log = self._logs.get(agent)
            if log is None:
                log = self._logs[agent] = {}
            highest = self.have.get(agent, 0)
            if seq <= highest and (log.get(seq) == entry or entry in log):
                continue
            if seq > highest:
                self.have[agent] = seq
                if seq > self.top:
                    self.top = seq
            if self._settle(entry):
                if seq < highest:
                    self._unsorted.add(agent)
                log[entry if seq in log else seq] = entry
                if self._sums is not None:
                    self._sums[agent] = self._sums.get(agent, 0) ^ _digest(entry)
                fresh.append(entry)
        return fresh

    def claim(self, have: dict[str, int]) -> None:
        """All that somebody with this ``have`` holds live was taken in: what was superseded there is not missing here."""
        for agent, seq in have.items():
            if seq > self.have.get(agent, 0):
                self.have[agent] = seq
        self.top = max(self.top, max(have.values(), default=0))

    def wants(self, entry: Entry) -> bool:
        """Would taking this in change what is live?"""
        if entry in self:
            return False
        if entry.kind == "set":
            held = self._registers.get(entry.key)
            return held is None or not self._stronger(held, entry)
        return not any(_covers(held, entry) for held in self._operations(entry))

    def _settle(self, entry: Entry) -> bool:
        """Put an entry that is not live in its place, and drop what it supersedes; false if it is superseded itself."""
        if entry.kind == "set":
            held = self._registers.get(entry.key)
            if held is not None:
                if held.seq > entry.seq or (held.seq == entry.seq and self._stronger(held, entry)):
                    return False
                self._drop(held)
            self._registers[entry.key] = entry
        elif entry.kind == "fact":
            self._facts.setdefault(entry.key, []).append(entry)
        else:
            operations = self._operations(entry)
            if any(_covers(held, entry) for held in operations):
                return False
            left = [held for held in operations if not _covers(entry, held)]
            for held in operations:
                if held not in left:
                    self._drop(held)
            self._sets.setdefault(entry.key, {})[entry.value or ""] = (*left, entry)
        return True

    def _operations(self, entry: Entry) -> tuple[Entry, ...]:
        """The live operations on the same element of the same set."""
        return self._sets.get(entry.key, {}).get(entry.value or "", ()) if entry.kind != "fact" else ()

    def _drop(self, entry: Entry) -> None:
        log = self._logs[entry.agent]
        del log[entry.seq if log.get(entry.seq) is entry else entry]
        if self._sums is not None:
            self._sums[entry.agent] ^= _digest(entry)

    def _stronger(self, one: Entry, other: Entry) -> bool:
        if one.seq != other.seq:
            return one.seq > other.seq
        if one.agent != other.agent:
            return self._standing(one.agent) < self._standing(other.agent)
        return _encode(one) > _encode(other)

    def _standing(self, agent: str) -> tuple[int, str]:
        return (self._priority.index(agent) if agent in self._priority else len(self._priority), agent)

    # Writing.

    def entry(self, agent: str, kind: Kind, key: str, value: str | None, at: str) -> Entry:
        """The entry of an operation that ``agent`` makes now, knowing all that is here. It is not taken in yet."""
        over: dict[str, int] = {}
        if kind in ("add", "remove"):
            for seen in self._operations(Entry(agent, self.top + 1, kind, key, value)):
                for name, seq in (*seen.over, (seen.agent, seen.seq)):
                    over[name] = max(seq, over.get(name, 0))
        return Entry(agent, self.top + 1, kind, key, value, tuple(sorted(over.items())), at)

    # Exchanging.

    def holding(self) -> Holding:
        """What is here, in short."""
        if self._sums is None:
            self._sums = {}
            for entry in self:
                self._sums[entry.agent] = self._sums.get(entry.agent, 0) ^ _digest(entry)
        return Holding(dict(self.have), {agent: total for agent, total in self._sums.items() if total})

    def beyond(self, have: dict[str, int]) -> bool:
        """Is there anything here that somebody with this ``have`` may not know?"""
        return any(seq > have.get(agent, 0) for agent, seq in self.have.items())

    def lacking(self, have: dict[str, int]) -> list[Entry]:
        """The live entries that somebody with this ``have`` lacks, ascending by number. Looks at no others."""
        found: list[Entry] = []
        for agent, seq in self.have.items():
            known = have.get(agent, 0)
            if seq > known:
                for entry in reversed(self._sorted(agent).values()):
                    if entry.seq <= known:
                        break
                    found.append(entry)
        return sorted(found, key=_by_number)

    def of(self, agents: Iterable[str]) -> list[Entry]:
        """All live entries of these agents, ascending by number."""
        return sorted((entry for agent in agents for entry in self._logs.get(agent, {}).values()), key=_by_number)

    def count(self, agent: str) -> int:
        """How many live entries an agent has."""
        return len(self._logs.get(agent, ()))

    def _sorted(self, agent: str) -> dict[int | Entry, Entry]:
        if agent in self._unsorted:
            self._logs[agent] = dict(sorted(self._logs[agent].items(), key=lambda item: item[1].seq))
            self._unsorted.discard(agent)
        return self._logs.get(agent, {})

    # Looking.

    def keys(self, prefix: str = "") -> list[str]:
        """The names of all registers and sets that hold something, sorted."""
        named = {key for key, entry in self._registers.items() if entry.value is not None and key.startswith(prefix)}
        return sorted(named | {key for key in self._sets if key.startswith(prefix) and self.elements(key)})

    def register(self, key: str) -> Entry | None:
        """The entry that gives a register its value; None where it has none."""
        held = self._registers.get(key)
        return held if held is not None and held.value is not None else None

    def elements(self, key: str) -> dict[str, Entry]:
        """The elements of a set, sorted, each with the newest operation that put it there."""
        found = {}
        for element, operations in sorted(self._sets.get(key, {}).items()):
            if added := [entry for entry in operations if entry.kind == "add"]:
                found[element] = self.newest(added)
        return found

    def facts(self, entity: str = "", attribute: str = "") -> dict[str, list[Entry]]:
        """Facts by key (entity, space, attribute), sorted; of each key all, the one that counts first."""
        found = {}
        for key, held in sorted(self._facts.items()):
            about, _, what = key.partition(" ")
            if entity in ("", about) and attribute in ("", what):
                rest = sorted(held, key=lambda entry: (-entry.seq, self._standing(entry.agent), _encode(entry)))
                found[key] = rest
        return found

    def newest(self, entries: Iterable[Entry]) -> Entry:
        """The strongest of some entries. Raises IndexError where there are none."""
        best, *rest = entries
        for entry in rest:
            best = entry if self._stronger(entry, best) else best
        return best


def join(one: Replica, other: Replica) -> Replica:
    """The replica that holds all that either holds; neither is changed. The priority is that of ``one``."""
    made = one.copy()
    made.absorb(other)
    made.claim(other.have)
    return made


def differing(one: Holding, other: Holding) -> list[str]:
    """The agents of whom two replicas that claim to hold the same hold different entries; empty while they claim to differ."""
    if one.have != other.have or one.sums == other.sums:
        return []
    return sorted(agent for agent in one.have if one.sums.get(agent, 0) != other.sums.get(agent, 0))


def _covers(later: Entry, earlier: Entry) -> bool:
    return any(agent == earlier.agent and seq >= earlier.seq for agent, seq in later.over)


def _by_number(entry: Entry) -> int:
    return entry.seq


def _digest(entry: Entry) -> int:
    return int.from_bytes(blake2s(_encode(entry), digest_size=6).digest(), "big")
