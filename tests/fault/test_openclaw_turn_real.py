"""A task handed to a node whose agent is OpenClaw's: the real gateway takes a real turn, and whatever is killed, once.

In this order: a provider that refused a key is not asked again for some time.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live import LiveNode, pair, until
from support.openclaw import Gateway
from support.provider import MODEL, Provider

pytestmark = pytest.mark.timeout(1200)

_BIN = Path(sys.executable).parent
# What the agent's shell finds its files by: the newest folder that the node made for a task.
_FILES = "$(ls -td $HOME/../openclaw/*/files | head -1)"


class Scene:
    """Two nodes; axiom's agent is that of a gateway whose model is a double, with a second one to fall back to. Beside it is an
    agent whose own first provider is stopped, and that is asked something as soon as the gateway is there."""

    def __init__(
        self, root: Path, coz: LiveNode, axiom: LiveNode, first: Provider, second: Provider, gone: Provider
    ) -> None:
        self.coz, self.axiom, self.first, self.second = coz, axiom, first, second
        self.gateway = Gateway(root, providers={"one": first.port, "two": second.port, "gone": gone.port})
        config = self.gateway.place.config
        told = json.loads(config.read_text())
        agents, models = told["agents"], {"primary": f"gone/{MODEL}", "fallbacks": [f"two/{MODEL}"]}
        agents["defaults"]["model"]["fallbacks"] = [f"two/{MODEL}"]
        agents["ownership"], agents["defaults"]["systemAgent"] = "explicit", {"agentId": "axiom"}
        agents["defaults"]["heartbeat"]["agentId"] = "axiom"
        agents["entries"]["patient"] = {"workspace": str(root / "patient"), "model": models}
        config.write_text(json.dumps(told))
        self.asked: subprocess.Popen[str] | None = None
        (axiom.home.root / "bin").mkdir()
        (axiom.home.root / "bin" / "outlast").write_text(
            f'#!/bin/sh\nexec {_BIN}/outlast --home {axiom.home.root} "$@"\n'
        )
        (axiom.home.root / "bin" / "outlast").chmod(0o755)
        skill = axiom.home.workspace / "skills" / "outlast" / "SKILL.md"
        skill.parent.mkdir(parents=True)
        shutil.copy(Path(__file__).parents[2] / "files" / "openclaw" / "skills" / "outlast" / "SKILL.md", skill)
        told = self.gateway.place.settings
        axiom.config["openclaw"] = {"release": told.release, "port": told.port, "agent": told.agent}
        axiom.config["agent"] = {"command": [str(_BIN / "outlast-openclaw-turn")], "after_crash": "rerun"}
        axiom.configure()

    def hand(self, task: str) -> str:
        """Hand a task to axiom; its unit."""
        return str(self.coz.json("handoff", "axiom", task, "--no-wait")["unit"])

    def ask(self) -> None:
        """Ask the agent whose first provider is stopped, which takes a minute and a half, whatever else is done."""
        place = self.gateway.place
        command = [*place.command, "agent", "--agent", "patient", "--message", "who answers?", "--json"]
        self.asked = subprocess.Popen(
            command, env=place.environment(), cwd=self.gateway.home.root, text=True, stdout=subprocess.PIPE
        )

    def verdict(self, unit: str, limit: float = 300.0) -> dict[str, str]:
        """How it ended, as coz was told."""
        state = until(
            lambda: (found := self.coz.state()["units"].get(unit)) and found["status"] != "open" and found,
            limit=limit,
            what=f"an end of {unit}",
        )
        return dict(state)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One gateway for all of these: it takes half a minute to start, and most of a gigabyte."""
    root = tmp_path_factory.mktemp("turn")
    with Provider("one") as first, Provider("two") as second, Provider("gone") as gone, pair(root) as (coz, axiom):
        made = Scene(root, coz, axiom, first, second, gone)
        gone.down()
        coz.start()
        axiom.start()
        with made.gateway:
            made.ask()
            try:
                yield made
            finally:
                if made.asked is not None:
                    made.asked.kill()
                    made.asked.wait()


def test_task_becomes_a_turn(scene: Scene) -> None:
    """A task that coz hands over is a turn of axiom's agent: it calls `outlast status`, leaves a file, and both come back."""
    unit = scene.hand(f"RUN: outlast status --json > {_FILES}/status.json; echo it is well")
    assert scene.verdict(unit)["status"] == "done", scene.verdict(unit)
    artifact = scene.axiom.home.artifacts / unit
    assert json.loads((artifact / "status.json").read_text())["node"] == "axiom"
    assert "it is well" in (artifact / "answer.md").read_text()
    asked = [body for body in scene.first.asked if unit in json.dumps(body)]
    assert "coz asks you" in json.dumps(asked[0]) and "UNTRUSTED" not in json.dumps(asked[0]["messages"][-2:])
    assert scene.first.turns(unit) == 1


