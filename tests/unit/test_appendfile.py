"""A file that grows by lines while others append to it, rewrite it, or replace it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outlast.errors import DurabilityError
from outlast.store import durable
from outlast.store.appendfile import AppendFile

LINE = b"- a line of ours\n"


def test_a_new_file_and_its_name_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first append makes the file with its heading, and brings file and folder entry to the disk; the next ones only what
    was added."""
    synced: list[str] = []
    monkeypatch.setattr(durable, "fsync_file", lambda fd: synced.append("file"))
    monkeypatch.setattr(durable, "fsync_dir", lambda path: synced.append(path.name))
    monkeypatch.setattr(durable, "fsync_data", lambda fd: synced.append("data"))
    file = AppendFile(tmp_path / "day.md", b"# heading\n\n")
    assert file.append(LINE) == len(b"# heading\n\n")
    assert file.append(LINE) == len(b"# heading\n\n" + LINE)
    assert synced == [tmp_path.parent.name, "file", tmp_path.name, "data"]
    assert (tmp_path / "day.md").read_bytes() == b"# heading\n\n" + LINE + LINE


def test_a_line_that_was_torn_by_others_is_closed(tmp_path: Path) -> None:
    """What is found without a line's end at opening stays as it is, and ours begins on a fresh line."""
    path = tmp_path / "day.md"
    path.write_bytes(b"somebody began")
    AppendFile(path).append(LINE)
    assert path.read_bytes() == b"somebody began\n" + LINE


def test_what_was_glued_to_a_torn_line_is_written_again(tmp_path: Path) -> None:
    """Somebody tears a line between two of our appends: ours stands on a line of its own in the end."""
    path = tmp_path / "day.md"
    file = AppendFile(path)
    file.append(LINE)
    with open(path, "ab") as other:
        other.write(b"somebody began")
    offset = file.append(LINE)
    content = path.read_bytes()
    assert content[offset - 1 :] == b"\n" + LINE
    assert content.startswith(LINE + b"somebody began")


@pytest.mark.parametrize("moment", ["before", "while"])
def test_what_went_into_a_replaced_file_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """An editor puts a new file at the path, before we write or while we do: the line is in the new one."""
    path = tmp_path / "day.md"
    file = AppendFile(path)
    file.append(LINE)

    def replace() -> None:
        (tmp_path / "new").write_bytes(b"all new, no line's end")
        (tmp_path / "new").rename(path)

    if moment == "before":
        replace()
        file.append(b"- second\n")
    else:
        real, done = durable.write_all, []

        def write(fd: int, data: bytes) -> None:
            real(fd, data)
            if not done:
                done.append(True)
                replace()

        monkeypatch.setattr(durable, "write_all", write)
        file.append(b"- second\n")
    assert path.read_bytes() == b"all new, no line's end\n- second\n"


def test_a_replacement_that_has_the_line_already_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor that had read our line before it replaced the file does not make us write it twice; it is durable there."""
    path = tmp_path / "day.md"
    file = AppendFile(path)
    file.append(LINE)
    real, synced = durable.write_all, []

    def write(fd: int, data: bytes) -> None:
        real(fd, data)
        (tmp_path / "new").write_bytes(b"# mine\n" + path.read_bytes() + b"the end\n")
        (tmp_path / "new").rename(path)

    monkeypatch.setattr(durable, "write_all", write)
    monkeypatch.setattr(durable, "fsync_file", lambda fd: synced.append(os.fstat(fd).st_ino))
    offset = file.append(b"- second\n")
    assert path.read_bytes() == b"# mine\n" + LINE + b"- second\nthe end\n"
    assert path.read_bytes()[offset:].startswith(b"- second\n")
    assert synced == [path.stat().st_ino]


def test_an_append_between_ours_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another appender may come in between two halves of a short write: the whole line is written again."""
    path = tmp_path / "day.md"
    file = AppendFile(path)
    file.append(LINE)
    real, done = os.write, []

    def short(fd: int, data: bytes) -> int:
        if done:
            return real(fd, data)
        done.append(True)
        written = real(fd, data[:5])
        with open(path, "ab") as other:
            other.write(b"somebody's line\n")
        return written

    monkeypatch.setattr(os, "write", short)
    offset = file.append(b"- second\n")
    monkeypatch.undo()
    content = path.read_bytes()
    assert content[offset - 1 :] == b"\n- second\n" and b"somebody's line\n" in content


def test_after_a_failure_the_next_line_begins_afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line's end before may be lost with the write that failed: the next append brings its own."""
    path = tmp_path / "day.md"
    file = AppendFile(path)
    file.append(LINE)

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "fsync_data", broken)
        with pytest.raises(DurabilityError, match="day.md could not be written: Input/output error"):
            file.append(b"- lost or not\n")
    file.append(b"- third\n")
    assert path.read_bytes() == LINE + b"- lost or not\n\n- third\n"


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    """Two files that are open at the same path, and an agent that tears lines, append in turn: every line is whole."""
    path = tmp_path / "day.md"
    one, two = AppendFile(path), AppendFile(path)
    for number in range(50):
        one.append(b"- one %d\n" % number)
        two.append(b"- two %d\n" % number)
        if number % 3 == 0:
            with open(path, "ab") as agent:
                agent.write(b"torn %d" % number)
    lines = path.read_bytes().split(b"\n")
    assert {b"- %s %d" % (who, number) for who in (b"one", b"two") for number in range(50)} <= set(lines)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A FIFO in the file's place is an error at once, for whoever appends and for whoever reads; nothing is put into it."""
    file = AppendFile(tmp_path / "day.md")
    file.append(b"one\n")
    file.path.unlink()
    os.mkfifo(file.path)
    with pytest.raises(DurabilityError, match="no regular file"):
        file.append(b"two\n")
    with pytest.raises(DurabilityError, match="no regular file"):
        file.read()
    file.path.unlink()
    assert file.append(b"two\n") == 0 and file.read() == b"two\n"
