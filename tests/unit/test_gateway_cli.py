"""``outlast openclaw``, where neither the node nor its gateway runs: one clear line each, and no token anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.live import free_port

from outlast.cli.openclaw import _lines
from outlast.core.gateway import Launched
from outlast.home import Home
from outlast.openclaw.place import Place
from outlast.openclaw.settings import OpenClaw
from outlast.openclaw.watch import Known, told


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an OpenClaw that nobody started."""
    (tmp_path / "etc").mkdir()
    openclaw = {"release": str(tmp_path / "release"), "port": free_port(), "agent": "axiom"}
    config: dict[str, Any] = {
        "node": "axiom",
        "listen": {"host": "127.0.0.1", "port": 1},
        "agent": {"command": ["/bin/true"]},
        "openclaw": openclaw,
    }
    (tmp_path / "etc/node.yml").write_text(yaml.safe_dump(config))
    return tmp_path


def outlast(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Type it."""
    command = [str(Path(sys.executable).parent / "outlast"), "--home", str(home), "openclaw", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def test_status_of_one_that_does_not_run(home: Path) -> None:
    """It says so, that nobody watches it, and exit code 1."""
    done = outlast(home, "status")
    assert done.returncode == 1 and not done.stderr
    assert "down" in done.stdout and "its service does not run" in done.stdout and "nobody watches it" in done.stdout
    assert json.loads(outlast(home, "status", "--json").stdout)["state"] == "down"


@pytest.mark.parametrize(
    ("alive", "unready", "words"),
    [(True, "", "HTTP ready,"), (True, "telegram", "HTTP not ready (telegram),"), (False, "", "HTTP not well,")],
)
def test_status_of_one_that_is_not_ready(alive: bool, unready: str, words: str) -> None:
    """What it names itself is shown beside that its calls are well."""
    said = told(Launched("running", 1.0, 1, 7), Known("working", since=1.0))
    found = {"node": "axiom", "port": 1, **said, "alive": alive, "true": True, "not_ready": unready}
    assert f"pid 7, port 1: {words} calls answered from its database" in "\n".join(_lines(found))


def test_tokens(home: Path) -> None:
    """They are made once and never shown; where they are missing the mend is named."""
    missing = outlast(home, "tokens", "--json")
    assert missing.returncode == 78 and "outlast openclaw tokens --ensure" in json.loads(missing.stdout)["mend"]
    made = outlast(home, "tokens", "--ensure", "--json")
    assert json.loads(made.stdout) == {"changed": True, "made": ["tokens.json", "hooks.json"]}
    token = json.loads((home / "etc/openclaw/tokens.json").read_text())["gateway"]["token"]
    again = outlast(home, "tokens", "--ensure", "--json")
    assert json.loads(again.stdout)["changed"] is False
    assert token not in made.stdout + made.stderr + again.stdout


@pytest.mark.parametrize("order", ["restart", "stop", "start"])
def test_orders_to_nobody(home: Path, order: str) -> None:
    """One line, exit code 3, soon; and the order is not carried out later, when nobody thinks of it any more."""
    began = time.monotonic()
    done = outlast(home, order)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1) and time.monotonic() - began < 30
    assert "its service does not run; start its service" in done.stderr
    place = Place(Home(home), OpenClaw("/nowhere"))
    assert not place.wish.exists()


def test_restoring_nothing(home: Path) -> None:
    """Which copy is meant must be clear, there, and wanted."""
    for words, field in (
        (["--last"], "--last"),
        ([], "FILE"),
        (["x.tar.gz"], "FILE"),
        (["--last", "x.tar.gz"], "FILE"),
    ):
        done = outlast(home, "restore", *words, "--json")
        assert (done.returncode, json.loads(done.stdout)["field"]) == (2, field)


def test_a_node_without_one(home: Path) -> None:
    """Every command says that this node has none, and how it gets one."""
    path = home / "etc/node.yml"
    config = yaml.safe_load(path.read_text())
    del config["openclaw"]
    path.write_text(yaml.safe_dump(config))
    for words in (["status"], ["tokens"], ["restart"], ["restore", "--last"]):
        done = outlast(home, *words)
        assert done.returncode == 78 and "openclaw_enabled: true" in done.stderr and done.stderr.count("\n") == 1
