"""Sub-agents on a disk that fails, and in a runtime with a defect: nothing runs again for that, and one ticket ends alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from support.clock import FixedClock

from outlast.alerts import Alerts
from outlast.config import load_config
from outlast.core.modes import Standing
from outlast.errors import AgentError, DurabilityError
from outlast.home import Home
from outlast.store.events import EventLog
from outlast.upkeep import Around
from outlast.work import spawned, subagents
from outlast.work.spawned import Ticket, read_ticket, write_ticket
from outlast.work.subagents import SubAgents

NAME, OTHER = "sub000000000001", "sub000000000002"


class Shop:
    """A workshop in which running is counted, and ends as it is told."""

    def __init__(self, ending: Callable[[Ticket], None]) -> None:
        self.runs: list[str] = []
        self.sandbox = None
        self.gate = SimpleNamespace(forget=lambda _: None, close=self._closed)
        self._ending = ending

    async def run(self, ticket: Ticket, _: object) -> tuple[()]:
        """As Workshop.run."""
        self.runs.append(ticket.id)
        ticket.attempts += 1
        self._ending(ticket)
        return ()

    def output(self, _: str) -> object:
        """As Workshop.output."""
        return SimpleNamespace(to_end="")

    async def _closed(self) -> None:
        return None


class Scene:
    """coz with tickets that a stop left."""

    def __init__(self, root: Path, ending: Callable[[Ticket], None] = lambda _: None) -> None:
        self.home, self.notes, self.shop = Home(root), list[str](), Shop(ending)
        for folder in (self.home.config.parent, self.home.logs, self.home.subagents, self.home.features.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = {
            "node": "coz",
            "listen": {"host": "127.0.0.1", "port": 1},
            "agent": {"command": ["/bin/true"]},
            "retry": {"base": "1ms", "max": "1ms"},
        }
        self.home.config.write_text(yaml.safe_dump(content))
        clock = FixedClock(1_795_000_000.0)
        self.events = EventLog(self.home.logs, "coz", clock)
        memory = SimpleNamespace(
            note=lambda _, what: self.notes.append(what), recovered=lambda _, what: self.notes.append(what)
        )
        none = cast(Any, None)
        self.around = Around(
            load_config(self.home.config), self.home, cast(Any, memory), none, self.events, clock,
            Alerts(self.events, clock), Standing, dict, dict,
        )  # fmt: skip

    def queue(self, name: str = NAME, **fields: Any) -> None:
        """A ticket on the disk."""
        folder = self.home.subagents / name
        (folder / "tmp").mkdir(parents=True)
        write_ticket(folder, Ticket(name, "do it", ["x"], [], 9.0, 9.0, {}, "2026-11-21T05:09:07.123Z", **fields))

    def run(self, *names: str) -> SubAgents:
        """Start, and run until these are put away."""

        async def until_away() -> SubAgents:
            ours = SubAgents(self.around)
            ours._workshop = cast(Any, self.shop)
            running = asyncio.create_task(ours.run())
            async with asyncio.timeout(10):
                while not all((self.home.ended / name).exists() for name in names):
                    assert not running.done(), running.exception()
                    await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)  # what would be done again is done now
            assert not running.done()
            running.cancel()
            return ours

        return asyncio.run(until_away())

    def ended(self, name: str = NAME) -> tuple[str, int]:
        """How one ended, and how often it was begun."""
        ticket = read_ticket(self.home.ended / name)
        assert ticket is not None
        return ticket.status, ticket.attempts

    def told(self, event: str) -> list[dict[str, Any]]:
        """What was logged under this name."""
        lines = [line for path in self.home.logs.glob("*.jsonl") for line in path.read_text().splitlines()]
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def failing(monkeypatch: pytest.MonkeyPatch, which: int) -> list[str]:
    """Let the ``which``-th of what brings a ticket's end to the disk fail, and the two after it; says what was asked for."""
    asked: list[str] = []

    def wrapped(name: str, what: Callable[..., None]) -> Callable[..., None]:
        def once_not(*words: Any) -> None:
            asked.append(name)
            if which <= len(asked) - 1 < which + 3:
                raise DurabilityError("ticket.json could not be written: No space left on device")
            what(*words)

        return once_not

    for name in ("write_ticket", "put_away"):
        monkeypatch.setattr(subagents, name, wrapped(name, getattr(spawned, name)))
    return asked


