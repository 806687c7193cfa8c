"""What programs print is kept within bounds, whatever they print and whatever happens to the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outlast.work.output import Output


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "web.log"


def both(path: Path) -> bytes:
    older = path.with_name("web.1.log")
    return (older.read_bytes() if older.exists() else b"") + path.read_bytes()


def test_it_is_rotated_and_bounded(path: Path) -> None:
    """Two files of ``limit`` bytes at most, however much is printed, and they hold the last of it, nothing missing."""
    output, printed = Output(path, 1000), b""
    for number in range(500):
        line = b"line %d\n" % number
        printed += line
        output.write(line)
        assert path.stat().st_size <= 1000
    kept = both(path)
    assert 1000 <= len(kept) <= 2000 and printed.endswith(kept)
    assert sorted(os.listdir(path.parent)) == ["web.1.log", "web.log"]
    assert path.stat().st_mode & 0o077 == 0


def test_one_write_larger_than_the_limit(path: Path) -> None:
    """Of one that does not fit the last is kept."""
    output = Output(path, 100)
    output.write(b"before")
    output.write(b"x" * 1000 + b"the end")
    assert path.stat().st_size == 100 and path.read_bytes().endswith(b"the end")


def test_it_goes_on_where_an_earlier_runtime_stopped(path: Path) -> None:
    """A restart of the node loses nothing of what was printed, and does not make the file grow beyond its limit."""
    first = Output(path, 100)
    first.write(b"a" * 60)
    first.close()
    Output(path, 100).write(b"b" * 60)
    assert both(path) == b"a" * 60 + b"b" * 60 and path.stat().st_size <= 100


def test_a_file_that_was_removed_is_made_anew(path: Path) -> None:
    """Who removes the file while the program runs loses what was in it, and no more."""
    output = Output(path, 100)
    output.write(b"one\n")
    path.unlink()
    output.write(b"two\n")
    assert path.read_bytes() == b"two\n"


def test_a_link_in_its_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    """Nobody makes the node write elsewhere."""
    target = tmp_path / "target"
    path.parent.mkdir()
    path.symlink_to(target)
    Output(path, 100).write(b"one\n")
    assert not target.exists()


def test_a_disk_that_takes_nothing_stops_nobody(path: Path) -> None:
    """A write that fails is lost, and the next one is tried again."""
    path.parent.mkdir()
    path.mkdir()
    output = Output(path, 100)
    output.write(b"lost")
    path.rmdir()
    output.write(b"kept")
    assert path.read_bytes() == b"kept"
