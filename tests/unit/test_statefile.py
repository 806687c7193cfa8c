"""STATE.json and the memory around it: damage is noticed, and put right from the journal."""

from __future__ import annotations

import json
from hashlib import blake2s
from pathlib import Path

import pytest
from support.clock import FixedClock

from outlast.core.state import State, fold_all
from outlast.errors import BadInput, ConfigError, CorruptError, DurabilityError
from outlast.home import Home
from outlast.store import durable
from outlast.store.memory import Memory
from outlast.store.statefile import decode, encode, read_state, write_state


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
        (lambda text: text.replace('"version": 2', '"version": 99'), "version 99"),
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
        read_state(home.state_file, "coz")
    memory = Memory(home, "coz", FixedClock(2_000_000.0))
    assert memory.state.units == state.units
    assert memory.state.seq == state.seq
    assert said in memory.findings[0].found
    assert "rebuilt" in memory.findings[0].done
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


def test_a_file_of_the_first_version_is_read(tmp_path: Path) -> None:
    """A node that is upgraded goes on from the STATE.json that the release before left, and still minds its checksum."""
    home = Home(tmp_path)
    home.workspace.mkdir()
    content = {"node": "coz", "seq": 7, "units": {}, "recovered": [], "closed": {"task done": 3}, "emergency": ""}
    checksum = blake2s(json.dumps(content, separators=(",", ":")).encode(), digest_size=16).hexdigest()
    home.state_file.write_text(json.dumps({"version": 1, "checksum": checksum, "state": content}, indent=1))
    assert read_state(home.state_file, "coz") == State(node="coz", seq=7, closed={"task done": 3})
    with pytest.raises(ConfigError, match="this home is coz's, not axiom's"):
        Memory(home, "axiom", FixedClock(1_000_000.0))
    memory = Memory(home, "coz", FixedClock(1_000_000.0))
    memory.note("mode", "degraded: x")
    assert memory.state.seq == 8
    home.state_file.write_text(home.state_file.read_text().replace("7", "6"))
    with pytest.raises(CorruptError, match="checksum"):
        read_state(home.state_file, "coz")


def test_what_git_brings_of_the_sibling_is_kept_and_costs_nothing(tmp_path: Path) -> None:
    """The slot of a sibling that comes into STATE.json while the node runs stays there through our own writes; one that is
    damaged is left out, and neither is ever taken for ours."""
    home = Home(tmp_path)
    memory = Memory(home, "coz", FixedClock(1_000_000.0))
    memory.intent("coz-000000000001", "handoff", "axiom", "host report")
    memory.flush()
    sibling = State(node="axiom", seq=41, closed={"task done": 9})
    states = {**decode(home.state_file.read_bytes()), "axiom": sibling}
    home.state_file.write_bytes(encode(states))
    memory.update("coz-000000000001", "done", "report.md")
    assert decode(home.state_file.read_bytes()) == {"axiom": sibling, "coz": memory.state}
    home.state_file.write_bytes(encode(states).replace(b'"task done": 9', b'"task done": 8'))
    assert set(decode(home.state_file.read_bytes())) == {"coz"}
    with pytest.raises(CorruptError, match="checksum"):
        decode(home.state_file.read_bytes(), "axiom")
    memory.close()
    again = Memory(home, "coz", FixedClock(2_000_000.0))
    assert again.state.open("handoff") and not again.findings


def test_a_journal_that_lost_its_end_costs_no_knowledge_and_no_number(tmp_path: Path) -> None:
    """Records that STATE knows and the journal lost stay known, and their numbers are never given to others."""
    home = Home(tmp_path)
    state = fill(home)
    (day,) = home.memory.glob("*.md")
    lines = day.read_text().splitlines(keepends=True)
    day.write_text("".join(lines[:-1]))
    memory = Memory(home, "coz", FixedClock(2_000_000.0))
    assert memory.state == state
    memory.note("mode", "degraded: x")
    assert memory.state.seq == state.seq + 1
    assert f"[coz:{state.seq + 1} " in "".join(path.read_text() for path in home.memory.glob("*.md"))


def test_what_the_disk_did_not_take_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed write the memory says what the disk says: a record counts once it is known to be there, and is not
    missed where it was there after all; a failed UPDATE changes nothing."""
    home = Home(tmp_path)
    memory = Memory(home, "coz", FixedClock(1_000_000.0))
    memory.intent("coz-000000000001", "handoff", "axiom", "host report")
    before = memory.state

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "fsync_data", broken)
        patch.setattr(durable, "fsync_file", broken)
        with pytest.raises(DurabilityError):
            memory.intent("coz-000000000002", "handoff", "axiom", "another")
        assert memory.state == before
        with pytest.raises(DurabilityError):
            memory.update("coz-000000000001", "done", "")
        assert memory.state == before
    memory.note("mode", "degraded: x")
    read = fold_all(State(node="coz"), memory.journal.since(0))
    assert memory.state.seq == read.seq and memory.state.units == read.units


def test_a_step_that_ended_undone_may_be_begun_again(tmp_path: Path) -> None:
    """What was closed as failed, and not yet confirmed, is confirmed before the step is opened again: the journal alone
    tells the two apart. A step that is done stays done."""
    home = Home(tmp_path)
    memory = Memory(home, "coz", FixedClock(1_000_000.0))
    memory.intent("8", "step", "", "take notes", ("notes.md",))
    memory.update("8", "failed", "given up")
    memory.intent("8", "step", "", "take notes again", ("notes.md", "more.md"))
    assert memory.state.units["8"].status == "open"
    assert memory.state.units["8"].artifacts == ("notes.md", "more.md")
    memory.flush()
    assert fold_all(State(node="coz"), memory.journal.since(0)).units == memory.state.units
    memory.update("8", "done", "notes.md", artifact=True)
    memory.confirm("8", "done", "notes.md")
    memory.intent("8", "step", "", "take notes", ("notes.md",))
    assert memory.state.units["8"].status == "done"
    assert memory.state.artifacts.count == 1
    with pytest.raises(BadInput, match="too long together"):
        memory.intent("9", "step", "", "x", tuple(f"a-rather-long-name-{n}.md" for n in range(20)))


def test_a_folder_named_state_json_is_set_aside(tmp_path: Path) -> None:
    """Even a folder in STATE.json's place does not keep a node from starting."""
    home = Home(tmp_path)
    state = fill(home)
    home.state_file.unlink()
    home.state_file.mkdir()
    memory = Memory(home, "coz", FixedClock(2_000_000.0))
    assert memory.state.units == state.units
    assert "no regular file" in memory.findings[0].found


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
