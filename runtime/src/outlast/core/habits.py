"""A sender's habits, learned from what it sent, and what is unlike them: for the audit after a key leaked.

Rules kept here: five habits and no more, each explained in one phrase: the *hour* of the day, the *rate* (messages in ten
minutes), the *size* for its type, the *type*, and the *address*. Something is unlike a habit when it was met never or hardly
ever; a habit that too little is known of is none, and then nothing is unlike it. Order does not matter, memory is bounded by
the time that the messages span and by ``MOST_ADDRESSES``, and no figure depends on how many messages are judged.

What is judged is compared with what came before, or, where too little did, with the rest of itself (``own``): each
message with all the others. The rest holds what is looked for as well, so that there less is needed to be unlike.

Left to others: where the messages are recorded (store.ledger), and what a person is told (work.audit).
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

__all__ = ["ENOUGH", "LEAST", "MOST_ADDRESSES", "SLOT_S", "Habits", "Heard", "Numbers", "network"]

# With fewer examples there is no habit: machines stay where they are, so that few tell an address; the rest takes more.
LEAST, ENOUGH, _DAYS = 5, 20, 5
# "Hardly ever" is less than one in so many: of what came before, and of the rest.
_RARE, _RARE_AMONG = 100, 20
# Fewer messages than this in ten minutes are no rush, whatever the habit is.
_RUSH = 8
SLOT_S = 600
# Whoever has a block of addresses must not fill our memory with them.
MOST_ADDRESSES = 4096


class Heard(NamedTuple):
    """One message, as far as habits go.

    ``at``: seconds since 1970; ``hour`` of the day (0 to 23) and ``day`` (any number a day) in the node's own zone; ``size`` in
    bytes; ``remote``: the address that it came from.
    """

    at: float
    day: int
    hour: int
    type: str
    size: int
    remote: str


@lru_cache(MOST_ADDRESSES)
def network(remote: str) -> str:
    """What counts as the same address: an IPv6 host gives itself a new one in its /64 every day."""
    try:
        address = ip_address(remote.partition("%")[0])
    except ValueError:
        return remote
    if isinstance(address, IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"


class Habits:
    """What is known of one sender."""

    def __init__(self) -> None:
        self.messages = 0
        self.addresses: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self._hours = [0] * 24
        self._days: set[int] = set()
        self._sizes: dict[str, Counter[int]] = {}
        self._slots: Counter[int] = Counter()
        self._rushes: Counter[int] | None = None

    @property
    def known(self) -> bool:
        """Is there enough to speak of habits?"""
        return self.messages >= LEAST

    def learn(self, heard: Heard) -> None:
        """Count one message in."""
        self.messages += 1
        address = network(heard.remote)
        if address in self.addresses or len(self.addresses) < MOST_ADDRESSES:
            self.addresses[address] += 1
        self.types[heard.type] += 1
        self._hours[heard.hour] += 1
        self._days.add(heard.day)
        self._sizes.setdefault(heard.type, Counter())[heard.size.bit_length()] += 1
        self._slots[_slot(heard)] += 1
        self._rushes = None

    def beside(self, heard: Heard) -> int:
        """How many messages came in the same ten minutes, this one counted."""
        return self._slots[_slot(heard)]

    def unlike(self, heard: Heard, beside: int, *, own: bool) -> tuple[str, ...]:
        """In which ways a message is unlike these habits, each as ``habit: what``; empty where it is not.

        ``beside``: how many came in its ten minutes; ``own``: it was learned here itself, and is compared with the rest.
        """
        rest = self.messages - own
        if rest < LEAST:
            return ()
        found = (
            self._hour(heard, rest, own),
            self._rate(heard, beside, own),
            self._size(heard, own),
            self._type(heard, rest, own),
            self._address(heard, rest, own),
        )
        return tuple(filter(None, found))

    def _hour(self, heard: Heard, rest: int, own: bool) -> str:
        if rest < ENOUGH or len(self._days) < _DAYS:
            return ""
        # Who sends at 9:59 may send at 10:01.
        count = sum(self._hours[(heard.hour + off) % 24] for off in (-1, 0, 1)) - own
        return f"hour: {_often(count, rest, own)} around {heard.hour:02}:00" if _rare(count, rest, own) else ""

    def _rate(self, heard: Heard, beside: int, own: bool) -> str:
        if self._rushes is None:
            self._rushes = Counter(count.bit_length() for count in self._slots.values())
        slots = len(self._slots) - own
        if beside < _RUSH or slots < ENOUGH:
            return ""
        as_many = sum(count for bits, count in self._rushes.items() if bits >= beside.bit_length()) - own
        return f"rate: {beside} in ten minutes" if _rare(as_many, slots, own) else ""

    def _size(self, heard: Heard, own: bool) -> str:
        sizes = self._sizes.get(heard.type, Counter())
        total = sizes.total() - own
        if total < ENOUGH:
            return ""
        bits = heard.size.bit_length()
        # Between a half and twice the size is the same size.
        count = sum(sizes[near] for near in (bits - 1, bits, bits + 1)) - own
        return f"size: a {heard.type} of {heard.size} bytes" if _rare(count, total, own) else ""

    def _type(self, heard: Heard, rest: int, own: bool) -> str:
        if rest < ENOUGH:
            return ""
        count = self.types[heard.type] - own
        return f"type: {_often(count, rest, own)} a {heard.type}" if _rare(count, rest, own) else ""

    def _address(self, heard: Heard, rest: int, own: bool) -> str:
        address = network(heard.remote)
        count = max(0, self.addresses[address] - own)
        unlike = _rare(count, rest, own)
        if own and not unlike:
            # Beside an address that most came from the others stand out, however many they are.
            usual, most = self.addresses.most_common(1)[0]
            unlike = usual != address and 2 * most > rest
        return f"address: {_often(count, rest, own)} from {address}" if unlike else ""


class Numbers:
    """The numbers of one sender's messages, which count up by one: two who use one key cannot both keep to that."""

    def __init__(self) -> None:
        self._line: int | None = None
        self._aside: int | None = None

    def unlike(self, seq: int) -> str:
        """What is wrong with the next number; empty where it is in line: after the last one that was, or that was not.

        0 is no number.
        """
        if not seq:
            return ""
        if self._line is None or seq == self._line + 1 or (self._aside is not None and seq == self._aside + 1):
            self._line = seq
            return ""
        self._aside = seq
        return f"number: {seq} after {self._line}"


def _slot(heard: Heard) -> int:
    return int(heard.at // SLOT_S)


def _rare(count: int, total: int, own: bool) -> bool:
    return count * (_RARE_AMONG if own else _RARE) < total


def _often(count: int, total: int, own: bool) -> str:
    return f"{count} of {total} others" if count else "no other" if own else "never before"
