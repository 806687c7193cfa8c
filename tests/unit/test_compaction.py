"""Compaction of daily files: what agents go on reading, what is archived, and what a crash may cost, which is nothing."""

from __future__ import annotations

import gzip
import os
from hashlib import sha256
from pathlib import Path

import pytest
from support.longday import LIMIT, NOON, OWN, Place

from outlast.core.days import Look
from outlast.core.record import Step
from outlast.store import durable


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Such a workspace."""
    place = Place(tmp_path / "workspace")
    place.fill()
    return place


def test_what_agents_read_becomes_short_and_nothing_is_lost(place: Place) -> None:
    """The daily file keeps other people's text and says where its records are; MEMORY.md sums up what went well and tells the
    rest one by one; the archive has the day as it was."""
    before, original = place.records(), place.daily.read_bytes()
    findings = place.journal().compact(LIMIT, place.memory_file)
    archive = place.memory / "archive" / "2026-11-21.coz.1.md.gz"
    assert gzip.decompress(archive.read_bytes()) == original
    digest = sha256(archive.read_bytes()).hexdigest()
    marker = f"- outlast: records coz:1 to 84 are in archive/2026-11-21.coz.1.md.gz, sha256 {digest}\n"
    assert place.daily.read_text() == "# 2026-11-21\n\n" + marker + "".join(OWN)
    assert place.memory_file.read_text() == (
        "# What I know\n\nThe cat is called Tom.\n\n"
        "## 2026-11-21, coz, part 1: 1 to 84 summed up by outlast, whole in memory/archive/2026-11-21.coz.1.md.gz\n\n"
        "- host report from axiom: 36 done 12:00-12:38: report.md (healthy) (36)\n"
        "- study of owls: 1 done 12:39\n"
        "- begun before: 1 done 12:39: late.md\n"
        "- host report from axiom: 2 failed: exit 1: disk full (12:07-12:27): axiom-0007, axiom-0027\n"
        "- host report from axiom: in doubt: it was cut off (12:17): axiom-0017\n"
        "- host report from axiom: still open (12:39): axiom-0039\n"
        "- 12:39 NOTE mode degraded: disk 91 % full\n"
        "- 12:39 RECOVER axiom-0017 its agent was cut off\n"
    )
    assert place.records() == before
    assert [finding.ok for finding in findings] == [True]
    assert "records 1 to 84 are in memory/archive/2026-11-21.coz.1.md.gz" in findings[0].line()


def test_the_open_day_goes_on(place: Place) -> None:
    """Today's file is compacted while the journal has it open: records go on in the new one, what was archived is not put back,
    and the next part has a number of its own."""
    journal = place.journal()
    place.clock.now = NOON + 7200
    records = place.records()
    records.append(journal.append(Step.NOTE, "unit", "opens the file"))
    journal.compact(LIMIT, place.memory_file)
    assert journal.mend() == 0
    for number in range(60):
        records.append(journal.append(Step.NOTE, "unit", f"later {number}"))
    assert list(journal.since(0)) == records
    journal.compact(LIMIT, place.memory_file)
    assert journal.compact(LIMIT, place.memory_file) == []
    assert list(journal.since(0)) == records
    assert list(place.journal().since(80)) == records[80:]
    assert sorted(os.listdir(place.memory / "archive")) == ["2026-11-21.coz.1.md.gz", "2026-11-21.coz.2.md.gz"]
    lines = place.daily.read_text().splitlines()
    assert [line[:38] for line in lines[2:4]] == [
        "- outlast: records coz:1 to 85 are in ",
        "- outlast: records coz:86 to 145 are i",
    ]
    assert place.memory_file.read_text().count("summed up by outlast") == 2
    assert journal.append(Step.NOTE, "unit", "next").seq == 146
    assert journal.look(place.root / "days.json", full=True).gaps == ()


def test_a_compaction_is_no_edit_and_its_archive_is_checked(place: Place) -> None:
    """A look does not take our own compaction for somebody's edit; a full one compares archives with what was said of them."""
    cache = place.root / "days.json"
    journal = place.journal()
    journal.known(84)
    journal.look(cache)
    journal.compact(LIMIT, place.memory_file)
    assert journal.look(cache) == Look()
    archive = place.memory / "archive" / "2026-11-21.coz.1.md.gz"
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()), 1))
    assert "2026-11-21.coz.1.md.gz is not what was archived" in journal.look(cache, full=True).damaged[0].line
    archive.unlink()
    gone = journal.look(cache, full=True)
    assert [(gap.first, gap.last) for gap in gone.gaps] == [(1, 84)]
    assert "2026-11-21.coz.1.md.gz cannot be read" in gone.damaged[0].line


def test_a_long_day_of_other_peoples_text_is_left_alone(place: Place) -> None:
    """Where records are not what makes a file long, nothing is touched, and a person is told."""
    place.write("An agent thinks aloud.\n" * 1000)
    before = place.files()
    findings = place.journal().compact(28_000, place.memory_file)
    assert place.files() == before
    assert [finding.ok for finding in findings] == [False]
    assert "text of people and agents" in findings[0].line()


def test_an_archive_that_does_not_hold_what_was_written_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that returns something else than it was given leaves the daily file and MEMORY.md as they were."""
    before = place.files()
    real = gzip.compress
    monkeypatch.setattr(gzip, "compress", lambda data, **more: real(data[:-1], **more))
    with pytest.raises(durable.DurabilityError, match="did not hold what was written"):
        place.journal().compact(LIMIT, place.memory_file)
    assert place.files() == before
