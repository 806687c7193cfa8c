"""Folders that a program wrote: looked at and removed however deep, long, closed or full of links they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outlast.work.harvest import holds_more, measure
from outlast.work.trees import remove, through


def deep(top: Path, levels: int, name: str) -> None:
    """Folders in folders, with a file of 5 bytes in the lowest: by file descriptors, for no path leads there."""
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    fd = os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here)
    os.write(fd, b"12345")
    os.close(fd)
    os.close(here)


@pytest.mark.parametrize(("levels", "name"), [(1500, "d"), (5000, "d"), (30, "d" * 250)])
def test_depth_hides_nothing_and_keeps_nothing(tmp_path: Path, levels: int, name: str) -> None:
    """Deeper than Python calls, than files may be open, and than a path is long: counted to the bottom, and removed."""
    top = tmp_path / "top"
    deep(top, levels, name)
    assert measure(top, 100) == (5, levels + 1)
    assert holds_more(top, 4) and not holds_more(top, 5)
    assert remove(top)
    assert list(tmp_path.iterdir()) == []


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    """What they lead to stays, with its rights; so does it where the very folder to remove is one."""
    outside, top = tmp_path / "outside", tmp_path / "top"
    (outside / "in").mkdir(parents=True)
    (outside / "in").chmod(0o711)
    (outside / "file").write_text("x" * 100)
    top.mkdir()
    for name in ("a", "b"):
        (top / name).symlink_to(outside)
    (tmp_path / "link").symlink_to(outside)
    assert measure(top, 1000)[1] == 2
    assert remove(top) and remove(tmp_path / "link")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside"]
    assert (outside / "file").exists() and (outside / "in").stat().st_mode & 0o777 == 0o711


def test_what_was_closed_is_opened(tmp_path: Path) -> None:
    """Rights taken away at every level, and from the folder itself: counted, and removed."""
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("12345")
    for path, mode in ((top / "a" / "b", 0), (top / "a", 0o600), (top, 0o300)):
        path.chmod(mode)
    assert measure(top, 100) == (5, 3)
    assert remove(top)


def test_a_look_changes_no_rights_that_let_it_look(tmp_path: Path) -> None:
    """A folder to read only, as caches have them, stays one."""
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    (top / "a").chmod(0o555)
    assert measure(top, 100) == (0, 1)
    assert (top / "a").stat().st_mode & 0o777 == 0o555


def test_a_folder_that_is_moved_meanwhile_leads_nowhere_else(tmp_path: Path) -> None:
    """Its writer still runs and moves it: the way back is not taken to where it lies now."""
    top, away = tmp_path / "top", tmp_path / "away"
    (top / "a").mkdir(parents=True)
    (away / "a").mkdir(parents=True)
    left: list[str] = []

    def enter(here: int) -> list[str]:
        inside = sorted(os.listdir(here))
        if not inside:
            os.rename(top / "a", away / "moved")
        return inside

    through(top, enter, lambda _, name: left.append(name))
    assert left == [] and (away / "a").exists()


def test_the_count_stops_once_it_is_enough(tmp_path: Path) -> None:
    """So that a look at very many files takes no longer than at as many as there may be."""
    for at in range(50):
        (tmp_path / str(at)).touch()
    assert measure(tmp_path, 100, 10) == (0, 11)


def test_removing_stops_when_it_is_told_to(tmp_path: Path) -> None:
    """A stop of the node waits for one file at most; the rest is still there, for the next start."""
    for at in range(10):
        (tmp_path / str(at)).touch()
    answers = iter([True, True, True])
    assert not remove(tmp_path, lambda: next(answers, False))
    assert len(list(tmp_path.iterdir())) == 7
    assert remove(tmp_path / "0") and remove(tmp_path / "missing")