@pytest.mark.parametrize("which", range(3))
def test_what_is_done_is_not_run_again_for_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    """Whether "made", "done" or its folder's place is what the disk does not take: that alone is repeated."""
    scene = Scene(tmp_path)
    scene.queue()
    asked = failing(monkeypatch, which)
    ours = scene.run(NAME)
    assert scene.shop.runs == [NAME] and scene.ended() == ("done", 1)
    wanted = ["write_ticket", "write_ticket", "put_away"]
    assert asked == [*wanted[: which + 1], *[wanted[which]] * 3, *wanted[which + 1 :]]
    assert ours.report()["day"]["done"] == 1 and ours.report()["queued"] == {}
    assert len(scene.told("subagent.stuck")) == 3 and len(scene.told("subagent.ended")) == 1


@pytest.mark.parametrize("which", range(5))
def test_who_failed_is_given_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    """Three runs, one word to the main agent and one failure of the feature, whatever the disk did not take meanwhile."""

    def fail(_: Ticket) -> None:
        raise AgentError("no luck")

    scene = Scene(tmp_path, fail)
    scene.queue()
    failing(monkeypatch, which)
    ours = scene.run(NAME)
    assert len(scene.shop.runs) == 3 and scene.ended() == ("failed", 3)
    assert [note for note in scene.notes if "its task is yours" in note] == scene.notes
    assert (
        len(scene.notes)
        == len(ours.features._known["subagents"].failures)
        == len(scene.told("subagent.escalated"))
        == 1
    )


def test_a_defect_ends_one_ticket(tmp_path: Path) -> None:
    """Whatever the work on it raises: it failed, which is an event, and the next one runs."""

    def break_it(ticket: Ticket) -> None:
        if ticket.id == NAME:
            raise RecursionError("maximum recursion depth exceeded")

    scene = Scene(tmp_path, break_it)
    scene.queue()
    scene.queue(OTHER)
    scene.run(NAME, OTHER)
    assert scene.ended() == ("failed", 1) and scene.ended(OTHER) == ("done", 1)
    assert [event["error"] for event in scene.told("subagent.broke")] == [
        "RecursionError('maximum recursion depth exceeded')"
    ]
    assert "a defect: RecursionError" in scene.notes[0]


def test_a_defect_in_putting_away_makes_nobody_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done stays done, and is put away later."""
    scene = Scene(tmp_path)
    scene.queue()
    answers = iter([RecursionError("too deep")])

    def put_away(*words: Any) -> None:
        for error in answers:
            raise error
        spawned.put_away(*words)

    monkeypatch.setattr(subagents, "put_away", put_away)
    scene.run(NAME)
    assert scene.ended() == ("done", 1) and scene.notes == []


def test_a_start_fails_for_nothing_that_is_in_the_way(tmp_path: Path) -> None:
    """No place for what is done, none for what cannot be read: events, and both are dealt with when there is one."""
    scene = Scene(tmp_path)
    scene.queue(status="done", attempts=1, ended="2026-11-21T05:09:08.123Z")
    (scene.home.subagents / OTHER).mkdir()
    for path in (scene.home.ended, scene.home.trash):
        path.write_text("in the way")
    ours = SubAgents(scene.around)
    assert len(scene.told("subagent.stuck")) == 2
    assert ours._shown(NAME)["status"] == "done" and ours.report()["queued"] == {}
    for path in (scene.home.ended, scene.home.trash):
        path.unlink()
    scene.run(NAME)
    assert scene.shop.runs == [] and scene.ended() == ("done", 1) and len(list(scene.home.trash.iterdir())) == 1


def test_what_cannot_be_counted_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that the disk does not take is none: a full disk gives nobody up that never ran."""
    from outlast.work import workshop

    scene = Scene(tmp_path)
    scene.queue()
    ticket = read_ticket(scene.home.subagents / NAME)
    assert ticket is not None

    def full(*_: Any) -> None:
        raise DurabilityError("ticket.json could not be written: No space left on device")

    monkeypatch.setattr(workshop, "write_ticket", full)
    shop = workshop.Workshop(scene.around, cast(Any, None), SubAgents(scene.around)._leavings)
    monkeypatch.setattr(shop, "open", lambda _: asyncio.sleep(0))
    with pytest.raises(DurabilityError):
        asyncio.run(shop.run(ticket, cast(Any, None)))
    assert ticket.attempts == 0
