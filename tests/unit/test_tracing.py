"""``outlast trace``: what a node knows of an id, and what of that a peer is told."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import msgspec
import pytest
from support.audited import Scene

from outlast.clock import iso
from outlast.core.ids import new_unit
from outlast.core.record import Step
from outlast.work.tracing import for_peer, local

_NOW = time.time()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """axiom's home, with nothing in it yet."""
    return Scene(tmp_path, _NOW)


@pytest.fixture
def unit() -> str:
    """A unit that coz made a minute ago."""
    return new_unit("coz", _NOW - 60, 7)


def _event(scene: Scene, event: str, at: float, *, packed: bool = False, **fields: object) -> None:
    day = time.strftime("%Y-%m-%d", time.localtime(at))
    entry = {
        "at": iso(at),
        "node": "axiom",
        "event": event,
        "trace_id": "",
        "span_id": "",
        "correlation_id": "",
        **fields,
    }
    line = json.dumps(entry).encode() + b"\n"
    if packed:
        with gzip.open(scene.home.logs / f"{day}.jsonl.gz", "ab") as file:
            file.write(line)
    else:
        with open(scene.home.logs / f"{day}.jsonl", "ab") as plain:
            plain.write(line)


def _told(scene: Scene, name: str) -> list[str]:
    return [line.what for line in local(scene.home, "axiom", name, 200).lines]


def _shown(scene: Scene, peer: str, name: str) -> str:
    return "\n".join(line.what for line in for_peer(scene.home, "axiom", peer, name))


def _story(scene: Scene, unit: str, peer: str = "coz") -> None:
    scene.task(unit, _NOW - 58, peer=peer, trace_id="ab" * 16)
    _event(scene, "agent.started", _NOW - 57, correlation_id=unit, trace_id="ab" * 16, attempt=1)
    _event(scene, "task.closed", _NOW - 55, correlation_id=unit, verdict="done", detail="/home/me/secret")
    _event(scene, "message.delivered", _NOW - 54, id=f"result_{unit}", peer=peer, seq=1, status=202)


def test_any_name_of_it_leads_to_the_whole_story(scene: Scene, unit: str) -> None:
    """Unit, message, and trace id give the same story: ledger, journal and events, in the order of time."""
    _story(scene, unit)
    stories = [_told(scene, name) for name in (unit, f"task_{unit}", f"result_{unit}", "ab" * 16)]
    assert all(story == stories[0] for story in stories)
    kinds = (
        "journal: INTENT",
        "accepted task",
        "agent.started",
        "journal: CONFIRM",
        "task.closed",
        "message.delivered",
    )
    assert len(stories[0]) == len(kinds)
    assert all(sum(line.startswith(kind) for line in stories[0]) == 1 for kind in kinds)
    times = [line.at for line in local(scene.home, "axiom", unit, 200).lines]
    assert times == sorted(times)
    assert local(scene.home, "axiom", "ab" * 16, 200).unit == unit


def test_compressed_logs_and_old_ones_are_read(scene: Scene) -> None:
    """Events of weeks ago, compressed since, are part of the story; a log that is damaged or no file ends nothing."""
    old = new_unit("coz", _NOW - 20 * 86_400, 1)
    _event(scene, "task.accepted", _NOW - 20 * 86_400, packed=True, correlation_id=old)
    (scene.home.logs / "2026-01-01.jsonl.gz").write_bytes(b"\x1f\x8b\x08 damaged")
    (scene.home.logs / "2099-01-01.jsonl").mkdir()
    assert _told(scene, old) == ["task.accepted"]


def test_a_name_that_lies_about_its_time_is_found(scene: Scene) -> None:
    """A unit whose name says that it was made in the far future, by a wrong clock, is found all the same."""
    late = "coz-zzzzzzzzzzzz"
    _event(scene, "agent.started", _NOW - 5, correlation_id=late)
    assert _told(scene, late) == ["agent.started"]


def test_what_nobody_knows_gives_nothing(scene: Scene, unit: str) -> None:
    """An id that was never seen, also where another's text contains it, gives no lines."""
    _event(scene, "agent.ended", _NOW - 5, correlation_id="coz-d1zjz7qv0001", reason=f"about {unit}")
    assert _told(scene, unit) == []
    assert for_peer(scene.home, "axiom", "coz", unit) == ()


