"""What a person is told of, and when: a pure book of alerts (spec.md, sections 1 and 7).

Rules kept here:

* What is urgent is told at once; all else waits for the end of the quiet hours of the node's own zone.
* An alert is told once, and again after ``again`` while it holds, unless a person said that it is known. That it is over is
  told only where it was told, when it stayed away for ``calm``: twice as long for each time that it came back within ``again``.
* There are never more than ``most`` messages an hour, and the last of them is kept for what is urgent. What waits for that, or
  for the network, is summed up in one message.
* What was urgent and could not be told in time is told when it is over as well; what is over and cannot be told within ``keep``
  is dropped. What was not urgent, and over before anybody was told, is no news.

Times are seconds since 1970.

Left to others: what is wrong (whoever raises alerts), sending, and keeping the book (work.notifier).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from outlast.core.record import one_line
from outlast.errors import ConfigError
from outlast.quantity import duration

if TYPE_CHECKING:
    from outlast.settings import AlertRules, Config

__all__ = [
    "Book",
    "Hours",
    "Item",
    "Message",
    "Rules",
    "Urgency",
    "check",
    "declared_only",
    "due",
    "follow",
    "hours",
    "rules_of",
    "taken",
    "timespan",
    "why_untold",
]

Urgency = Literal["soon", "now"]
_HOUR_S = 3600.0
_LINES, _CHARS, _NAMES = 10, 300, 3
# Since when something is so is said where that is not just now.
_JUST_NOW_S = 300.0


class Hours(NamedTuple):
    """A part of every day, in minutes of it; where both are the same it is empty."""

    start: int
    end: int

    def holds(self, minute: int) -> bool:
        """Is this minute of a day in it?"""
        if self.start <= self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


def hours(text: str) -> Hours:
    """Read ``22:00-07:00``, which node.yml was seen to hold."""
    start, end = (int(part[:2]) * 60 + int(part[3:]) for part in text.split("-"))
    return Hours(start, end)


class Rules(NamedTuple):
    """When a person is told (settings.AlertRules): ``most`` messages an hour, the rest in seconds."""

    quiet: Hours
    most: int
    again: float
    keep: float
    calm: float


def rules_of(settings: AlertRules) -> Rules:
    """What node.yml says."""
    again, keep, calm = (duration(text) for text in (settings.again, settings.keep, settings.calm))
    return Rules(hours(settings.quiet), settings.most, again, keep, calm)


def check(config: Config) -> None:
    """Refuse times that do not fit together. Raises ConfigError."""
    told = rules_of(config.alerts)
    if told.calm > told.again:
        raise ConfigError("alerts.calm", "longer than alerts.again", "make calm the shorter of the two")
    if told.again > told.keep:
        raise ConfigError("alerts.again", "longer than alerts.keep", "make again the shorter of the two")


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One alert, as far as a person is concerned.

    ``told``: when they were last told that it holds; ``over``: since when it does not, and ``ended`` where nothing more is to
    be told of that; ``back``: how often it came back; ``known``: they said that they know.
    """

    urgency: Urgency
    text: str
    since: float
    told: float | None = None
    over: float | None = None
    ended: bool = False
    back: int = 0
    known: bool = False


