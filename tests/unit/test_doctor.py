"""`outlast doctor`: what a start and a person's question put right, and what they say of it, with the runtime dead."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.artifacts import UNIT, leave, make_home
from support.doctored import NOON, doctor, numbered, outlast, said, started

from outlast.home import Home
from outlast.store.journal import Journal


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path, "axiom")


def test_a_healthy_node_is_told_so_in_one_line(home: Home) -> None:
    """Where nothing is wrong the answer is one line and 0, on the first run and on the next."""
    for _ in range(2):
        done = outlast(home, "doctor")
        assert (done.returncode, done.stderr) == (0, ""), done
        assert done.stdout.count("\n") == 1 and "axiom: all well" in done.stdout


def test_an_artifact_without_state_corrects_it_once(home: Home) -> None:
    """An artifact that neither STATE nor the journal knows is a unit from then on, done as its manifest says; it is told
    once, and its result is owed to whoever asked."""
    started(home).close()
    leave(home, {"report.md": b"done"})
    first = doctor(home)
    assert "STATE.json was corrected: done" in said(first, UNIT)[0]
    assert not doctor(home)["findings"]
    local = started(home)
    assert local.memory.state.units[UNIT].status == "done"
    assert list(local.memory.state.unconfirmed("task")) == [UNIT]
    assert local.memory.state.artifacts.count == 1
    local.close()


def test_people_may_keep_what_they_like_among_the_artifacts(home: Home) -> None:
    """Loose files, folders without a manifest, broken manifests and pipes in their place are counted, and no finding."""
    started(home).close()
    (home.artifacts / "notes from Ann.txt").write_text("hello")
    (home.artifacts / "drafts").mkdir()
    (home.artifacts / "odd").mkdir()
    (home.artifacts / "odd" / ".outlast.json").write_text("{")
    (home.artifacts / "pipe").mkdir()
    os.mkfifo(home.artifacts / "pipe" / ".outlast.json")
    leave(home, {"a": b"a"}).rename(home.artifacts / "copy of it")
    assert not doctor(home)["findings"]
    local = started(home)
    assert local.memory.state.artifacts.count == 5 and not local.memory.state.units
    local.close()


def test_an_artifact_that_was_changed_is_found_by_a_deep_look(home: Home) -> None:
    """Every file is read back with --deep: other content, a missing file and a broken manifest need a person, with the way
    out; nothing is removed."""
    (leave(home, {"a.md": b"as made", "b.md": b"b"}) / "a.md").write_bytes(b"changed")
    (leave(home, {"c.md": b"c"}, unit="coz-d1zkffdmvrmy") / "c.md").unlink()
    (home.artifacts / "broken").mkdir()
    (home.artifacts / "broken" / ".outlast.json").write_text("{")
    assert doctor(home)["ok"]
    report = doctor(home, deep=True)
    assert not report["ok"]
    assert "a.md has other content" in said(report, UNIT)[0]
    assert "No such file" in said(report, "coz-d1zkffdmvrmy")[0]
    assert "manifest cannot be read" in said(report, "broken")[0]
    assert (home.artifacts / UNIT / "a.md").read_bytes() == b"changed"
    done = outlast(home, "doctor", "--deep", "--json")
    assert done.returncode == 1 and not json.loads(done.stdout)["ok"]
    done = outlast(home, "doctor", "--deep")
    assert done.returncode == 1 and "3 need you" in done.stdout


def test_a_gap_is_noted_once_with_the_commit_that_has_it(home: Home) -> None:
    """Records that are gone from the journal (spec.md, F7) are noted in it, with the commit of the workspace's repository that
    still has them; the next run does not find them again."""
    local = started(home)
    for number in range(6):
        local.memory.note("mode", f"degraded: {number}")
    local.memory.flush()
    local.close()
    git = ["git", "-C", str(home.workspace), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "memory"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    (day,) = home.memory.glob("*.md")
    lines = day.read_text().splitlines(keepends=True)
    day.write_text("".join(line for line in lines if "[axiom:3 " not in line and "[axiom:4 " not in line))
    report = doctor(home)
    assert f"git -C {home.memory} show {commit[:12]}" in said(report, "records 3 to 4")[0]
    assert f" NOTE gap 3 to 4 lost from {day.stem}; git has it in {commit[:12]} [axiom:7 " in "".join(
        path.read_text() for path in home.memory.glob("*.md")
    )
    assert not said(doctor(home), "records")
    local = started(home)
    assert [(gap.first, gap.last, gap.git) for gap in local.memory.state.gaps] == [(3, 4, commit[:12])]
    local.close()


def test_the_end_of_the_journal_that_is_lost_is_a_gap(home: Home) -> None:
    """Records that only STATE remembers are a gap like any other, and their numbers are not used again."""
    local, day = numbered(home)
    local.close()
    day.write_text("".join(day.read_text().splitlines(keepends=True)[:-2]))
    report = doctor(home)
    assert "git does not have it" in said(report, "records 3 to 4")[0]
    assert not doctor(home)["findings"]
    assert "[axiom:5 " in "".join(path.read_text() for path in home.memory.glob("*.md"))


def test_what_people_do_to_a_day_is_kept_and_said_once(home: Home) -> None:
    """A daily file that was edited between the records, a line that was cut and a record that was changed are each told
    once, and nothing of them is removed."""
    local, day = numbered(home)
    local.close()
    started(home).close()
    lines = day.read_text().splitlines(keepends=True)
    text = "".join(
        [
            lines[0],
            "Ann was here\n",
            *lines[1:3],
            lines[3].replace("degraded: 1", "degraded: x"),
            *lines[4:],
            lines[-1][:30],
        ]
    )
    day.write_text(text)
    os.utime(day, (NOON - 3600, NOON - 3600))
    report = doctor(home)
    about = said(report, f"memory/{day.name}")
    assert any("edited by hand" in one and "kept" in one for one in about), report
    assert any("does not match its checksum" in one for one in about), report
    assert any("no whole record" in one for one in about), report
    assert report["ok"]
    again = doctor(home)
    assert not said(again, f"memory/{day.name}"), again
    assert day.read_text().startswith(text)


def test_a_start_sweeps_what_was_left_half_written(home: Home) -> None:
    """Temporary files of a process that was killed are removed, wherever the node writes, and told; others are left."""
    halves = [
        folder / ".x.json.0123abcd.tmp"
        for folder in (home.workspace, home.memory, home.root / "var", home.tasks / UNIT, home.keys)
    ]
    others = [home.workspace / ".mine.tmp", home.workspace / "STATE.json.tmp"]
    for path in (*halves, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    report = doctor(home)
    assert not any(path.exists() for path in halves) and all(path.exists() for path in others)
    assert sum("half-written" in one["found"] for one in report["findings"]) == len(halves)
    assert not doctor(home)["findings"]


def test_a_half_written_name_may_be_anything(home: Home) -> None:
    """A name that is not UTF-8 is told, and keeps no node from starting; a folder of such a name is somebody's, and stays."""
    started(home).close()
    (home.memory / os.fsdecode(b".\xff.0123abcd.tmp")).touch()
    (home.memory / ".mine.0123abcd.tmp").mkdir()
    [told] = said(doctor(home), "memory")
    assert "(.\\xff.0123abcd.tmp); removed" in told
    assert (home.memory / ".mine.0123abcd.tmp").is_dir() and not doctor(home)["findings"]


