"""QUEUE.md as it is read, and metrics as small curves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outlast.clock import iso
from outlast.core.queuefile import Entry, entries
from outlast.core.sparks import POINTS, WINDOW_S, curves

NOON = 1_795_262_400.0


def test_entries_are_read_as_people_and_agents_write_them() -> None:
    """Tags in any order; a line that is no entry is somebody's own."""
    lines = [
        "# Queue",
        "[seq:142] [depends:141] [agent:code-intel] build frontend",
        "- [seq: 143] [agent:coz] [depends:141, 142] ship  it",
        "[depends:1] no number",
        "[seq:x] [agent:coz] no number",
        "[seq:144]",
    ]
    assert list(entries(lines)) == [
        Entry(142, (141,), "code-intel", "build frontend"),
        Entry(143, (141, 142), "coz", "ship it"),
        Entry(144, (), "", ""),
    ]


@given(st.lists(st.text(max_size=300), max_size=5), st.text(alphabet="[]seq:dpnagt 0123456789", max_size=200))
def test_no_line_is_too_odd_to_be_read(lines: list[str], like: str) -> None:
    """Agents write that file."""
    for entry in entries([*lines, like, f"[seq:{like}] x", f"[seq:1] [depends:{like}] x"]):
        assert len(entry.text) <= 240 and len(entry.depends) <= 16


def line(seconds_ago: float, **figures: object) -> dict[str, object]:
    """One line of the metrics log."""
    return {"at": iso(NOON - seconds_ago), "node": "coz", "seconds": 60.0, **figures}


def test_a_curve_shows_the_peak_of_each_stretch_and_a_hole_where_nothing_was_measured() -> None:
    """The last value is the newest, and units are those that people read."""
    step = WINDOW_S / POINTS
    found = curves([line(step * 2.5, cpu=3.0, lag=0.012), line(step * 2.4, cpu=90.0), line(1, cpu=5.0)], NOON)
    (cpu, lag) = found
    assert (cpu["name"], cpu["unit"], cpu["last"], lag["unit"], lag["last"]) == ("cpu", "%", 5.0, "ms", 12.0)
    assert cpu["points"][-3:] == [90.0, None, 5.0] and len(cpu["points"]) == POINTS
    assert set(cpu["points"][:-3]) == {None}


def test_work_and_errors_are_counted_a_minute_over_all_kinds() -> None:
    """However long a line's stretch was."""
    kinds = {"task": {"n": 3, "errors": 1}, "ping": {"n": 1, "errors": 0}}
    found = {one["name"]: one["last"] for one in curves([line(5, seconds=120.0, kinds=kinds)], NOON)}
    assert found == {"done": 2.0, "errors": 0.5}


def test_what_is_old_or_odd_is_passed_over() -> None:
    """A file that agents can write decides nothing."""
    odd = [
        {},
        {"at": None},
        {"at": "x", "cpu": 1},
        line(WINDOW_S + 1, cpu=1.0),
        line(-1e9, cpu=1.0),
        line(5, cpu="x", kinds=7),
    ]
    assert curves(odd, NOON) == []
