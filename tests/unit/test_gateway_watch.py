"""What the node makes of its gateway: told once, degraded meanwhile, mended in order, and never behind a person's back."""

from __future__ import annotations

import asyncio
import hashlib
import http
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from support.clock import FixedClock
from support.live import free_port
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from outlast.alerts import Alerts
from outlast.core.gateway import Launched
from outlast.core.modes import Standing
from outlast.home import Home
from outlast.openclaw import tokens, wishes
from outlast.openclaw.settings import OpenClaw
from outlast.openclaw.watch import Gateway
from outlast.settings import Agent, Config, Listen
from outlast.store.events import EventLog
from outlast.upkeep import Around

NOW = 1_800_000_000.0
# In place of OpenClaw's own command: ``backup create`` as it answers, or not.
COMMAND = """#!/bin/sh
[ -e "${0%/*}/broken" ] && { echo '{"error": {"message": "no room"}}'; exit 1; }
while [ "$1" != --output ]; do shift; done
echo copy > "$2"
echo '{"verified": true}'
"""


class Scene:
    """A node with a gateway that answers as it is told, on a clock that stands."""

    def __init__(self, root: Path) -> None:
        self.home, self.clock, self.standing = Home(root), FixedClock(NOW), Standing()
        self.home.logs.mkdir(parents=True)
        self.settings = OpenClaw(str(root / "release"), free_port(), snapshot_every="1h")
        config = Config("axiom", Listen("127.0.0.1", 1), Agent(["/bin/true"]), openclaw=self.settings)
        self.events = EventLog(self.home.logs, "axiom", self.clock)
        self.alerts, self.causes = Alerts(self.events, self.clock), dict[str, str]()
        none = cast(Any, None)
        self.around = Around(
            config, self.home, none, none, self.events, self.clock, self.alerts,
            lambda: self.standing, dict, dict, self.causes,
        )  # fmt: skip
        self.watch = Gateway(self.around, self.settings)
        self.place = self.watch.place
        tokens.ensure(self.place)
        node = Path(self.place.command[0])
        node.parent.mkdir(parents=True)
        node.write_text(COMMAND)
        node.chmod(0o755)
        self.ready, self.error, self.there = "", "", True
        self.meanwhile: Callable[[], object] = lambda: None
        self.lock = wishes.lock(self.place)
        self.launched("running", 7)

    def launched(self, phase: Any, pid: int = 0, reason: str = "", code: int | None = None) -> None:
        """What the launcher says from now on."""
        wishes.say(self.place, Launched(phase, NOW, os.getpid(), pid, reason=reason, code=code))

    def look(self, times: int = 1, *, apart: float = 60.0) -> None:
        """The node looks at it, every ``apart`` seconds."""

        async def truth(line: ServerConnection) -> None:
            await line.send('{"type":"event","event":"connect.challenge","payload":{}}')
            async for text in line:
                asked = json.loads(text)
                error = {"code": "UNAVAILABLE", "message": self.error}
                well = asked["method"] == "connect" or not self.error
                told = {"ok": True, "payload": {}} if well else {"ok": False, "error": error}
                await line.send(json.dumps({"type": "res", "id": asked["id"], **told}))

        def plain(line: ServerConnection, request: Request) -> Response | None:
            if request.path == "/":
                return None
            self.meanwhile()
            well = self.there if request.path == "/healthz" else not self.ready
            return line.respond(http.HTTPStatus.OK if well else http.HTTPStatus.SERVICE_UNAVAILABLE, self.ready)

        async def run() -> None:
            async with serve(truth, "127.0.0.1", self.settings.port, process_request=plain):
                for _ in range(times):
                    self.clock.now += apart
                    await self.watch.look()
                    if self.watch._copying is not None:
                        await self.watch._copying

        asyncio.run(run())

    def wish(self) -> str:
        """What the launcher is asked to do; taken."""
        found = wishes.take(self.place)
        return found.action if found else ""

    def events_of(self, *names: str) -> list[dict[str, Any]]:
        """Every event of these names."""
        lines = [line for path in self.home.logs.glob("*.jsonl") for line in path.read_text().splitlines()]
        return [one for one in map(json.loads, lines) if one["event"] in names]

    def texts(self, name: str = "openclaw") -> list[str]:
        """The alert of this name."""
        return [one.text for one in self.alerts.raised if one.name == name]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """One that works."""
    made = Scene(tmp_path)
    yield made
    assert made.lock is not None
    os.close(made.lock)


def test_a_gateway_that_works_writes_nothing(scene: Scene) -> None:
    """It is told once that it works, and every further look is silent."""
    scene.look(5)
    assert [one["state"] for one in scene.events_of("openclaw.state")] == ["working"]
    before = scene.place.known.stat()
    scene.look(5, apart=1.0)
    assert scene.place.known.stat() == before
    report = scene.watch.report()
    assert (report["state"], report["pid"], report["alive"], report["true"]) == ("working", 7, True, True)
    assert not scene.causes and not scene.alerts.raised and not scene.wish()


