"""STATE.json and the memory around it: damage is noticed, and put right from the journal."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.clock import FixedClock

from outlast.core.state import State
from outlast.errors import ConfigError, CorruptError
from outlast.home import Home
from outlast.store.memory import Memory
from outlast.store.statefile import read_state, write_state


def fill(home: Home) -> State:
    memory = Memory(home, "coz", FixedClock(1_000_000.0))
    memory.intent("coz-000000000001", "handoff", "axiom", "host report")
    memory.update("coz-000000000001", "done", "report.md")
    memory.confirm("coz-000000000001", "done", "report.md")
    memory.intent("coz-000000000002", "handoff", "axiom", "another")
    memory.flush()
    memory.close()
    return memory.state


def test_state_survives_a_restart(tmp_path: Path) -> None:
    """What one run remembered, the next one knows."""
    state = fill(Home(tmp_path))
    assert Memory(Home(tmp_path), "coz", FixedClock(2_000_000.0)).state == state


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:-20], "parse"),
        (lambda text: text.replace("report.md", "report.mb"), "checksum"),
        (lambda text: text.replace('"version": 1', '"version": 99'), "version 99"),
        (lambda text: text.replace('"node": "coz"', '"node": "coz", "x": 1'), "parse"),
        (lambda text: "", "parse"),
        (lambda text: "\x00" * len(text), "parse"),
    ],
)
def test_damage_is_noticed_and_the_state_rebuilt(tmp_path: Path, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    """A STATE.json that is cut, changed or from the future is set aside, told, and rebuilt to the same content."""
    home = Home(tmp_path)
    state = fill(home)
    home.state_file.write_text(damage(home.state_file.read_text()))
    with pytest.raises(CorruptError, match=said):
        read_state(home.state_file)
    memory = Memory(home, "coz", FixedClock(2_000_000.0))
    assert memory.state.units == state.units
    assert memory.state.seq == state.seq
    assert said in memory.findings[0]
    assert len(list(home.trash.iterdir())) == 1


def test_a_missing_state_is_rebuilt(tmp_path: Path) -> None:
    """Without STATE.json the journal alone gives the same units."""
    home = Home(tmp_path)
    state = fill(home)
    home.state_file.unlink()
    assert Memory(home, "coz", FixedClock(2_000_000.0)).state.units == state.units


def test_a_crash_between_update_and_confirm_is_seen(tmp_path: Path) -> None:
    """A unit that STATE.json says is closed, and the journal does not, is known as unconfirmed."""
    home = Home(tmp_path)
    memory = Memory(home, "coz", FixedClock(1_000_000.0))
    memory.intent("coz-000000000001", "handoff", "axiom", "host report")
    memory.update("coz-000000000001", "done", "report.md")
    memory.close()
    again = Memory(home, "coz", FixedClock(2_000_000.0))
    assert list(again.state.unconfirmed("handoff")) == ["coz-000000000001"]
    again.confirm("coz-000000000001", "done", "report.md")
    assert not again.state.unconfirmed("handoff")


def test_writing_leaves_no_temporary_file(tmp_path: Path) -> None:
    """After a write there is STATE.json and nothing beside it."""
    write_state(tmp_path / "STATE.json", State(node="coz"))
    assert [path.name for path in tmp_path.iterdir()] == ["STATE.json"]


def test_a_folder_named_state_json_is_set_aside(tmp_path: Path) -> None:
    """Even a folder in STATE.json's place does not keep a node from starting."""
    home = Home(tmp_path)
    state = fill(home)
    home.state_file.unlink()
    home.state_file.mkdir()
    memory = Memory(home, "coz", FixedClock(2_000_000.0))
    assert memory.state.units == state.units
    assert "folder" in memory.findings[0]


def test_a_home_belongs_to_one_node(tmp_path: Path) -> None:
    """A node that is given another's home is refused with the mend, and nothing there is touched."""
    home = Home(tmp_path)
    fill(home)
    before = home.state_file.read_bytes()
    with pytest.raises(ConfigError, match="this home is coz's, not axiom's"):
        Memory(home, "axiom", FixedClock(2_000_000.0))
    assert home.state_file.read_bytes() == before


def test_an_emergency_outlasts_a_restart(tmp_path: Path) -> None:
    """An emergency is remembered until a person is said to have ended it."""
    home = Home(tmp_path)
    memory = Memory(home, "coz", FixedClock(1_000_000.0))
    memory.note("mode", "emergency: disk 96 % full")
    memory.close()
    again = Memory(home, "coz", FixedClock(1_000_001.0))
    assert again.state.emergency == "disk 96 % full"
    again.note("mode", "a person ends the emergency: made room")
    again.close()
    assert Memory(home, "coz", FixedClock(1_000_002.0)).state.emergency == ""
