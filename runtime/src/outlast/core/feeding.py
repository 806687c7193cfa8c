"""What an agent is to be told that is no task, kept until it was told: lines, in order, each under a number of its own.

The gateway holds what it is given in memory until the agent's next turn. So a line counts as told when a turn of the agent's
main session began after it was given; where the gateway was started anew before that, it is given again, under the same number.

Rules kept here: nothing is told out of order; what waits is bounded by age and by number, and what is dropped for that is named
in the next message; the book is a value, and every step gives a new one.

Moments are seconds since 1970. Left to others: what is worth telling, giving it (openclaw.feed).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

__all__ = ["AGE_S", "MOST", "TEXT_BYTES", "Book", "Item", "add", "given", "message", "seen", "waiting"]

AGE_S, MOST, TEXT_BYTES = 86_400.0, 200, 8192
_LINE_CHARS = 400
# How far two readings of when one process was started may be apart.
_SLACK_S = 10.0


class Item(msgspec.Struct, frozen=True):
    """One line. ``given``: when, 0 while it was not; ``gateway``: when that was started."""

    number: int
    text: str
    since: float
    given: float = 0.0
    gateway: float = 0.0


class Book(msgspec.Struct, frozen=True):
    """What waits. ``cursor``: the last record that was looked at; ``last``: the last number of a line; ``alerts``: those that
    still hold, and were told of.

    ``dropped``: the first and last number of what was dropped, and how many; all 0 where nothing was since the last message.
    """

    cursor: int = 0
    last: int = 0
    items: tuple[Item, ...] = ()
    alerts: tuple[str, ...] = ()
    dropped: tuple[int, int, int] = (0, 0, 0)


def add(book: Book, texts: Sequence[str], now: float) -> Book:
    """Take in lines, and let go of what is too old or too much."""
    numbered = enumerate(texts, book.last + 1)
    items = [*book.items, *(Item(number, text[:_LINE_CHARS], now) for number, text in numbered)]
    kept = [item for item in items if now - item.since <= AGE_S][-MOST:]
    gone = [item.number for item in items if item not in kept and not item.given]
    first, last, count = book.dropped
    if gone:
        first, last, count = first or gone[0], gone[-1], count + len(gone)
    return replace(book, last=book.last + len(texts), items=tuple(kept), dropped=(first, last, count))


def seen(book: Book, started: float, turned: float) -> Book:
    """What the gateway shows: ``started`` when it was, ``turned`` when the main session's last turn began, 0 where none did."""
    items = []
    for item in book.items:
        if item.given and turned > item.given:
            continue
        if item.given and abs(item.gateway - started) > _SLACK_S:
            # It was in the memory of a process that is gone.
            item = replace(item, given=0.0, gateway=0.0)
        items.append(item)
    return replace(book, items=tuple(items))


def waiting(book: Book) -> list[Item]:
    """What is to be given next: from the first that was not, as much as fits into one message."""
    chosen: list[Item] = []
    room = TEXT_BYTES
    for item in book.items:
        if item.given:
            continue
        room -= len(_line(item).encode()) + 1
        if room < 0 and chosen:
            break
        chosen.append(item)
    return chosen


def message(book: Book, items: list[Item]) -> str:
    """The text of a message, a line each."""
    first, last, count = book.dropped
    told = [f"[outlast] {count} older messages were dropped, {first} to {last}: see memory/"] if count else []
    return "\n".join([*told, *map(_line, items)])


def given(book: Book, items: list[Item], started: float, now: float) -> Book:
    """The gateway, which was ``started`` then, took these."""
    numbers = {item.number for item in items}
    marked = (
        replace(item, given=now, gateway=started) if item.number in numbers and not item.given else item
        for item in book.items
    )
    return replace(book, items=tuple(marked), dropped=(0, 0, 0))


def _line(item: Item) -> str:
    return f"[outlast {item.number}] {item.text}"