def test_broken_behind_a_200(scene: Scene) -> None:
    """Calls fail and HTTP does not: a restart is wished for, once; the node is degraded for as long as it does not work."""
    scene.look(2)
    scene.error = "Shared-state worker lost its retained native database"
    scene.look(2)
    assert scene.watch.report()["state"] == "broken"
    assert "lost its retained native database" in scene.causes["openclaw"]
    assert scene.wish() == "restart"
    scene.look(3)
    assert scene.wish() == "doctor", "the next, once the first did not help"
    scene.error = ""
    scene.look(3)
    assert scene.watch.report()["state"] == "working" and not scene.causes and not scene.texts() and not scene.wish()
    assert [one["remedy"] for one in scene.events_of("openclaw.remedy")] == ["restart", "doctor"]


@pytest.mark.parametrize(
    ("said", "words"),
    [('{"ready":false,"failing":["telegram"]}', "not ready: telegram"), ("<html>", "not ready: HTTP 503")],
)
def test_not_ready_is_no_trouble(scene: Scene, said: str, words: str) -> None:
    """A channel's account that is refused makes it say for hours that it is not ready, while calls are well: it is shown at
    once and told after minutes, the node stays well, and nothing is done about a gateway that works."""
    scene.ready = said
    scene.look(4)
    assert scene.watch.report()["state"] == "working" and words.endswith(scene.watch.report()["not_ready"])
    assert not scene.alerts.raised
    scene.look(100)
    (text,) = scene.texts("openclaw readiness")
    assert words in text and "mend:" in text and not scene.causes and not scene.wish()
    assert not scene.events_of("openclaw.remedy")
    scene.ready = ""
    scene.look(2)
    assert not scene.alerts.raised and not scene.watch.report()["not_ready"]


def test_http_alone_is_no_verdict(scene: Scene) -> None:
    """While the calls are well no answer by HTTP makes it broken; where they fail as well it is, at the first that does."""
    scene.there = False
    scene.look(10)
    assert scene.watch.report()["state"] == "working" and not scene.wish()
    scene.error = "it hangs"
    scene.look(1)
    assert scene.watch.report()["state"] == "broken" and scene.wish() == "restart"


@pytest.mark.parametrize("taken", [True, False])
def test_a_stop_while_it_is_asked(scene: Scene, taken: bool) -> None:
    """A person who stops it while the node asks it has their way: no remedy takes the place of that, taken or not."""
    scene.look(2)
    scene.error = "file is not a database"

    def stop() -> None:
        scene.meanwhile = lambda: None
        wishes.ask(scene.place, "stop", "a person asked for it")
        if taken:
            wishes.take(scene.place)
            scene.launched("stopped", reason="a person asked for it")

    scene.look(1, apart=41.0)
    scene.meanwhile = stop
    scene.look(1, apart=41.0)
    assert scene.wish() == ("" if taken else "stop") and not scene.events_of("openclaw.remedy")
    assert scene.watch.report()["state"] == ("stopped" if taken else "broken")


def test_one_taken_while_another_comes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wish that comes while the one before is taken, or taken back, is the next one; one that yields takes no one's place."""
    read = wishes.regular.read

    def slowly(path: Path) -> bytes:
        monkeypatch.setattr(wishes.regular, "read", read)
        said = read(path)
        wishes.ask(scene.place, "stop", "a person")
        return said

    name = wishes.ask(scene.place, "restart", "the runtime")
    monkeypatch.setattr(wishes.regular, "read", slowly)
    taken = wishes.take(scene.place)
    assert taken is not None and taken.name == name
    assert wishes.ask(scene.place, "doctor", "the runtime", yields=True) == ""
    assert scene.wish() == "stop" and scene.wish() == ""
    name = wishes.ask(scene.place, "start", "a person")
    monkeypatch.setattr(wishes.regular, "read", slowly)
    wishes._take_back(scene.place, name)
    assert scene.wish() == "stop" and not list(scene.place.wish.parent.glob("wish*"))


def test_a_person_is_asked(scene: Scene) -> None:
    """A database that nothing mends: its doctor is passed over, nothing is replaced, and the alert names the command."""
    scene.look(1)
    scene.launched(
        "held", reason="ended with exit code 78: Doctor cannot repair this state: file is not a database", code=78
    )
    scene.look(2)
    assert not scene.wish()
    (text,) = scene.texts()
    assert "outlast openclaw restore --last (from openclaw-" in text and "is left as it is" in text
    scene.launched("held", reason="ended with exit code 78: OpenClaw config is invalid: gateway.port", code=78)
    assert scene.watch.report()["asked_since"]


