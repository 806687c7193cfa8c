"""``outlast audit``: the report on what was accepted of a sender, from a home without a runtime."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.audited import Scene

from outlast.cli.audit import moment
from outlast.cli.commands import outlast
from outlast.core.crdt import Entry
from outlast.core.keys import Key, KeyState
from outlast.core.markdown import quoted
from outlast.core.record import Step
from outlast.errors import BadInput, OutlastError
from outlast.store.keyring import new_key, write_ring
from outlast.store.shared import line

_NOW = time.time()
_HOUR = 3600.0


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """axiom's home, with nothing in it yet."""
    return Scene(tmp_path, _NOW)


def _audit(scene: Scene, *words: str) -> dict[str, Any]:
    done = CliRunner().invoke(
        outlast, ["--home", str(scene.home.root), "audit", *words, "--json"], standalone_mode=False
    )
    if done.exception:
        raise done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "text": Path(found["report"]).read_text()}


def _unit(number: int) -> str:
    return f"coz-d1zjz7qv{number:04}"


def _habits(scene: Scene, count: int = 40) -> None:
    """One task an hour, up to ten hours ago."""
    for number in range(count):
        scene.task(_unit(number), _NOW - (count - number + 10) * _HOUR, seq=number + 1)


def test_a_staged_leak_is_found(scene: Scene) -> None:
    """Two tasks from another address among many of before: both are named as unlike, with their address, what they caused and
    what is open; the others are not."""
    _habits(scene)
    for number in (100, 101):
        scene.task(_unit(number), _NOW - 60, "read ~/.ssh", remote="203.0.113.9", closed=number == 100, seq=number - 59)
    (scene.home.artifacts / _unit(100)).mkdir()
    found = _audit(scene, "coz", "--since", "2h")
    assert (found["messages"], found["unlike"], found["open"]) == (2, 2, [_unit(101)])
    top = found["text"].split("## In numbers")[0]
    assert top.count("address: never before from 203.0.113.9") == 2
    assert f"artifact `artifacts/{_unit(100)}/`" in top
    assert "INTENT `from coz: read ~/.ssh`" in top
    assert f"outlast show {_unit(101)}" in found["text"]
    assert _unit(20) not in found["text"]


def test_the_verdict_comes_first_in_three_lines(scene: Scene) -> None:
    """How many and from where, how many unlike, what is open: the first three lines after the title, and on the terminal."""
    _habits(scene)
    found = _audit(scene, "coz", "--since", "3d")
    lines = found["text"].splitlines()
    assert lines[0] == "# Audit of coz on axiom"
    assert lines[2].startswith("1. 40 messages of coz accepted on axiom")
    assert lines[3].startswith("2. None of them unlike coz")
    assert lines[4] == "3. Nothing that they began is open."
    assert lines[5] == ""
    assert found["said"][0] == lines[2].removeprefix("1. ")
    assert "compared with the rest" in lines[3]


def test_a_record_that_begins_within_the_window_is_said(scene: Scene) -> None:
    """Where the record is younger than the window the verdict says so, and from when on."""
    scene.task(_unit(1), _NOW - 60)
    scene.ledger._file.set_meta("record_begins", _NOW - 120)
    assert "Mind: the record begins at" in _audit(scene, "coz", "--since", "1d")["text"]
    assert "Mind" not in _audit(scene, "coz", "--since", "90s")["text"]


def test_the_window_begins_when_the_leaked_key_was_made(scene: Scene) -> None:
    """Without --since: since the oldest key was made that was never retired, revoked ones included; with --key since that one,
    and only what it signed."""
    made: dict[KeyState, float] = {"active": _NOW - _HOUR, "revoked": _NOW - 5 * _HOUR, "retired": _NOW - 20 * _HOUR}
    secrets = {state: new_key("hmac") for state in made}
    ids = {state: secret.id for state, secret in secrets.items()}
    ring = tuple(
        Key(ids[state], state, at, "", secrets[state] if state == "active" else None) for state, at in made.items()
    )
    for name in ("axiom", "coz"):
        write_ring(scene.home.keys / f"{name}.key", ring)
    for hours in range(1, 30):
        at = _NOW - hours * _HOUR - 60
        used = next((state for state, begun in made.items() if begun <= at), "retired")
        scene.task(_unit(hours), at, key=ids[used])
    assert _audit(scene, "coz")["messages"] == 4
    assert _audit(scene, "coz", "--key", ids["revoked"])["messages"] == 4
    assert _audit(scene, "coz", "--key", ids["retired"])["messages"] == 15
    assert _audit(scene, "coz", "--key", ids["active"])["messages"] == 0


_EVIL = "`` ` ![x](http://h/) <script> **\x1b[31m\u202e| \n# all is well\n- done ```"


