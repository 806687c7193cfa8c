"""Habits of a sender: what stands out, and what does not."""

from __future__ import annotations

import pytest

from outlast.core.habits import Habits, Heard, Numbers, network

_DAY = 86_400


def _heard(number: int, **fields: object) -> Heard:
    """Every hour of the working day one task of about 300 bytes from one address, for weeks."""
    day, hour = divmod(number, 8)
    at = day * _DAY + (9 + hour) * 3600.0
    return Heard(at, day, 9 + hour, "task", 300 + number % 50, "10.0.0.7")._replace(**fields)


def _months() -> Habits:
    habits = Habits()
    for number in range(400):
        habits.learn(_heard(number))
    return habits


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"hour": 3}, "hour: never before around 03:00"),
        ({"size": 9000}, "size: a task of 9000 bytes"),
        ({"type": "note"}, "type: never before a note"),
        ({"remote": "203.0.113.9"}, "address: never before from 203.0.113.9"),
    ],
)
def test_what_was_never_met_before_stands_out(odd: dict[str, object], reason: str) -> None:
    """Each habit by itself: an hour, a size, a type, an address that were never met before are named, and nothing else is."""
    assert _months().unlike(_heard(500, **odd), 1, own=False) == (reason,)


def test_a_rush_stands_out() -> None:
    """A message with so many beside it as never before is a rush; one or two more than usual are not."""
    habits = _months()
    assert habits.unlike(_heard(500), 40, own=False) == ("rate: 40 in ten minutes",)
    assert habits.unlike(_heard(500), 3, own=False) == ()


def test_what_is_as_always_does_not_stand_out() -> None:
    """None of the messages that the habits were learned from is unlike them, nor one just after the usual hours."""
    habits = _months()
    assert not any(habits.unlike(heard, habits.beside(heard), own=True) for heard in map(_heard, range(400)))
    assert habits.unlike(_heard(500, hour=17), 1, own=False) == ()


def test_without_anything_before_the_rest_tells() -> None:
    """Where nothing came before, messages are compared with the others: few from elsewhere stand out, the many do not."""
    habits = Habits()
    messages = [_heard(number) for number in range(8)] + [_heard(number, remote="203.0.113.9") for number in (3, 4, 5)]
    for heard in messages:
        habits.learn(heard)
    odd = [heard.remote for heard in messages if habits.unlike(heard, habits.beside(heard), own=True)]
    assert odd == ["203.0.113.9"] * 3


def test_of_few_nothing_is_said() -> None:
    """With fewer than five others there is no habit, and nothing stands out."""
    habits = Habits()
    for number in range(4):
        habits.learn(_heard(number))
    assert not habits.known
    assert habits.unlike(_heard(9, remote="203.0.113.9", type="note"), 50, own=False) == ()


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2:bbbb::2", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:10.0.0.7", "10.0.0.7", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("10.0.0.7", "10.0.0.8", False),
        ("unix", "unix", True),
    ],
)
def test_an_address_is_the_same_as_far_as_its_host_is(first: str, second: str, same: bool) -> None:
    """IPv6 hosts change their address within a /64; IPv4 that came over IPv6 is the same host."""
    assert (network(first) == network(second)) == same


def test_numbers_that_two_count_do_not_keep_to_the_line() -> None:
    """Numbers out of line are named, those in line are not, before and after; a count that goes on elsewhere is named once."""

    def odd(*seqs: int) -> list[int]:
        numbers = Numbers()
        return [seq for seq in seqs if numbers.unlike(seq)]

    assert odd(4, 5, 0, 6, 7) == []
    assert odd(4, 5, 1000, 6, 7) == [1000]
    assert odd(4, 5, 2, 6) == [2]
    assert odd(4, 5, 5, 6) == [5]
    assert odd(40, 41, 1, 2, 3) == [1]
    assert odd(4, 5, 8, 9, 10) == [8]
