"""What commands print for people, from what a node answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from outlast.cli import alert, run, spawn
from outlast.cli.frame import frame
from outlast.core.overview import overview
from outlast.errors import BadInput
from outlast.home import Home
from outlast.work.spawned import ended_last

NOW = 1_800_000_000.0


def test_top_says_of_what_it_is_that_is_open() -> None:
    """A service of somebody else's that is "closed" would be read as one that is not there."""
    status = {"node": "coz", "mode": "normal", "ready": True, "external": {"model": {"state": "closed", "note": ""}}}
    shown = frame({"coz": msgspec.to_builtins(overview(status))}, status, {}, [], NOW, None)
    assert any(line.split() == ["external", "model", "breaker", "closed"] for line in shown), shown


@pytest.mark.parametrize(("zone", "shown"), [("Europe/Berlin", "Europe/Berlin time"), ("", "CET time")])
def test_jobs_say_by_whose_clock_they_run(zone: str, shown: str) -> None:
    """Their own zone, or what the machine's is called."""
    job: dict[str, Any] = {
        "schedule": "30 3 * * *", "zone": zone, "clock": "CET", "last": None, "skips": {}, "why": "", "since": "",
        "here": True, "next": "2027-01-16T02:30:00.000Z", "failures": 0,
    }  # fmt: skip
    assert shown in "\n".join(run._lines({"nightly": job}, NOW))


def told(name: str, status: str, ended: str, **fields: Any) -> dict[str, Any]:
    """A ticket as it lies in var/ended."""
    about = {"id": name, "task": "sum up", "command": ["x"], "allow": [], "timeout_s": 1.0, "heartbeat_s": 1.0}
    return {**about, "expect": {}, "accepted": ended, "attempts": 1, "status": status, "ended": ended, **fields}


def test_those_that_ended_are_shown_with_how(tmp_path: Path) -> None:
    """The last few, the newest first, and all that are kept where that is asked for; what cannot be read is left out."""
    home = Home(tmp_path)
    for number in range(7):
        name = f"sub00000000000{number}"
        (home.ended / name).mkdir(parents=True)
        about = {"status": "failed", "attempts": 3, "detail": "exit 1: no luck"} if number == 6 else {"status": "done"}
        ticket = {**told(name, "", f"2027-01-15T07:0{number}:00.000Z"), **about}
        (home.ended / name / "ticket.json").write_text(json.dumps(ticket))
    (home.ended / "sub000000000009").mkdir()
    ended = ended_last(home)
    assert [one["id"][-1] for one in ended] == ["6", "5", "4", "3", "2", "1", "0"]
    found = {
        "off": {},
        "sandbox_trouble": "",
        "running": {},
        "queued": {},
        "day": {"done": 6, "failed": 1},
        "ended": ended,
    }
    shown = spawn._overview(found, every=False)
    assert "failed, 3 runs" in shown[2] and "no luck" in shown[2] and "done" in shown[3]
    assert "… and 2 before: outlast subagents --all" in shown
    assert sum("sub0000" in line for line in spawn._overview(found, every=True)) == 7


@pytest.mark.parametrize("content", [b"{", b'{"colour": 1}', b'{"type": "objekt"}'])
def test_a_schema_that_is_none_is_answered_with_the_mend(tmp_path: Path, content: bytes) -> None:
    """The field, what is wrong, and what may be written instead, on one line."""
    path = tmp_path / "schema.json"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"^--expect: .* is no schema .*; write a JSON Schema of type, enum, ") as caught:
        spawn._expected(f"out.json={path}")
    assert "\n" not in str(caught.value)


def test_an_alert_that_nobody_was_told_of_says_why() -> None:
    """Beside the alert, and once more only where none of them says it."""
    about = {
        "urgency": "soon",
        "text": "the disk is full",
        "since": "2027-01-15T07:00:00.000Z",
        "over": None,
        "known": False,
    }
    trouble = "no alert URL is given: set outlast_alert_urls"
    waiting = {"name": "disk", "told": None, "untold": trouble, **about}
    found: dict[str, Any] = {"node": "coz", "trouble": trouble, "urls": [], "alerts": [waiting]}
    shown = alert._lines(found, NOW)
    assert f"not told yet: {trouble}" in click.unstyle(shown[0]) and len(shown) == 2
    found["alerts"] = [{**waiting, "told": "2027-01-15T07:00:00.000Z", "untold": ""}]
    assert alert._lines(found, NOW)[-1] == f"nobody can be told: {trouble}"
