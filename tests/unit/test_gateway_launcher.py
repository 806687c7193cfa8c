"""The gateway's launcher, with a small program in its place: started again, held, let rest, and ended as a whole."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support.live import free_port, until

from outlast.core.gateway import Launched
from outlast.errors import GatewayError
from outlast.home import Home
from outlast.openclaw import wishes
from outlast.openclaw.place import Place
from outlast.openclaw.settings import OpenClaw

# Does what ``plan`` beside it says: exit codes one after the other, then it listens and stays.
PROGRAM = """\
import os, pathlib, signal, socket, subprocess, sys, time
here = pathlib.Path(os.environ["HOME"]).parents[1] / "etc" / "openclaw"
words = sys.argv[1:]
with (here / "ran").open("a") as ran:
    ran.write(" ".join(words) + "\\n")
if words[0] == "doctor":
    pathlib.Path(os.environ["OPENCLAW_CONFIG_PATH"]).write_text("changed")
    print("doctored", flush=True)
    sys.exit(0)
plan = (here / "plan").read_text().split()
if plan:
    (here / "plan").write_text(" ".join(plan[1:]))
    why = (here / "says").read_text() if (here / "says").exists() else "ends with " + plan[0]
    print('{"level":"error","message":"' + why + '"}', flush=True)
    sys.exit(int(plan[0]))
if (here / "deaf").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
door = socket.create_server(("127.0.0.1", int((here / "port").read_text())))
print("listening", flush=True)
while True:
    time.sleep(1)
"""


class Scene:
    """A home with a launcher."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, free_port()
        release = root / "release"
        settings = OpenClaw(str(release), self.port, stop_within="1s", most=2, rest="1h")
        self.place = Place(Home(root), settings)
        for folder in (
            root / "etc",
            root / "run",
            self.place.folder,
            release / "node/bin",
            release / "node_modules/openclaw",
        ):
            folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        node, module = map(Path, self.place.command)
        node.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        node.chmod(0o755)
        module.write_text(PROGRAM)
        told = {name: getattr(settings, name) for name in settings.__struct_fields__}
        config: dict[str, Any] = {
            "node": "axiom",
            "listen": {"host": "127.0.0.1", "port": 1},
            "agent": {"command": ["/bin/true"]},
            "openclaw": told,
        }
        (root / "etc/node.yml").write_text(yaml.safe_dump(config))
        self.place.config.write_text("{}")
        self.place.hooks.write_text("{}")
        (self.place.folder / "plan").write_text("")
        (self.place.folder / "port").write_text(str(self.port))
        self.process: subprocess.Popen[str] | None = None

    def launch(self, *plan: int) -> None:
        """Start the launcher; the program ends with these codes first."""
        (self.place.folder / "plan").write_text(" ".join(map(str, plan)))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "outlast.openclaw.launch", "--home", str(self.root)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def said(self) -> Launched:
        """What it says now."""
        return wishes.launched(self.place, dead=True) or Launched("waiting", 0.0, 0)

    def until(self, phase: str) -> Launched:
        """Wait for a phase."""
        until(lambda: self.said().phase == phase, limit=20, what=f"{phase}: {self.said()}")
        return self.said()

    def until_listening(self) -> Launched:
        """Wait until the program stays."""
        until(lambda: self.said().phase == "running" and self.listens(), limit=20, what=f"listening: {self.said()}")
        return self.said()

    def wish(self, action: Any) -> Launched:
        """Wish for something, and wait until it is done."""
        return wishes.await_done(self.place, wishes.ask(self.place, action, "a test"), 20)

    def listens(self) -> bool:
        """Does anybody?"""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def ran(self) -> list[str]:
        """What was started, in order."""
        path = self.place.folder / "ran"
        return path.read_text().splitlines() if path.exists() else []

    def end(self) -> tuple[int, str]:
        """SIGTERM; exit code, and what it printed."""
        process, self.process = self.process, None
        assert process is not None
        process.terminate()
        out, _ = process.communicate(timeout=30)
        return process.returncode, out


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Nothing runs."""
    made = Scene(tmp_path)
    yield made
    if made.process is not None:
        made.end()
    assert not made.listens()


def family(pid: int) -> list[psutil.Process]:
    """A process with all that it started."""
    leader = psutil.Process(pid)
    return [leader, *leader.children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    """Is none of them alive?"""
    return not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def test_started_again_and_ended_as_a_whole(scene: Scene) -> None:
    """It is started again after a failure; SIGTERM ends it with all that it started, and the exit code is 0."""
    scene.launch(1)
    said = scene.until_listening()
    assert (said.starts, said.code) == (2, 1)
    processes = family(said.pid)
    assert len(processes) == 2
    code, out = scene.end()
    assert code == 0 and gone(processes)
    assert "ended with exit code 1 after 0 s: ends with 1; again in" in out
    assert scene.said().phase == "ended"


def test_one_that_does_not_listen_to_sigterm(scene: Scene) -> None:
    """Who ignores SIGTERM is killed after ``stop_within``; its port is free then."""
    (scene.place.folder / "deaf").touch()
    scene.launch()
    processes = family(scene.until_listening().pid)
    before = time.monotonic()
    assert scene.wish("stop").phase == "stopped"
    assert 1.0 <= time.monotonic() - before < 15.0
    assert gone(processes) and not scene.listens()


def test_a_crash_loop_rests(scene: Scene) -> None:
    """After ``most`` restarts it rests, with the reason that was printed; a person's order starts it at once."""
    scene.launch(1, 2, 3)
    said = scene.until("resting")
    assert (said.starts, said.code) == (3, 3) and said.reason.endswith("ends with 3") and said.due > time.time() + 3000
    assert scene.wish("restart").phase == "running"
    scene.until_listening()