class Book(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All alerts by name, and when the messages of the last hour went out.

    ``silent`` and ``study`` are kept here for who watches: since when a sibling is silent, and a study active.
    """

    items: dict[str, Item] = {}
    sent: tuple[float, ...] = ()
    silent: dict[str, float] = {}
    study: str = ""


def declared_only(book: Book, declared: Mapping[str, Collection[str]]) -> Book:
    """The book without what is of a kind that is declared by name, and is so no more: nobody can mend it, or find it mended.

    ``declared``: the names by kind; of an alert's name what stands before its first space tells the kind.
    """

    def is_gone(alert: str) -> bool:
        kind, _, name = alert.partition(" ")
        return kind in declared and name not in declared[kind]

    return msgspec.structs.replace(book, items={name: item for name, item in book.items.items() if not is_gone(name)})


class Message(NamedTuple):
    """What is to be sent. ``holding`` and ``ending``: the names of those that it tells of."""

    title: str
    body: str
    urgent: bool
    holding: tuple[str, ...]
    ending: tuple[str, ...]


def follow(
    book: Book, raised: Mapping[str, Item], is_over: Callable[[str], bool], now: float, rules: Rules
) -> tuple[Book, list[str]]:
    """The book after a look at what holds, and the names of those that were dropped without being told.

    ``raised``: what holds now, as new items; ``is_over``: of another, whether it is known not to hold.
    """
    items: dict[str, Item] = {}
    dropped: list[str] = []
    for name in {**book.items, **raised}:
        before, seen = book.items.get(name), raised.get(name)
        after = _held(before and _not_ahead(before, now), seen) if seen else before
        if before and not seen:
            after = _left(_not_ahead(before, now), is_over(name), now, rules)
            if after is None and before.over is not None and not before.ended:
                dropped.append(name)
        if after:
            items[name] = after
    recent = tuple(at for at in book.sent if 0 <= now - at < _HOUR_S)
    return msgspec.structs.replace(book, items=items, sent=recent), dropped


def _not_ahead(item: Item, now: float) -> Item:
    """The same after a clock was set back, which must not keep an alert from being told."""
    if max(item.since, item.told or 0.0, item.over or 0.0) <= now:
        return item
    told, over = (None if at is None else min(at, now) for at in (item.told, item.over))
    return msgspec.structs.replace(item, since=min(item.since, now), told=told, over=over)


def _held(before: Item | None, seen: Item) -> Item:
    if before is None:
        return seen
    if before.ended:
        return msgspec.structs.replace(seen, back=before.back + 1)
    if before.over is not None:
        before = msgspec.structs.replace(before, over=None, back=before.back + 1)
    if before.urgency == "soon" and seen.urgency == "now":
        return msgspec.structs.replace(before, urgency="now", text=seen.text, told=None, known=False)
    return before


def _left(before: Item, is_over: bool, now: float, rules: Rules) -> Item | None:
    """What becomes of one that is not raised; None where it is forgotten."""
    if before.over is None:
        if not is_over:
            return before
        if before.told is None and before.urgency == "soon":
            return msgspec.structs.replace(before, over=now, ended=True) if before.back else None
        return msgspec.structs.replace(before, over=now)
    return before if now - before.over < (rules.again if before.ended else rules.keep) else None


def due(book: Book, now: float, minute: int, rules: Rules, moment: Callable[[float], str]) -> Message | None:
    """What is to be sent now, if anything, of a book that follows what holds now.

    ``minute``: of the day in the node's zone; ``moment`` writes a time for people.
    """
    holding = [name for name, item in book.items.items() if item.over is None and _is_due(item, now, rules)]
    urgent = [name for name in holding if book.items[name].urgency == "now"]
    ending = [name for name, item in book.items.items() if _has_ended(item, now, rules)]
    if rules.quiet.holds(minute):
        holding, ending = urgent, []
    if not holding and not ending:
        return None
    if len(book.sent) >= rules.most - (not urgent and rules.most > 1):
        return None
    holding.sort(key=lambda name: (book.items[name].urgency != "now", book.items[name].since))
    lines = [_holds(book.items[name], now, moment) for name in holding]
    lines += [_is_past(book.items[name], now, moment) for name in ending]
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], f"and {len(lines) - _LINES + 1} more: outlast alert list"]
    word = "urgent: " if urgent else "" if holding else "over: "
    return Message(word + _listed([*holding, *ending]), "\n".join(lines), bool(urgent), tuple(holding), tuple(ending))


def why_untold(book: Book, item: Item, minute: int, rules: Rules) -> str:
    """Why one that nobody was told of waits by these rules; empty where it does not. ``minute``: as in ``due``."""
    if item.urgency == "soon" and rules.quiet.holds(minute):
        return f"quiet hours until {rules.quiet.end // 60:02}:{rules.quiet.end % 60:02}"
    if len(book.sent) >= rules.most - (item.urgency == "soon" and rules.most > 1):
        return f"{len(book.sent)} messages went out within the hour, {rules.most} are the most (outlast_alerts.most)"
    return ""


def _is_due(item: Item, now: float, rules: Rules) -> bool:
    return item.told is None or (not item.known and now - item.told >= rules.again)


def _has_ended(item: Item, now: float, rules: Rules) -> bool:
    if item.over is None or item.ended:
        return False
    # It cannot come back so often that the power overflows before it is bounded.
    return now - item.over >= min(rules.calm * 2.0 ** min(item.back, 60), rules.again)


def _holds(item: Item, now: float, moment: Callable[[float], str]) -> str:
    since = "" if now - item.since < _JUST_NOW_S else f"since {moment(item.since)}: "
    return one_line(f"{'still, ' if item.told is not None else ''}{since}{item.text}", _CHARS)


def _is_past(item: Item, now: float, moment: Callable[[float], str]) -> str:
    over = now if item.over is None else item.over
    if item.told is None:
        was = f"could not be told, from {moment(item.since)} to {moment(over)}"
    else:
        was = f"over since {moment(over)}, after {timespan(over - item.since)}"
    # There is nothing to mend any more.
    return one_line(f"{was}: {item.text.partition('; mend: ')[0]}", _CHARS)


def timespan(seconds: float) -> str:
    """How long something was, for people."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - _NAMES} more" if len(shown) > _NAMES else ""
    return ", ".join(shown[:_NAMES]) + more


def taken(book: Book, message: Message, now: float) -> Book:
    """The book once somebody took the message."""
    items = dict(book.items)
    for name in message.holding:
        if name in items:
            items[name] = msgspec.structs.replace(items[name], told=now)
    for name in message.ending:
        if name in items:
            items[name] = msgspec.structs.replace(items[name], ended=True)
    return msgspec.structs.replace(book, items=items, sent=(*book.sent, now))