def test_many_lines_are_bounded_and_counted(scene: Scene, unit: str) -> None:
    """Of thousands of lines the first and the last are told, and how many are between."""
    for number in range(1000):
        _event(scene, "agent.started", _NOW - 50 + number / 100, correlation_id=unit, attempt=number)
    found = local(scene.home, "axiom", unit, 200)
    assert (len(found.lines), found.more) == (200, 800)
    assert found.lines[0].what.endswith("attempt=0") and found.lines[-1].what.endswith("attempt=999")


def test_text_of_others_is_one_bounded_line(scene: Scene, unit: str) -> None:
    """What agents wrote into the logs drives no terminal and is cut."""
    _event(scene, "evil\n\x1b[2J", _NOW - 5, correlation_id=unit, detail="x" * 10_000)
    (line,) = _told(scene, unit)
    assert line.isprintable() and len(line) <= 240


def test_what_waits_is_told(scene: Scene, unit: str) -> None:
    """A message in the outbox is told with its peer and since when; one that was given up is told so."""
    scene.ledger.enqueue("coz", f"result_{unit}", lambda seq: b"", _NOW - 30)
    assert f"result_{unit} waits for coz since then, number 1" in _told(scene, unit)
    out = scene.ledger.next_outgoing("coz")
    assert out is not None
    scene.ledger.settle("coz", out, 0, _NOW)
    assert f"result_{unit} was given up" in _told(scene, unit)


# What a peer is told.


def test_a_peer_is_told_of_what_is_between_us(scene: Scene, unit: str) -> None:
    """The sender of a task learns of its own unit: when it was taken, begun and closed, and no detail that its result has not."""
    _story(scene, unit)
    shown = _shown(scene, "coz", unit)
    for part in ("accepted task", "journal: INTENT", "agent.started attempt=1", "task.closed verdict=done"):
        assert part in shown
    assert "secret" not in shown and "10.0.0.7" not in shown


def test_a_peer_is_not_told_of_others(scene: Scene, unit: str) -> None:
    """Another peer learns nothing of that unit by any of its names, though it knows them all."""
    _story(scene, unit)
    scene.ledger.enqueue("coz", f"result_{unit}", lambda seq: b"", _NOW)
    for name in (unit, f"task_{unit}", f"result_{unit}", "ab" * 16):
        assert _shown(scene, "witness", name) == ""


def test_what_a_peer_claims_opens_nothing(scene: Scene, unit: str) -> None:
    """A message whose trace, correlation and subject name another's unit shows its sender that message and nothing else."""
    _story(scene, unit)
    scene.accept("result_1", _NOW - 9, peer="witness", about=unit, correlation_id=unit, trace_id="ab" * 16)
    for name in (unit, "ab" * 16, "result_1"):
        assert _shown(scene, "witness", name) == "accepted task result_1, 300 bytes"


def test_a_handoff_of_ours_is_told_to_its_peer_alone(scene: Scene) -> None:
    """A unit that we handed to coz is told to coz, and to no other peer: our journal says to whom it went."""
    ours = new_unit("axiom", _NOW - 60, 3)
    scene.journal(ours, Step.INTENT, "to coz: build", _NOW - 60)
    scene.ledger.enqueue("coz", f"task_{ours}", lambda seq: b"", _NOW - 59)
    _event(scene, "handoff.made", _NOW - 59, correlation_id=ours, peer="coz")
    assert "handoff.made" in _shown(scene, "coz", ours) and "waits for coz" in _shown(scene, "coz", ours)
    assert _shown(scene, "witness", ours) == _shown(scene, "witness", f"task_{ours}") == ""


def test_an_answer_to_a_peer_fits_its_frame(scene: Scene, unit: str) -> None:
    """However much there is to tell, an answer stays below what a sender of ours reads of one."""
    _story(scene, unit)
    for number in range(2000):
        scene.journal(unit, Step.NOTE, "é" * 150, _NOW - 50 + number / 1000)
    lines = for_peer(scene.home, "axiom", "coz", unit)
    assert 0 < len(lines) <= 200 and len(msgspec.json.encode(lines)) < 12_000