def test_hostile_text_stays_text(scene: Scene) -> None:
    """Text of a task that is made of Markdown and terminal codes is one bounded line in a code span: no line, heading, link or
    control character of its own gets into the report."""
    scene.task(_unit(1), _NOW - 60, _EVIL + "A" * 5000, remote="<b>")
    text = _audit(scene, "coz", "--since", "1h")["text"]
    assert "\x1b" not in text and "\u202e" not in text
    (told,) = (told for told in text.splitlines() if "INTENT" in told)
    assert re.fullmatch(r"  - \S+ \S+ INTENT (`+) .* \1", told) and len(told) < 300
    assert "# all is well" not in text.splitlines()
    assert "- done" not in text.splitlines()
    assert r"from \<b\>," in text


def test_a_quoted_text_cannot_end_its_span() -> None:
    """Whatever runs of backticks a text has, the fences are longer than each; nothing is empty, all is one line."""
    for text in ("", "`", "``` a ```", "a\nb", "``", " x "):
        shown = quoted(text)
        fence = re.match("`+", shown)
        assert fence and shown.endswith(fence[0]) and "\n" not in shown
        assert fence[0] not in shown[len(fence[0]) : -len(fence[0])]


def test_shared_entries_and_questions_are_told(scene: Scene) -> None:
    """A message that brought shared entries says which of them are in force; one that asked what we know is called a question."""
    scene.home.shared.mkdir()
    (scene.home.shared / "coz.jsonl").write_bytes(line(Entry("coz", 7, "set", "door/code", "1234")))
    scene.accept("share_1", _NOW - 60, type="share", about="coz:5-7 witness:2-2")
    scene.accept("trace_1", _NOW - 50, type="trace", about=_unit(1))
    text = _audit(scene, "coz", "--since", "1h")["text"]
    assert "shared entries 5 to 7 in the name of coz, 1 of them in force: `set door/code`" in text
    assert "shared entries 2 to 2 in the name of witness, 0 of them in force" in text
    assert "a question" in text


def test_reports_are_never_written_over(scene: Scene) -> None:
    """Each audit is a new file, numbered, nobody else's to read, and nothing half-written is left."""
    scene.task(_unit(1), _NOW - 60)
    names = [Path(_audit(scene, "coz")["report"]) for _ in range(3)]
    day = time.strftime("%Y-%m-%d")
    assert [path.name for path in names] == [f"{day}-coz-{number}.md" for number in (1, 2, 3)]
    assert all(path.stat().st_mode & 0o037 == 0 for path in names)
    assert sorted(scene.home.audits.iterdir()) == names


def test_nothing_accepted_is_a_report_too(scene: Scene) -> None:
    """A peer that never sent anything has a report that says so."""
    found = _audit(scene, "witness")
    assert (found["messages"], found["unlike"], found["open"]) == (0, 0, [])
    assert "cannot be told" in found["text"]


@pytest.mark.parametrize(
    "words",
    [
        ("axiom",),
        ("nobody",),
        ("../coz",),
        ("coz", "--since", "yesterday"),
        ("coz", "--since", "1h", "--until", "2h"),
        ("coz", "--key", "xyz"),
        ("coz", "--since", "9999-12-31"),
        ("coz", "--since", "999999d"),
    ],
)
def test_what_makes_no_sense_is_one_line(scene: Scene, words: tuple[str, ...]) -> None:
    """An audit of this node, of nobody, of no moment or key: one error with field, wrong and mend, and no report."""
    with pytest.raises(OutlastError) as error:
        _audit(scene, *words)
    assert isinstance(error.value, BadInput) and "\n" not in str(error.value)
    assert not scene.home.audits.exists()


def test_a_moment_is_read_as_people_write_it() -> None:
    """So long ago, a date, a date with a time, with and without a zone."""
    assert moment("WHEN", "2h", 10_000.0) == moment("WHEN", "2h ago", 10_000.0) == 2800.0
    assert moment("WHEN", "2026-11-21T14:00:00Z", 0.0) == 1_795_269_600.0
    assert moment("WHEN", "2026-11-21", 0.0) == time.mktime((2026, 11, 21, 0, 0, 0, 0, 0, -1))


def test_a_journal_that_cannot_be_read_is_said(scene: Scene) -> None:
    """A day of the journal that is no file does not end the audit: it is named in the verdict."""
    scene.task(_unit(1), _NOW - 60)
    archive = scene.home.archive
    archive.mkdir()
    day = time.strftime("%Y-%m-%d", time.localtime(_NOW))
    (archive / f"{day}.axiom.1.md.gz").write_bytes(b"no archive")
    text = _audit(scene, "coz", "--since", "1h")["text"]
    assert f"{day}.axiom.1.md.gz of the journal could not be read" in text
    assert "CONFIRM `done: report.md`" in text


def test_messages_of_others_are_not_in_it(scene: Scene) -> None:
    """Only the agent's own messages count, and a note is told with what the journal has of it."""
    scene.task(_unit(1), _NOW - 60)
    scene.task("witness-d1zjz7qv0001", _NOW - 50, peer="witness")
    scene.accept("note_coz-d1zjz7qv0002", _NOW - 40, type="note", about=_unit(2))
    scene.journal(_unit(2), Step.NOTE, "from coz: the door is open", _NOW - 40)
    found = _audit(scene, "coz", "--since", "1h")
    assert found["messages"] == 2
    assert "witness" not in found["text"]
    assert "NOTE `from coz: the door is open`" in found["text"]
