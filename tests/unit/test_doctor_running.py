"""`outlast doctor` about a home that somebody changes while its node runs, and what it takes back."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest
from support.artifacts import leave, make_home
from support.doctored import doctor, numbered, said, started

from outlast.core.state import State
from outlast.errors import UnreadableError
from outlast.home import Home
from outlast.store.statefile import read_state, read_states, write_state


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path, "axiom")


@pytest.mark.parametrize("content", [b'{"broken', b"", None])
def test_a_state_that_somebody_broke_while_the_node_runs_is_written_anew(home: Home, content: bytes | None) -> None:
    """What is in memory is no excuse: the file itself is read, the broken one is kept in the trash, and it is said, once."""
    local = started(home)
    local.memory.flush()
    if content is None:
        home.state_file.unlink()
    else:
        home.state_file.write_bytes(content)
    (finding,) = asyncio.run(local.doctor.examine()).findings
    assert finding.about == "STATE.json" and "written anew" in finding.done
    assert read_state(home.state_file, "axiom") == local.memory.state
    kept = list(home.trash.glob("*STATE.json"))
    assert [one.read_bytes() for one in kept] == ([] if content is None else [content])
    assert all(one.name in finding.done for one in kept)
    assert not asyncio.run(local.doctor.examine()).findings
    local.close()


def test_the_broken_state_of_one_node_costs_a_sibling_nothing(home: Home) -> None:
    """Our slot with a wrong checksum is kept and replaced; the sibling's, which is right, stays in the file."""
    write_state(home.state_file, State("axiom"), {"coz": State("coz", seq=7)})
    local = started(home)
    text = home.state_file.read_text()
    home.state_file.write_text(text.replace('"checksum": "', '"checksum": "0', 1))
    (finding,) = (one for one in asyncio.run(local.doctor.examine()).findings if one.about == "STATE.json")
    assert "checksum" in finding.found and len(list(home.trash.glob("*STATE.json"))) == 1
    assert read_states(home.state_file, "axiom")["coz"].seq == 7
    local.close()


def test_what_a_running_node_can_put_back_is_not_called_lost(home: Home) -> None:
    """Records of today's file that were taken away or edited are put back first; a gap is only what is still missing then."""
    local, day = numbered(home)
    day.write_text(day.read_text().replace("degraded: 2", "degraded: x"))
    findings = asyncio.run(local.doctor.examine()).findings
    assert any(one.about == "memory/" and one.done == "put back" for one in findings), findings
    assert not any("lost" in one.line() for one in findings), findings
    day.unlink()
    assert not any("lost" in one.line() for one in asyncio.run(local.doctor.examine()).findings)
    assert not local.memory.state.gaps
    local.close()


def test_a_gap_that_somebody_closed_is_dropped(home: Home) -> None:
    """Lines that were put back into the daily file end the gap that was noted, in the journal and in STATE."""
    local, day = numbered(home)
    local.close()
    lines = day.read_text().splitlines(keepends=True)
    gone = [line for line in lines if "[axiom:3 " in line]
    day.write_text("".join(line for line in lines if line not in gone))
    assert "it is lost" in said(doctor(home), "record 3")[0]
    day.write_text(day.read_text() + "".join(gone))
    assert "noted as back" in said(doctor(home), "record 3")[0]
    assert not said(doctor(home), "record 3")
    local = started(home)
    assert not local.memory.state.gaps
    local.close()


def test_an_artifact_that_was_deleted_is_missed_once(home: Home) -> None:
    """A unit's artifact that is gone is named, with the ways to have it again, once; what cleaning took is not, nor people's
    own files."""
    names = [f"coz-d1zkffdmvrm{letter}" for letter in "wxyz"]
    for name in names:
        leave(home, {"a.md": b"a"}, unit=name)
    (home.artifacts / "notes of Ann.txt").write_text("hello")
    local = started(home)
    shutil.rmtree(home.artifacts / names[0])
    local.memory.artifacts_changed(removed=[names[0]])
    for name in names[1:3]:
        shutil.rmtree(home.artifacts / name)
    report = asyncio.run(local.doctor.examine())
    about = [one.about for one in report.findings if "gone" in one.found]
    assert sorted(about) == names[1:3] and not report.ok, report
    assert asyncio.run(local.doctor.examine()).ok
    (home.artifacts / "notes of Ann.txt").unlink()
    assert asyncio.run(local.doctor.examine()).ok
    local.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that nobody can read, not even root")
def test_a_memory_that_cannot_be_read_names_the_file(home: Home) -> None:
    """Whoever is told of it learns which file it is, also where the disk fails in the middle of it."""
    started(home).close()
    home.state_file.unlink(missing_ok=True)
    (home.memory / "2026-01-02.md").symlink_to("/proc/self/mem")
    with pytest.raises(UnreadableError, match=r"workspace/memory/2026-01-02\.md: Input/output error"):
        started(home)