def test_held_until_something_changed(scene: Scene) -> None:
    """Exit code 78 says that another start finds the same: it is not tried before what it reads has changed."""
    scene.launch(78)
    said = scene.until("held")
    assert (said.starts, said.due) == (1, 0.0) and "ends with 78" in said.reason
    scene.place.config.write_text('{"changed": true}')
    assert scene.until_listening().starts == 2


def test_held_until_a_database_was_put_back(scene: Scene) -> None:
    """The database of any of its agents is part of its state."""
    scene.launch(78)
    scene.until("held")
    path = scene.place.state / "agents/axiom/agent/openclaw-agent.sqlite"
    path.parent.mkdir(parents=True)
    path.write_text("a good copy")
    assert scene.until_listening().starts == 2


def test_a_lease_is_waited_for(scene: Scene) -> None:
    """What was killed while it started leaves a lease, for which the next start ends with 78 as well: it is started again in a
    minute, by itself, and is not held."""
    (scene.place.folder / "says").write_text("agent database maintenance lease core:global is held by 0b")
    scene.launch(78)
    until(lambda: scene.said().code == 78, limit=20)
    said = scene.said()
    assert said.phase == "waiting" and 40.0 < said.due - time.time() <= 61.0


def test_kept_stopped(scene: Scene) -> None:
    """While its state is put back nobody starts it, whatever they wish for, nor a launcher that is started anew; then it is."""
    scene.launch()
    scene.until_listening()
    with wishes.stopped(scene.place, "its state is put back"):
        for action in ("restart", "start", "doctor"):
            said = scene.wish(action)
            assert said.phase == "stopped" and said.said == "not done: it is stopped (its state is put back)"
        scene.end()
        with pytest.raises(GatewayError, match="another command keeps it stopped"):
            with wishes.stopped(scene.place, "something else"):
                pass
        scene.launch()
        until(lambda: wishes.launched(scene.place) is not None, limit=20)
        assert scene.until("stopped").reason == "its state is put back"
        assert not scene.listens()
    scene.until_listening()
    assert scene.ran() == ["gateway run"] * 2


