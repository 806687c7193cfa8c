"""The pure parts of ``make bench``: what the table says follows from the figures, and a missing figure is never a success."""

from __future__ import annotations

import pytest

from bench.idle import Written, grown
from bench.play import changed
from bench.table import Figure, Goal, Row, median, met, per_day, percentile, render


def row(ours: float | None, peer: float | None = None, goal: Goal | None = None) -> Row:
    return Row("second make up", "s", Figure(ours, why="no make"), [Figure(peer, "mitogen", "no mitogen")], goal)


@pytest.mark.parametrize(
    ("ours", "peer", "goal", "expected"),
    [
        (7.9, None, Goal(8), "yes"),
        (8.0, None, Goal(8), "NO"),
        (8.0, None, Goal(8, strict=False), "yes"),
        (8.1, None, Goal(8, strict=False), "NO"),
        (5.0, 5.0, Goal(8, beside="mitogen"), "yes"),
        (5.1, 5.0, Goal(8, beside="mitogen"), "NO"),
        (9.0, 10.0, Goal(8, beside="mitogen"), "NO"),
        (5.0, None, Goal(8, beside="mitogen"), "not known"),
        (None, 5.0, Goal(8, beside="mitogen"), "not known"),
        (5.0, 5.0, None, "-"),
    ],
)
def test_met(ours: float | None, peer: float | None, goal: Goal | None, expected: str) -> None:
    """A goal is met only by a figure within it, and beside a peer only if the peer was measured and is not better."""
    assert met(row(ours, peer, goal)) == expected


def test_table_is_aligned_and_names_what_is_missing() -> None:
    """Every line of the table is as wide as the others, and a figure that is missing is explained once below it."""
    text = render([row(5.0, 6.25, Goal(8, beside="mitogen")), row(None, None), row(None, None)])
    table, _, notes = text.partition("\n\n")
    assert len({len(line) for line in table.splitlines()}) == 1
    assert "| second make up | 5.00 s       | mitogen 6.25 s       | < 8 s, ≤ mitogen | yes  |" in table
    assert notes.splitlines() == [
        "- second make up not measured: no make",
        "- mitogen not measured: no mitogen",
    ]


def test_a_table_without_gaps_has_no_notes() -> None:
    """Nothing is said below the table when every figure is there."""
    assert "\n\n" not in render([row(1.0, 2.0)])


def test_extrapolation() -> None:
    """A day is 86,400 seconds at the pace of the window."""
    assert per_day(1000, 60) == pytest.approx(1_440_000)


def test_percentiles_are_values_that_were_measured() -> None:
    """A percentile is one of the values; the median of an even number lies between the two in the middle."""
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (50, 99, 100)
    assert percentile([3.0], 1) == 3
    assert median([1.0, 2.0, 4.0]) == 2
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_growth_of_files() -> None:
    """A file that grew counts its growth, one that was written anew all of it, one that was left alone or removed nothing."""
    before = {"log": (100, 1), "state": (50, 1), "same": (70, 1), "gone": (9, 1)}
    after = {"log": (130, 2), "state": (40, 2), "same": (70, 1), "new": (5, 2)}
    assert grown(before, after) == 30 + 40 + 5


def test_the_larger_of_two_accounts_is_believed() -> None:
    """What the kernel counted and what the files show are two witnesses; the one that says more is taken."""
    assert Written(counted=10, shown=4096).bytes == 4096
    assert Written(counted=8192, shown=1).bytes == 8192
    assert Written(counted=None, shown=7).bytes == 7


def test_changed_is_read_from_the_recap() -> None:
    """What Ansible changed is the sum over its recap's hosts; without a recap there is nothing to believe."""
    recap = "coz : ok=9  changed=0 unreachable=0 failed=0\naxiom : ok=9 changed=2  unreachable=0 failed=0\n"
    assert changed(recap) == 2
    assert changed("no recap") is None
