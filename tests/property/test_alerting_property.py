"""What a person is told over simulated days: never a flood, nothing at night that can wait, nothing lost, nothing twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outlast.core.alerting import Book, Item, Message, Rules, Urgency, due, follow, hours, taken

ZONE = ZoneInfo("Europe/Berlin")
# Two days before summer time begins, and before it ends.
STARTS = [datetime(2026, 3, 27, 12, 0, tzinfo=ZONE).timestamp(), datetime(2026, 10, 23, 12, 0, tzinfo=ZONE).timestamp()]
TICK_S, HOUR_S, SETTLES_S = 300.0, 3600.0, 3600.0
QUIET = ["22:00-07:00", "01:00-06:00", "23:59-00:01", "12:00-12:00", "09:00-17:00"]


def minute(now: float) -> int:
    """The minute of the day in the node's zone."""
    local = datetime.fromtimestamp(now, ZONE)
    return local.hour * 60 + local.minute


@dataclass
class Told:
    """One message that arrived, and what the book said of its alerts then."""

    at: float
    message: Message
    items: dict[str, Item]


@dataclass
class World:
    """A node with its alerts, its book on the disk, and somebody who is told when the network is there."""

    rules: Rules
    now: float
    disk: bytes = field(default_factory=lambda: msgspec.json.encode(Book()))
    causes: dict[str, Item] = field(default_factory=dict)
    net: bool = True
    told: list[Told] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    # What was seen to be gone since the start, and when that was.
    gone: set[str] = field(default_factory=set)
    started: float = 0.0

    @property
    def book(self) -> Book:
        """As it lies on the disk."""
        return msgspec.json.decode(self.disk, type=Book)

    def raise_(self, name: str, urgency: Urgency) -> None:
        """A cause is found; one that is there already may become urgent."""
        before = self.causes.get(name)
        if before is None or (before.urgency, urgency) == ("soon", "now"):
            self.causes[name] = Item(urgency, f"{name} is wrong", before.since if before else self.now)
        self.gone.discard(name)

    def end(self, name: str) -> None:
        """A cause is gone, and was looked for."""
        if self.causes.pop(name, None):
            self.gone.add(name)

    def restart(self) -> None:
        """Kill -9: all but the disk is forgotten, also which causes were seen to be gone."""
        self.gone.clear()
        self.started = self.now

    def know(self, name: str) -> None:
        """A person says that they know of it."""
        book = self.book
        if (item := book.items.get(name)) and item.over is None:
            item = msgspec.structs.replace(item, known=True, told=item.told or self.now)
            self.disk = msgspec.json.encode(msgspec.structs.replace(book, items={**book.items, name: item}))

    def tick(self) -> None:
        """One look, as work.notifier takes it."""

        def is_over(name: str) -> bool:
            return name in self.gone or self.now - self.started >= SETTLES_S

        book, dropped = follow(self.book, self.causes, is_over, self.now, self.rules)
        self.dropped += dropped
        message = due(book, self.now, minute(self.now), self.rules, str)
        if message and self.net:
            self.told.append(Told(self.now, message, book.items))
            book = taken(book, message, self.now)
        self.disk = msgspec.json.encode(book)

    def wait(self, ticks: int) -> None:
        """Time goes by."""
        for _ in range(ticks):
            self.now += TICK_S
            self.tick()


NAMES = st.sampled_from([f"cause-{number}" for number in range(9)])
STEPS = st.one_of(
    st.tuples(st.just("raise"), NAMES, st.sampled_from(["soon", "now"])),
    st.tuples(st.just("end"), NAMES),
    st.tuples(st.just("know"), NAMES),
    st.tuples(st.just("wait"), st.integers(0, 200)),
    st.tuples(st.just("net"), st.booleans()),
    st.tuples(st.just("restart")),
)


def play(start: float, quiet: str, most: int, steps: list[tuple[object, ...]]) -> World:
    """A world after all of these steps."""
    world = World(Rules(hours(quiet), most, again=86_400.0, keep=7 * 86_400.0, calm=600.0), start)
    for kind, *given_ in steps:
        match kind, given_:
            case "raise", [str(name), ("soon" | "now") as urgency]:
                world.raise_(name, urgency)
                world.tick()
            case "end", [str(name)]:
                world.end(name)
            case "know", [str(name)]:
                world.know(name)
            case "wait", [int(ticks)]:
                world.wait(ticks)
            case "net", [bool(there)]:
                world.net = there
            case "restart", []:
                world.restart()
    return world


worlds = given(st.sampled_from(STARTS), st.sampled_from(QUIET), st.integers(1, 6), st.lists(STEPS, max_size=60))
many = settings(max_examples=150, deadline=None)