def test_agent_is_taught(scene: Scene) -> None:
    """The skill that is in the workspace is one that OpenClaw takes, for whose commands there is a program."""
    listed = scene.gateway.run("skills", "list", "--agent", "axiom", "--json")
    skills = json.loads(listed.stdout[listed.stdout.index("{") :])["skills"]
    found = [skill for skill in skills if skill["name"] == "outlast"]
    assert found and found[0]["eligible"], found


def test_tell(scene: Scene) -> None:
    """`outlast openclaw tell` takes a message to the agent, unframed, and its answer back."""
    told = scene.axiom.cli("openclaw", "tell", "RUN: echo told-$((40 + 2))", timeout=300)
    assert (told.returncode, told.stderr) == (0, "") and "told-42" in told.stdout


def test_node_killed_before_it_knew(scene: Scene) -> None:
    """The node alone is killed while the turn runs: the run after it finds the turn, and hands nothing over again."""
    scene.first.hold()
    unit = scene.hand(f"RUN: echo twice >> $HOME/effect-2; echo ran > {_FILES}/ran.txt")
    until(lambda: scene.first.turns(unit), limit=120.0, what="a question to the model")
    scene.axiom.kill()
    (record,) = (scene.axiom.home.root / "var" / "openclaw" / unit).glob("turn.json")
    # As it is where the power went before the answer of the gateway was on the disk.
    told = json.loads(record.read_text())
    record.write_text(json.dumps(told | {"run": "", "accepted": 0}))
    scene.axiom.start()
    scene.first.go.set()
    assert scene.verdict(unit)["status"] == "done", scene.verdict(unit)
    assert (scene.axiom.home.agents / "effect-2").read_text() == "twice\n"
    assert scene.first.turns(unit) == 1


def test_second_model_when_the_first_is_stopped(scene: Scene) -> None:
    """The first provider is stopped: OpenClaw tries it for a minute and a half, and takes the turn with the second one."""
    assert scene.asked is not None
    told = json.loads(scene.asked.communicate(timeout=300)[0])
    assert "ECHO two" in json.dumps(told["result"]["payloads"]), told


def test_gateway_and_node_killed(scene: Scene) -> None:
    """Gateway and node killed in the middle of a turn: both are back, the turn goes on where it was, its effect is there once. A
    note of coz's that comes while the gateway is away waits, and is in a turn of axiom's agent later."""
    scene.first.hold()
    unit = scene.hand(f"RUN: echo once >> $HOME/effect; echo ran > {_FILES}/ran.txt; echo went on")
    until(lambda: scene.first.turns(unit), limit=120.0, what="a question to the model")
    scene.axiom.kill()
    scene.gateway.kill()
    scene.first.go.set()
    scene.axiom.start()
    assert scene.coz.cli("note", "axiom", "the backup disk is new").returncode == 0
    until(lambda: scene.axiom.json("status")["feed"]["waiting"] == 1, what="a note that waits")
    scene.gateway.start()
    assert scene.verdict(unit)["status"] == "done", scene.verdict(unit)
    assert (scene.axiom.home.agents / "effect").read_text() == "once\n"
    assert {"ran.txt", "answer.md"} <= {path.name for path in (scene.axiom.home.artifacts / unit).iterdir()}
    listed = [key for key in sessions(scene.gateway) if unit in key]
    assert listed == [f"agent:axiom:hook:outlast:{unit}"]
    until(lambda: heard(scene, "] from coz: the backup disk is new"), limit=180.0, what="a note in a turn")


def test_second_model_when_the_first_refuses(scene: Scene) -> None:
    """The first provider refuses the key: the turn is taken with the second one, and the sender does not notice."""
    scene.first.status = 401
    try:
        unit = scene.hand(f"RUN: echo by the second > {_FILES}/who.txt; echo fell back")
        assert scene.verdict(unit)["status"] == "done", scene.verdict(unit)
    finally:
        scene.first.status = 200
    assert "DONE two" in (scene.axiom.home.artifacts / unit / "answer.md").read_text()


def test_both_refuse(scene: Scene) -> None:
    """Where no model answers the task is failed, and says so."""
    scene.first.status = scene.second.status = 401
    try:
        unit = scene.hand("nobody is there")
        assert scene.verdict(unit)["status"] == "failed"
        assert "its turn failed" in scene.verdict(unit)["detail"]
    finally:
        scene.first.status = scene.second.status = 200


def heard(scene: Scene, text: str) -> bool:
    """Was the model of the first provider given this text?"""
    return any(text in json.dumps(body["messages"]) for body in list(scene.first.asked))


def sessions(gateway: Gateway) -> list[str]:
    """The names of all sessions."""
    listed = gateway.run("sessions", "list", "--all-agents", "--json")
    return [one["key"] for one in json.loads(listed.stdout[listed.stdout.index("{") :])["sessions"]]