def test_stopped_by_a_person_meanwhile(scene: Scene) -> None:
    """A person who stops it while its state is put back finds it stopped afterwards, and no remedy starts it."""
    scene.launch()
    scene.until_listening()
    with wishes.stopped(scene.place, "its state is put back"):
        assert scene.wish("stop").reason == "a test"
    wishes.await_done(scene.place, wishes.ask(scene.place, "restart", "broken", yields=True), 20)
    assert scene.said().phase == "stopped" and scene.ran() == ["gateway run"]


def test_a_stop_lasts(scene: Scene) -> None:
    """Who stops it wants it so over an end of the launcher too; what it is asked meanwhile does not start it by the way."""
    scene.launch()
    scene.until_listening()
    scene.wish("stop")
    scene.end()
    scene.launch()
    assert scene.until("stopped").reason == "a test"
    assert scene.ran() == ["gateway run"]
    assert scene.wish("start").phase == "running"


def test_the_doctor(scene: Scene) -> None:
    """It runs while the gateway does not, on a copy of the configuration: what it changes there is set aside, and the
    configuration is as it was."""
    scene.launch()
    scene.until_listening()
    said = scene.wish("doctor")
    assert "exit code 0" in said.said and "in the trash" in said.said
    scene.until_listening()
    assert [line.split()[0] for line in scene.ran()] == ["gateway", "doctor", "gateway"]
    assert scene.place.config.read_text() == "{}"
    assert [path.read_text() for path in scene.place.home.trash.iterdir()] == ["changed"]


def test_a_stranger_on_its_port(scene: Scene) -> None:
    """It is named by process and program, once; the gateway starts when it is gone."""
    with socket.create_server(("127.0.0.1", scene.port)):
        scene.launch()
        said = scene.until("blocked")
        assert said.reason == f"port {scene.port} is taken by process {os.getpid()} ({psutil.Process().name()})"
    scene.until_listening()
    assert scene.end()[1].count("is taken by") == 1


def test_what_a_killed_launcher_left(scene: Scene) -> None:
    """Launcher and guard are killed together: the next launcher ends what they left, by its mark, and starts it anew."""
    scene.launch()
    said = scene.until_listening()
    processes = family(said.pid)
    assert scene.process is not None
    for one in [*psutil.Process(scene.process.pid).children(), psutil.Process(scene.process.pid)]:
        if one.pid != said.pid:
            os.kill(one.pid, signal.SIGKILL)
    scene.process.wait(20)
    scene.launch()
    until(lambda: scene.said().pid not in (0, said.pid), limit=20)
    scene.until_listening()
    assert gone(processes)


def test_only_one(scene: Scene) -> None:
    """A second launcher is one line, and exit code 75; it disturbs nobody."""
    scene.launch()
    said = scene.until_listening()
    words = [sys.executable, "-m", "outlast.openclaw.launch", "--home", str(scene.root)]
    second = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (second.returncode, second.stderr.count("\n")) == (75, 1)
    assert scene.said() == said


@pytest.mark.parametrize("missing", ["section", "release", "configuration"])
def test_what_is_missing_is_one_line(scene: Scene, missing: str) -> None:
    """Without its section, its release or its configuration nothing is started: one line with the mend, exit code 78."""
    if missing == "section":
        path = scene.root / "etc/node.yml"
        config = yaml.safe_load(path.read_text())
        del config["openclaw"]
        path.write_text(yaml.safe_dump(config))
    else:
        Path(scene.place.command[1] if missing == "release" else scene.place.config).unlink()
    words = [sys.executable, "-m", "outlast.openclaw.launch", "--home", str(scene.root)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (78, 1)
    assert "openclaw" in done.stderr and "ansible-playbook" in done.stderr and "Traceback" not in done.stderr


def test_no_secret_and_no_wish_is_left(scene: Scene) -> None:
    """What it says of itself is readable by its owner alone, and a wish that cannot be read is dropped."""
    scene.launch()
    scene.until_listening()
    scene.place.wish.write_text("{not a wish")
    until(lambda: not scene.place.wish.exists(), limit=20)
    assert scene.said().phase == "running"
    assert json.loads(scene.place.launched.read_text())["phase"] == "running"
    assert scene.place.launched.stat().st_mode & 0o077 == 0