@many
@worlds
def test_never_a_flood(start: float, quiet: str, most: int, steps: list[tuple[object, ...]]) -> None:
    """In any hour at most so many messages arrive, however many alerts there are, and over restarts as well."""
    told = [one.at for one in play(start, quiet, most, steps).told]
    for first, at in enumerate(told):
        assert sum(at <= other < at + HOUR_S for other in told[first:]) <= most


@many
@worlds
def test_nobody_is_woken_by_what_can_wait(start: float, quiet: str, most: int, steps: list[tuple[object, ...]]) -> None:
    """In quiet hours a message tells of what is urgent, and of nothing else; over midnight and changes of the clock too."""
    for one in play(start, quiet, most, steps).told:
        if hours(quiet).holds(minute(one.at)):
            assert not one.message.ending
            assert {one.items[name].urgency for name in one.message.holding} == {"now"}


@many
@worlds
@example(
    STARTS[0],
    QUIET[0],
    1,
    [("net", False), ("raise", "a", "soon"), ("end", "a"), ("know", "a"), ("net", True), ("wait", 3)],
)
def test_nothing_is_told_twice(start: float, quiet: str, most: int, steps: list[tuple[object, ...]]) -> None:
    """While it holds an alert is told once in ``again``, or once more when it became urgent; its end once, to who knew of it."""
    last: dict[str, tuple[float, Urgency]] = {}
    for one in play(start, quiet, most, steps).told:
        for name in one.message.holding:
            at, urgency = last.get(name, (float("-inf"), "soon"))
            became_urgent = (urgency, one.items[name].urgency) == ("soon", "now")
            assert one.at - at >= 86_400.0 or became_urgent, f"{name} is told again"
            last[name] = one.at, one.items[name].urgency
        for name in one.message.ending:
            late = one.items[name].told is None and one.items[name].urgency == "now"
            knew = name in last or one.items[name].known
            assert knew or late, f"nobody was told that {name} was wrong"
            last.pop(name, None)


@many
@worlds
@example(STARTS[0], QUIET[0], 1, [("net", False), ("raise", "cause-0", "now"), ("restart",), ("net", True)])
def test_nothing_is_lost(start: float, quiet: str, most: int, steps: list[tuple[object, ...]]) -> None:
    """Once the network is back and the night over, everybody was told of all that holds, and of the end of all they were told."""
    world = play(start, quiet, most, steps)
    world.net = True
    world.wait(int(3 * 86_400 / TICK_S))
    assert not world.dropped
    known = {name for name, item in world.book.items.items() if item.known}
    believed: set[str] = set()
    for one in world.told:
        believed = believed.union(one.message.holding).difference(one.message.ending)
    assert believed - known == set(world.causes) - known


@many
@given(st.sampled_from(STARTS), st.sampled_from(QUIET), st.integers(2, 6), st.lists(STEPS, max_size=60))
def test_what_is_urgent_is_told_at_once(start: float, quiet: str, most: int, steps: list[tuple[object, ...]]) -> None:
    """Whatever the hour, and however much else there was: of the messages of an hour the last is kept for it."""
    world = play(start, quiet, most, steps)
    world.net = True
    before = [one for one in world.told if world.now - one.at < HOUR_S]
    world.raise_("fire", "now")
    world.tick()
    if len(before) < most or not any(one.message.urgent for one in before):
        assert "fire" in world.told[-1].message.holding


@given(st.integers(1, 12), st.sampled_from(["soon", "now"]))
@settings(max_examples=24, deadline=None)
def test_what_comes_and_goes_is_told_ever_more_rarely(ticks: int, urgency: Urgency) -> None:
    """A cause that flaps for a week, at whatever pace, is a few messages a day, not hundreds."""
    world = World(Rules(hours("00:00-00:00"), 6, again=86_400.0, keep=7 * 86_400.0, calm=600.0), STARTS[0])
    for _ in range(int(7 * 86_400 / TICK_S / (2 * ticks))):
        world.raise_("flap", urgency)
        world.wait(ticks)
        world.end("flap")
        world.wait(ticks)
    assert 7 <= len(world.told) <= 21


@given(st.floats(1.0, 400 * 86_400.0))
@settings(max_examples=50, deadline=None)
def test_a_clock_that_is_set_back_silences_nobody(back: float) -> None:
    """What was told at a time that has not come yet is told again ``again`` from now, and the hour's limit does not last."""
    world = World(Rules(hours("00:00-00:00"), 1, again=86_400.0, keep=7 * 86_400.0, calm=600.0), STARTS[0])
    world.raise_("old", "soon")
    world.tick()
    world.now -= back
    world.started = world.now
    world.raise_("new", "now")
    world.wait(int((86_400 + 2 * HOUR_S) / TICK_S))
    told = [one.message.holding for one in world.told[1:]]
    assert told[0] == ("new",) and "old" in told[1]