def test_lines_that_end_as_elsewhere_are_records(home: Home) -> None:
    """An editor that ends all lines with CR LF costs no record, and no number is given out twice."""
    local = started(home)
    for number in range(3):
        local.memory.note("mode", f"note {number}")
        local.memory.flush()
    local.memory.note("mode", "the last one, of which STATE.json does not know")
    local.close()
    [day] = home.memory.glob("*.md")
    day.write_bytes(day.read_bytes().replace(b"\n", b"\r\n"))
    after = started(home)
    assert after.memory.state.seq == local.memory.state.seq and not after.memory.state.gaps
    after.close()


def test_a_corrupt_state_and_ledger_are_told_and_remembered(home: Home) -> None:
    """STATE.json and the ledger that are garbage are set aside and made anew; the journal remembers both."""
    local = started(home)
    local.memory.intent(UNIT, "task", "coz", "host report")
    local.memory.flush()
    local.close()
    home.state_file.write_text("{")
    for path in home.root.glob("var/outlast.db*"):
        path.write_bytes(b"no database" * 500)
    report = doctor(home)
    assert "does not parse" in said(report, "STATE.json")[0] and "rebuilt" in said(report, "STATE.json")[0]
    assert "damaged" in said(report, "outlast.db")[0]
    assert not doctor(home)["findings"]
    local = started(home)
    told = [one.what for one in local.memory.state.recovered]
    assert any("STATE.json" in what for what in told) and any("ledger" in what for what in told)
    assert list(local.memory.state.open("task")) == [UNIT]
    local.close()


def test_an_open_step_and_an_emergency_are_listed_each_time(home: Home) -> None:
    """What is still so is said again: a step that waits for whoever began it, with what to type, and an emergency, which
    needs a person."""
    local = started(home)
    local.memory.intent("8", "step", "", "take notes", ("notes.md",))
    local.close()
    for _ in range(2):
        report = doctor(home)
        assert any("outlast step" in one for one in said(report, "8")), report
        assert report["ok"]
    home.emergency.write_text("STATE.json could not be rebuilt: disk\n")
    report = doctor(home)
    assert not report["ok"] and "outlast resume" in said(report, "mode")[0]


def test_a_clock_that_was_ahead_is_noticed(home: Home) -> None:
    """Records from a time that has not come yet are told; their order is that of their numbers."""
    local = started(home, time.time() + 86_400)
    local.memory.note("mode", "degraded: x")
    local.memory.flush()
    local.close()
    for _ in range(2):
        assert "ahead" in said(doctor(home), "clock")[0]


def test_the_end_of_summer_is_no_clock_that_was_ahead(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hour that the clock shows twice: a record of 02:50 is not ahead of the 02:10 that follows it."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        summer = datetime(2026, 10, 25, 0, 50, tzinfo=UTC).timestamp()
        local = started(home, summer)
        local.memory.note("mode", "degraded: x")
        local.memory.flush()
        local.close()
        for later, told in ((20 * 60, 0), (-20 * 60, 1)):
            local = started(home, summer + later)
            found = asyncio.run(local.doctor.examine()).findings
            local.close()
            assert sum("ahead" in one.found for one in found) == told
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_cannot_be_read_is_no_reason_to_guess(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daily file that cannot be read is a finding for a person, and nothing is noted on that ground."""
    local = started(home)
    local.memory.note("mode", "degraded: x")
    local.memory.flush()
    local.close()

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error", str(home.memory / "2026-11-21.md"))

    before = {path: path.read_bytes() for path in home.memory.glob("*.md")}
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "look", broken)
        report = doctor(home)
    assert not report["ok"] and "Input/output error" in said(report, "2026-11-21.md")[0]
    assert {path: path.read_bytes() for path in home.memory.glob("*.md")} == before
