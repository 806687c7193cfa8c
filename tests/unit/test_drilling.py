"""What a drill causes is told as a drill, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from outlast.core.alerting import Book, Item, Message
from outlast.home import Home
from outlast.work.drilling import Drill, as_drill, ended, ran, read_drills

BOOK = Book({"old": Item("soon", "x", 10.0), "new": Item("now", "y", 105.0), "late": Item("soon", "z", 300.0)})
DRILLS = [Drill(100.0, 200.0)]


def message(*holding: str, over: tuple[str, ...] = ()) -> Message:
    """A message of these alerts."""
    return Message("urgent: disk", "what is wrong", True, holding, over)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with a folder for what is kept."""
    (tmp_path / "var").mkdir()
    return Home(tmp_path)


def test_what_began_in_a_drill_is_told_as_one() -> None:
    """In the title, which is all that a locked phone shows; its end as well."""
    for told in (message("new"), message(over=("new",))):
        said = as_drill(told, BOOK, DRILLS)
        assert said.title == "drill: urgent: disk" and "playbooks/drill.yml" in said.body and said.urgent
        assert said.body.endswith("what is wrong")


def test_what_began_at_another_time_is_told_as_ever() -> None:
    """Before or after a drill, and where there was none: a real alert is never taken for a drill."""
    assert as_drill(message("old", "late"), BOOK, DRILLS) == message("old", "late")
    assert as_drill(message("new"), BOOK, []) == message("new")


def test_of_several_the_drill_s_are_named() -> None:
    """The title is that of a real one, for one of them is."""
    said = as_drill(message("old", "new"), BOOK, DRILLS)
    assert said.title == "urgent: disk" and said.body.splitlines()[-1].endswith(": new.")


def test_a_drill_is_over_after_its_last_step_or_in_time(home: Home) -> None:
    """Each step prolongs it; one that was cut off ends by itself, and the next is another one."""
    for now in (100.0, 150.0):
        ran(home, now)
    ended(home, 160.0)
    assert read_drills(home) == [Drill(100.0, 160.0)]
    ran(home, 170.0)
    assert read_drills(home) == [Drill(100.0, 160.0), Drill(170.0, 770.0)]
    ran(home, 5000.0)
    assert [one.began for one in read_drills(home)] == [100.0, 170.0, 5000.0]
    for number in range(40):
        ran(home, 10_000.0 + number * 1000)
    assert len(read_drills(home)) == 16


def test_a_damaged_file_is_no_drill(home: Home) -> None:
    """Then all is told as ever."""
    home.drills.write_bytes(b"{")
    assert read_drills(home) == []
    ended(home, 100.0)
    assert read_drills(home) == []
