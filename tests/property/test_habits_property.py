"""Habits, whatever the messages are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outlast.core.habits import LEAST, Habits, Heard, Numbers
from outlast.core.lasthour import LastHour

_HEARD = st.builds(
    Heard,
    st.floats(0, 4e9),
    st.integers(0, 400),
    st.integers(0, 23),
    st.sampled_from(["task", "result", "note", "share", "x`*"]),
    st.integers(0, 1 << 20),
    st.one_of(st.ip_addresses().map(str), st.text(max_size=40)),
)


@given(st.lists(_HEARD, max_size=60), st.randoms())
def test_order_does_not_matter(messages: list[Heard], random: object) -> None:
    """Whatever the order in which messages are learned, what is unlike is the same; nothing raises."""
    one, other = Habits(), Habits()
    shuffled = list(messages)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for heard in messages:
        one.learn(heard)
    for heard in shuffled:
        other.learn(heard)
    for heard in messages:
        for own in (True, False):
            assert one.unlike(heard, one.beside(heard), own=own) == other.unlike(heard, other.beside(heard), own=own)


@given(_HEARD, st.integers(LEAST + 1, 500))
def test_what_is_always_the_same_is_never_unlike(heard: Heard, times: int) -> None:
    """A sender that always does the same does nothing unlike itself, judged by the rest or by what came before."""
    habits = Habits()
    for _ in range(times):
        habits.learn(heard)
    assert habits.unlike(heard, habits.beside(heard), own=True) == ()
    assert habits.unlike(heard, 1, own=False) == ()


@given(st.lists(_HEARD, max_size=LEAST - 1), _HEARD)
def test_little_says_nothing(messages: list[Heard], heard: Heard) -> None:
    """From fewer messages than make a habit nothing is concluded."""
    habits = Habits()
    for one in messages:
        habits.learn(one)
    assert habits.unlike(heard, 1000, own=False) == ()


@given(st.integers(1, 1 << 40), st.integers(0, 200))
def test_one_who_counts_is_in_line(first: int, count: int) -> None:
    """Numbers that count up by one are in line, wherever they begin, also where uncounted messages come between."""
    numbers = Numbers()
    assert not any(numbers.unlike(seq) for step in range(count) for seq in (first + step, 0))


@given(st.lists(st.tuples(st.floats(0, 7200), st.booleans(), st.booleans()), max_size=200), st.floats(7200, 20_000))
def test_the_last_hour_counts_what_was_in_it(requests: list[tuple[float, bool, bool]], now: float) -> None:
    """Every request of the last hour is counted, none of more than an hour and a minute ago, and no more than all."""
    hour = LastHour(0.0)
    for at, taken, retry in sorted(requests):
        hour.count(at, taken=taken, retry=retry)
    tally = hour.tally(now)
    least = [one for one in requests if now - one[0] < 3540]
    most = [one for one in requests if now - one[0] <= 3660]
    assert len(least) <= tally.tried <= len(most)
    assert sum(one[1] for one in least) <= tally.taken <= sum(one[1] for one in most)
    assert tally.seconds == 3600
    assert tally.success is None or 0 <= tally.success <= 1
