"""What a message to a person says, and which settings of it are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from outlast.config import load_config
from outlast.core.alerting import Book, Item, Message, Rules, due, follow, hours, taken, timespan, why_untold
from outlast.errors import ConfigError

RULES = Rules(hours("22:00-07:00"), most=3, again=86_400.0, keep=7 * 86_400.0, calm=600.0)
NOON, NIGHT = 12 * 60, 23 * 60


def said(items: dict[str, Item], now: float = 1000.0, minute: int = NOON) -> Message:
    """The message that is due."""
    message = due(Book(items), now, minute, RULES, lambda at: f"t{at:g}")
    assert message is not None
    return message


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("22:00-07:00", (1320, 1439, 0, 419), (420, 1319)),
        ("08:00-18:00", (480, 1079), (479, 1080, 0)),
        ("09:30-09:30", (), (0, 570, 1439)),
    ],
)
def test_hours_may_go_over_midnight(text: str, inside: tuple[int, ...], outside: tuple[int, ...]) -> None:
    """The first minute is in it, the last is not; where both are the same there are none."""
    assert all(hours(text).holds(minute) for minute in inside)
    assert not any(hours(text).holds(minute) for minute in outside)


def test_a_message_says_what_and_since_when_and_the_urgent_first() -> None:
    """Names in the title, a line each; what began just now needs no time, and what was told before is told as still so."""
    message = said(
        {
            "queue": Item("soon", "the queue is long; mend: look", 1000.0),
            "disk": Item("now", "the disk is full; mend: outlast clean", 400.0),
            "keys": Item("soon", "the key is old; mend: rotate", 10.0, told=1000.0 - 86_400.0),
        }
    )
    assert message.urgent and message.title == "urgent: disk, keys, queue"
    assert message.body.splitlines() == [
        "since t400: the disk is full; mend: outlast clean",
        "still, since t10: the key is old; mend: rotate",
        "the queue is long; mend: look",
    ]


def test_an_end_says_how_long_it_was_and_no_mend() -> None:
    """There is nothing to mend any more; what could not be told in time says both its times."""
    message = said(
        {
            "disk": Item("now", "the disk is full; mend: outlast clean", -7000.0, told=-6000.0, over=200.0),
            "power": Item("now", "there is no power; mend: go there", 100.0, over=300.0),
        }
    )
    assert not message.urgent and message.title == "over: disk, power"
    assert message.body.splitlines() == [
        "over since t200, after 2 h: the disk is full",
        "could not be told, from t100 to t300: there is no power",
    ]


def test_a_message_stays_short() -> None:
    """Of thirty alerts it names a few, counts the others, and says where they are; all of them count as told."""
    items = {f"name-{number:02}": Item("soon", "x" * 1000, 1000.0) for number in range(30)}
    message = said(items)
    assert message.title == "name-00, name-01, name-02 and 27 more"
    assert len(message.body) < 3000 and message.body.endswith("and 21 more: outlast alert list")
    book = taken(Book(items), message, 1000.0)
    assert due(book, 1001.0, NOON, RULES, str) is None


def test_what_may_wait_is_not_put_into_an_urgent_message_at_night() -> None:
    """Nobody reads in the night what is for the morning."""
    items = {"fire": Item("now", "fire", 1000.0), "dust": Item("soon", "dust", 1000.0)}
    assert said(items, minute=NIGHT).holding == ("fire",)
    assert said(items, minute=NOON).holding == ("fire", "dust")


def test_good_news_waits_for_the_morning() -> None:
    """Nobody is woken to hear that something is over."""
    book = Book({"fire": Item("now", "fire", 0.0, told=0.0, over=10.0)})
    assert due(book, 3600.0, NIGHT, RULES, str) is None
    assert due(book, 3600.0, NOON, RULES, str) is not None


def test_the_last_message_of_an_hour_is_kept_for_what_is_urgent() -> None:
    """Two of three were sent: what can wait waits, what is urgent goes, and takes with it what waited."""
    dust, fire = Item("soon", "dust", 50.0), Item("now", "fire", 60.0)
    sent = (10.0, 20.0)
    assert due(Book({"dust": dust}, sent), 100.0, NOON, RULES, str) is None
    message = due(Book({"dust": dust, "fire": fire}, sent), 100.0, NOON, RULES, str)
    assert message is not None and message.holding == ("fire", "dust")
    assert due(Book({"fire": fire}, (*sent, 30.0)), 100.0, NOON, RULES, str) is None
    book, _ = follow(Book({"fire": fire}, (*sent, 30.0)), {"fire": fire}, lambda _: True, 3611.0, RULES)
    assert due(book, 3611.0, NOON, RULES, str) is not None, "the first of them is an hour ago"


def test_what_becomes_urgent_is_told_at_once() -> None:
    """Though it was told as something that can wait, and is known."""
    book = Book({"disk": Item("soon", "80 %", 0.0, told=10.0, known=True)})
    book, _ = follow(book, {"disk": Item("now", "99 %", 0.0)}, lambda _: True, 20.0, RULES)
    message = due(book, 20.0, NIGHT, RULES, str)
    assert message is not None and "99 %" in message.body


def test_what_was_urgent_and_could_not_be_told_is_told_when_it_is_over() -> None:
    """What was not urgent, and over before anybody was told, is no news."""
    book = Book({"fire": Item("now", "fire", 0.0), "dust": Item("soon", "dust", 0.0)})
    book, dropped = follow(book, {}, lambda _: True, 100.0, RULES)
    assert list(book.items) == ["fire"] and dropped == []
    message = due(book, 701.0, NOON, RULES, str)
    assert message is not None and message.ending == ("fire",) and "could not be told" in message.body


def test_what_is_known_is_not_repeated_and_its_end_is_told() -> None:
    """A person who said that they know hears of it once more: when it is over."""
    book = Book({"keys": Item("soon", "old", 0.0, told=0.0, known=True)})
    late = 10 * 86_400.0
    assert due(book, late, NOON, RULES, str) is None
    book, _ = follow(book, {}, lambda _: True, late, RULES)
    ended = due(book, late + 601.0, NOON, RULES, str)
    assert ended is not None and ended.ending == ("keys",)


def test_what_cannot_be_told_for_too_long_is_dropped_by_name() -> None:
    """Only what is over: what still holds is told whenever that can be."""
    book = Book({"past": Item("now", "was", 0.0, over=10.0), "here": Item("now", "is", 0.0)})
    book, dropped = follow(book, {"here": Item("now", "is", 0.0)}, lambda _: True, 8 * 86_400.0, RULES)
    assert dropped == ["past"] and list(book.items) == ["here"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d")]
)
def test_a_time_is_said_as_people_say_it(seconds: float, text: str) -> None:
    """In the largest unit of which there are two."""
    assert timespan(seconds) == text


@pytest.mark.parametrize(
    ("alerts", "field", "mend"),
    [
        ({"quiet": "22-7"}, "alerts.quiet", "HH:MM-HH:MM"),
        ({"work": "08:00-24:00"}, "alerts.work", "HH:MM-HH:MM"),
        ({"calm": "2d"}, "alerts.calm", "the shorter"),
        ({"again": "30d"}, "alerts.again", "the shorter"),
    ],
)
def test_rules_that_do_not_fit_are_refused(tmp_path: Path, alerts: dict[str, str], field: str, mend: str) -> None:
    """With the field, what is wrong, and the mend."""
    path = tmp_path / "node.yml"
    node = {"node": "coz", "listen": {"host": "127.0.0.1", "port": 1}, "agent": {"command": ["/bin/true"]}}
    path.write_text(yaml.safe_dump({**node, "alerts": alerts}))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.field == field and mend in caught.value.mend


def test_why_an_alert_waits_is_said() -> None:
    """Quiet hours until when, and as many messages as may be; what is urgent waits for neither but the last of them."""
    soon, now = Item("soon", "x", 0.0), Item("now", "y", 0.0)
    assert why_untold(Book(), soon, NIGHT, RULES) == "quiet hours until 07:00"
    assert why_untold(Book(), now, NIGHT, RULES) == why_untold(Book(), soon, NOON, RULES) == ""
    busy = Book(sent=(1.0, 2.0))
    assert "3 are the most (outlast_alerts.most)" in why_untold(busy, soon, NOON, RULES)
    assert why_untold(busy, now, NOON, RULES) == "" and why_untold(Book(sent=(1.0, 2.0, 3.0)), now, NOON, RULES)