def test_a_crash_loop(scene: Scene) -> None:
    """Its launcher restarted it already: its doctor is next, then a person is asked: about who kills it, and not to put back a state that is whole."""
    scene.look(1)
    scene.launched("resting", reason="killed by SIGKILL after 0 s")
    scene.look(1)
    assert scene.wish() == "doctor" and "in a crash loop: killed by SIGKILL" in scene.texts()[0]
    scene.look(2)
    assert not scene.wish() and "end what kills it" in scene.texts()[0] and "restore" not in scene.texts()[0]
    assert [one["remedy"] for one in scene.events_of("openclaw.remedy")] == ["doctor", "ask"]
    scene.look(200, apart=10.0)
    assert not scene.wish(), "not more than that within the hour"


def test_nothing_behind_a_persons_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """In maintenance, while something new is on trial, and where a person stopped it, be it in that moment, nothing is done about
    it, and a stop is no trouble."""
    scene.look(1)
    scene.standing = Standing("maintenance")
    scene.launched("resting", reason="killed by SIGKILL")
    scene.look(5)
    assert scene.watch.report()["state"] == "crash-loop" and not scene.wish()
    scene.standing = Standing()
    scene.place.proving.write_text(f"{scene.clock.now + 600:.0f}")
    scene.look(5)
    assert not scene.wish()
    scene.place.proving.unlink()

    def just_then(place: Any) -> bool:
        monkeypatch.undo()
        return not wishes.ask(place, "stop", "a person")

    monkeypatch.setattr(wishes, "is_pending", just_then)
    scene.look(1)
    assert scene.events_of("openclaw.remedy") and scene.wish() == "stop"
    scene.launched("stopped", reason="a person asked for it")
    scene.look(5)
    assert not scene.wish() and not scene.texts() and not scene.causes
    scene.look(2, apart=3600.0)
    assert "outlast openclaw start" in scene.texts()[0], "or was it forgotten?"


def test_a_full_disk(scene: Scene) -> None:
    """Nothing is started anew on a disk that takes nothing: it would break again, and it is said why. With room again it is asked
    anew before anything is done."""
    scene.look(1)
    scene.error = "disk I/O error"
    scene.alerts.found("writes", "now", "no room")
    scene.look(5)
    assert scene.watch.report()["state"] == "broken" and scene.causes and not scene.wish()
    assert "mend: make room" in scene.texts()[0]
    scene.alerts.over("writes")
    scene.look(1)
    assert scene.watch.report()["state"] == "working" and not scene.wish()
    scene.look(1)
    assert scene.wish() == "restart"


def test_no_launcher(scene: Scene) -> None:
    """Its service manager has a minute; then a person is told, and the node is degraded."""
    assert scene.lock is not None
    os.close(scene.lock)
    scene.look(1, apart=1.0)
    assert not scene.texts()
    scene.look(3)
    assert "its service does not run" in scene.texts()[0] and scene.causes
    scene.lock = wishes.lock(scene.place)


def test_a_port_that_a_stranger_has(scene: Scene) -> None:
    """Nothing is tried; the program is named."""
    scene.launched("blocked", reason="port 1 is taken by process 42 (nc)")
    scene.look(5)
    assert "process 42 (nc)" in scene.texts()[0] and not scene.wish()


def test_its_configuration_was_replaced(scene: Scene) -> None:
    """Another configuration than the one that was applied is an alert, until that is there again."""
    scene.place.config.write_text("{}")
    scene.place.applied.write_text(hashlib.sha256(b"{}").hexdigest() + "\n")
    scene.look(1)
    scene.place.config.write_text('{"gateway": {"port": 1}}')
    scene.look(2)
    assert "replaced" in scene.texts("openclaw configuration")[0]
    scene.place.config.write_text("{}")
    scene.look(2)
    assert not scene.texts("openclaw configuration")


def test_copies(scene: Scene) -> None:
    """Its state is copied while it works, when that is due; one that fails is an alert, and is tried again."""
    scene.look(3)
    assert len(list(scene.place.snapshots.glob("openclaw-*.tar.gz"))) == 1
    (Path(scene.place.command[0]).parent / "broken").touch()
    scene.look(1, apart=3600.0)
    assert "no room" in scene.texts("openclaw snapshots")[0]
    (Path(scene.place.command[0]).parent / "broken").unlink()
    scene.look(2, apart=1000.0)
    assert not scene.texts("openclaw snapshots") and scene.watch.report()["snapshot_at"]
    scene.standing = Standing("emergency")
    scene.look(2, apart=7200.0)
    assert len(scene.events_of("openclaw.snapshot")) == 2, "none while the disk is full"


def test_what_it_knew_survives_its_own_end(scene: Scene) -> None:
    """A runtime that is started anew goes on with the ladder where it was, and does not copy again at once."""
    scene.look(2)
    scene.error = "file is not a database"
    scene.look(2)
    assert scene.wish() == "restart"
    scene.watch = Gateway(scene.around, scene.settings)
    report = scene.watch.report()
    assert (report["state"], [one["remedy"] for one in report["remedies"]]) == ("broken", ["restart"])
    assert report["snapshot_at"]
