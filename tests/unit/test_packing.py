"""Logs and artifacts made smaller without losing a byte, and what is never touched."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from outlast.cli.tail import follow
from outlast.core.cleaning import is_protected
from outlast.errors import OutlastError
from outlast.work import packing

OLD = (date.today() - timedelta(days=30)).isoformat()
TODAY = date.today().isoformat()


def names(folder: Path) -> list[str]:
    """What is in it."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("path", "patterns", "protected"),
    [
        ("artifacts/coz-1/sessions/a.jsonl", [], True),
        ("artifacts/coz-1/a.jsonl.deleted.2026-01-01T00-00-00.000Z.zst", [], True),
        ("artifacts/coz-1/a.jsonl.reset.2026-01-01T00-00-00.000Z", [], True),
        ("artifacts/coz-1/sessions.json.bak.1737420882", [], True),
        ("artifacts/archive/report.md", [], True),
        ("artifacts/coz-1/a.trajectory.jsonl", [], True),
        ("artifacts/coz-1/report.md", [], False),
        ("artifacts/coz-1/obsessions.md", [], False),
        ("logs/2026-01-01.jsonl", [], False),
        ("logs/2026-01-01.jsonl", ["logs"], True),
        ("logs/2026-01-01.jsonl", ["logs/2026-*"], True),
        ("artifacts/thesis/deep/file.md", ["artifacts/thesis/"], True),
        ("artifacts/coz-1/report.md", ["report.md"], False),
    ],
)
def test_what_is_protected(path: str, patterns: list[str], protected: bool) -> None:
    """What OpenClaw calls its own is, wherever it lies; what the operator names is, with all that is below it."""
    assert is_protected(path, patterns) is protected


def test_a_log_that_came_back_is_added(tmp_path: Path) -> None:
    """A clock that was set back wrote to a day that was compressed: both parts are there, in their order."""
    path = tmp_path / f"{OLD}.jsonl"
    for part in (b"first\n", b"second\n", b"third\n"):
        path.write_bytes(part)
        packing.compress(path, lambda: None)
    assert gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes()) == b"first\nsecond\nthird\n"


def test_a_log_that_is_written_to_meanwhile_stays(tmp_path: Path) -> None:
    """What is appended while it is compressed is not lost: the log stays, and nothing is believed of its copy."""
    path = tmp_path / f"{OLD}.jsonl"
    path.write_bytes(b"first\n")
    pieces = iter(range(100))

    def append() -> None:
        if next(pieces) == 2:
            with path.open("ab") as file:
                file.write(b"second\n")

    with pytest.raises(OutlastError):
        packing.compress(path, append)
    assert path.read_bytes() == b"first\nsecond\n"
    packing.compress(path, lambda: None)
    assert gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes()).endswith(b"first\nsecond\n")


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: data[:10] + b"\xff" * 10 + data[20:]])
def test_a_damaged_copy_is_not_trusted(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """Beside a .gz that does not read back, cut short or with other bytes in it, the log stays."""
    path = tmp_path / f"{OLD}.jsonl"
    path.write_bytes(b"first\n")
    path.with_name(f"{path.name}.gz").write_bytes(damage(gzip.compress(b"first\n" * 9)))
    with pytest.raises(packing.CorruptError, match="move it away"):
        packing.compress(path, lambda: None)
    assert path.exists()


def test_packing_refuses_what_tar_cannot_hold(tmp_path: Path) -> None:
    """A pipe among the files: nothing is packed, nothing waits for ever, and no archive is left."""
    folder = tmp_path / "work"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    with pytest.raises(packing.Changed, match="neither file nor folder"):
        packing.pack(folder, tmp_path / "x.tar.gz", lambda: None)
    assert names(tmp_path) == ["work"]


def test_hard_links_are_each_whole(tmp_path: Path) -> None:
    """Two names of one file are packed as two files."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "a").write_text("one")
    os.link(folder / "a", folder / "b")
    held = packing.pack(folder, tmp_path / "x.tar.gz", lambda: None)
    assert held == packing.contents(folder, lambda: None) == packing.unpacked(tmp_path / "x.tar.gz", lambda: None)
    assert packing.drop(folder, held, lambda: None) and not folder.exists()


def test_a_stop_ends_it_between_two_pieces(tmp_path: Path) -> None:
    """Whatever is to end it does so while gigabytes are read, and leaves no half archive."""
    (tmp_path / "big").write_bytes(bytes(5 << 20))
    calls = iter(range(100))

    def stop() -> None:
        if next(calls) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        packing.pack(tmp_path / "big", tmp_path / "x.tar.gz", stop)
    assert names(tmp_path) == ["big"]


def test_tail_reads_what_was_compressed(tmp_path: Path) -> None:
    """A node that was down for a month: its last events are shown though their log was compressed; a log that is compressed
    while somebody follows it does not end that."""
    (tmp_path / f"{OLD}.jsonl").write_text("".join(f"line {number}\n" for number in range(20)))
    packing.compress(tmp_path / f"{OLD}.jsonl", lambda: None)
    assert list(follow(tmp_path, 5, follow=False)) == [f"line {number}" for number in range(15, 20)]
    (tmp_path / f"{TODAY}.jsonl").write_text("today\n")
    following = follow(tmp_path, 1, follow=True)
    assert next(following) == "today"
    packing.compress(tmp_path / f"{TODAY}.jsonl", lambda: None)
    tomorrow = (date.today() + timedelta(days=1)).isoformat()
    (tmp_path / f"{tomorrow}.jsonl").write_text("next\n")
    assert next(following) == "next"
