"""The order for maintenance in HEARTBEAT.md: one line of its own, whoever else writes there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from support.probed import configured

from outlast.cli.commands import outlast
from outlast.errors import BadInput, DurabilityError
from outlast.home import Home
from outlast.store import durable
from outlast.store.heartbeat import asks_maintenance, order_maintenance, show

LINES = st.lists(st.sampled_from(["- look at the mail", "", "é", "MAINTENANCE MODE", "- b\r", "\u2028"]), max_size=5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where HEARTBEAT.md is."""
    return tmp_path / "HEARTBEAT.md"


@given(lines=LINES, ours=st.sampled_from(["", "Outlast: degraded, disk 90 % full"]), repeated=st.integers(1, 3))
def test_on_and_off_leave_what_others_wrote(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], ours: str, repeated: int
) -> None:
    """To the byte, with and without a part of the runtime's, and however often it is said; each changes the file once."""
    path = tmp_path_factory.mktemp("h") / "HEARTBEAT.md"
    path.write_bytes("\n".join(lines).encode())
    show(path, ours)
    before = path.read_bytes()
    assert [order_maintenance(path, on=True).changed for _ in range(repeated)] == [True, *[False] * (repeated - 1)]
    assert asks_maintenance(path)
    assert [order_maintenance(path, on=False).changed for _ in range(repeated)] == [True, *[False] * (repeated - 1)]
    assert not asks_maintenance(path)
    assert path.read_bytes() == before


def test_a_person_s_own_order_is_theirs(path: Path) -> None:
    """What somebody else wrote is neither doubled nor taken back: the answer says in which line it is."""
    path.write_text("- look at the mail\n- MAINTENANCE_MODE until Monday\n")
    before = path.read_bytes()
    assert order_maintenance(path, on=True) == (False, 2)
    assert order_maintenance(path, on=False) == (False, 2)
    assert path.read_bytes() == before
    show(path, "Outlast: maintenance, MAINTENANCE_MODE in HEARTBEAT.md")
    path.write_text(path.read_text().replace("- MAINTENANCE_MODE until Monday\n", "") + "MAINTENANCE_MODE\n")
    lines = path.read_text().splitlines()
    assert order_maintenance(path, on=False) == (False, lines.index("MAINTENANCE_MODE") + 1)


def test_our_line_is_taken_back_wherever_an_editor_left_it(path: Path) -> None:
    """Moved, or with another line's end, it is still ours; one that somebody changed is theirs."""
    order_maintenance(path, on=True)
    own = path.read_text()
    path.write_bytes(f"- a\n{own.rstrip()}\r\n- b\n".encode())
    assert order_maintenance(path, on=False) == (True, 0)
    assert path.read_bytes() == b"- a\n- b\n"
    path.write_text(f"- {own}")
    assert order_maintenance(path, on=False) == (False, 1)


def test_a_dry_run_says_and_changes_nothing(path: Path) -> None:
    """Nor does it make the file."""
    assert order_maintenance(path, on=True, dry=True) == (True, 0)
    assert not path.exists()
    order_maintenance(path, on=True)
    before = path.stat().st_mtime_ns
    assert order_maintenance(path, on=False, dry=True) == (True, 0)
    assert path.stat().st_mtime_ns == before


def test_who_writes_at_the_same_time_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that an agent wrote between our reading and our replacing is there afterwards; one who never stops is an error."""
    real, news = durable.fsync_file, [b"- one\n", b"- one\n- two\n"]

    def late(fd: int) -> None:
        real(fd)
        if news:
            path.write_bytes(news.pop(0))

    monkeypatch.setattr(durable, "fsync_file", late)
    assert order_maintenance(path, on=True).changed
    assert path.read_text().splitlines()[1:] == ["- one", "- two"]
    order_maintenance(path, on=False)
    news.extend(f"- {number}\n".encode() for number in range(99))
    with pytest.raises(DurabilityError, match="rewrite it all the time"):
        order_maintenance(path, on=True)


def test_what_is_no_file_is_an_error_with_the_mend(path: Path) -> None:
    """A FIFO in its place holds nobody up."""
    os.mkfifo(path)
    with pytest.raises(BadInput, match=r"HEARTBEAT\.md: it cannot be read"):
        order_maintenance(path, on=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A node whose runtime does not run."""
    configured(tmp_path / "coz")
    monkeypatch.setenv("COLUMNS", "200")
    made = Home(tmp_path / "coz")
    for folder in (made.lock.parent, made.workspace):
        folder.mkdir(mode=0o700)
    return made


def say(home: Home, *words: str) -> Result:
    """Type ``outlast --home … words``."""
    return CliRunner().invoke(outlast, ["--home", str(home.root), *words], standalone_mode=False)


def test_with_the_runtime_dead_it_holds_from_the_next_start(home: Home) -> None:
    """The order is in the file, the answer says that nobody follows it yet, and what is to be done next."""
    home.heartbeat.write_text("- look at the mail\n")
    dry = say(home, "maintenance", "on", "--dry-run")
    assert "maintenance would be on; its runtime is not running" in dry.output and not asks_maintenance(home.heartbeat)
    done = say(home, "maintenance", "on")
    assert done.return_value == 0 and "coz: maintenance is on; its runtime is not running" in done.output
    assert "outlast maintenance off" in done.output.partition("what next:")[2]
    assert asks_maintenance(home.heartbeat)
    assert "nothing to do, maintenance is on already" in say(home, "maintenance", "on").output
    assert say(home, "maintenance", "off").return_value == 0
    assert home.heartbeat.read_text() == "- look at the mail\n"


def test_a_person_s_line_is_not_silently_left(home: Home) -> None:
    """Off that is not off is exit code 1, with the line and the mend."""
    home.heartbeat.write_text("MAINTENANCE_MODE\n")
    done = say(home, "maintenance", "off")
    assert done.return_value == 1
    assert "line 1 of HEARTBEAT.md asks for maintenance, and is not this command's" in done.output
    assert "take that line out of workspace/HEARTBEAT.md" in done.output


def test_another_word_is_refused(home: Home) -> None:
    """Neither on nor off is one clear error."""
    with pytest.raises(BadInput, match="'offf' is neither on nor off; did you mean off"):
        raise say(home, "maintenance", "offf").exception or AssertionError
