"""`outlast step` as agents type it: with the node running, without it, killed, interrupted, twice at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.live import LiveNode, free_port, until

from outlast.cli.talk import do

OUTLAST = Path(sys.executable).parent / "outlast"
MAKE = ["--artifact", "notes.md", "--", "sh", "-c"]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LiveNode]:
    """A node that is not running."""
    made = LiveNode(tmp_path, "coz", free_port(), {})
    assert made.cli("keys", "init").returncode == 0
    yield made
    made.kill()


def running(node: LiveNode, *words: str, unit: str = "8") -> subprocess.Popen[str]:
    command = [OUTLAST, "--home", node.home.root, "step", "run", "--unit", unit, *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("alive", [False, True])
def test_the_three_commands(node: LiveNode, tmp_path: Path, alive: bool) -> None:
    """Begin, act (from a file and from standard input) and commit say what they did, on a line or as JSON, node or no node."""
    if alive:
        node.start()
    begun = node.cli(
        "step", "begin", "--unit", "8", "--artifact", "notes.md", "--artifact", "a/fig.png", "--what", "study"
    )
    assert begun.stdout == "8 is begun: it makes notes.md, a/fig.png\n", begun.stderr
    (tmp_path / "source").write_text("png")
    assert node.json("step", "act", "--unit", "8", "--artifact", "a/fig.png", "--from", str(tmp_path / "source"))[
        "missing"
    ] == ["notes.md"]
    early = node.cli("step", "commit", "--unit", "8")
    assert (early.returncode, early.stdout) == (2, "") and early.stderr.startswith(
        "outlast: --unit: 8 is not acted yet"
    )
    command = [OUTLAST, "--home", node.home.root, "step", "act", "--unit", "8", "--artifact", "notes.md"]
    acted = subprocess.run(command, input="text", capture_output=True, text=True)
    assert acted.stdout == "8 is published in workspace/artifacts/8/; now: outlast step commit --unit 8\n"
    assert (
        node.cli("step", "commit", "--unit", "8").stdout
        == "8 is done: workspace/artifacts/8/ has a/fig.png, notes.md\n"
    )
    assert (node.home.artifacts / "8" / "notes.md").read_text() == "text"
    assert [len(node.records(step, "8")) for step in ("INTENT", "CONFIRM")] == [1, 1]


def test_run(node: LiveNode) -> None:
    """The command runs in an empty folder with its environment; done means done: it is not run again; its output passes through."""
    script = 'ls -A; echo "$OUTLAST_UNIT $OUTLAST_WORKSPACE $OUTLAST_HOME" > notes.md; echo said'
    done = node.cli("step", "run", "--unit", "8", "--what", "study", *MAKE, script)
    assert (done.returncode, done.stdout) == (0, "said\n8 is done: workspace/artifacts/8/ has notes.md\n"), done.stderr
    made = (node.home.artifacts / "8" / "notes.md").read_text()
    assert made == f"8 {node.home.workspace} {node.home.root}\n"
    again = node.cli("step", "run", "--unit", "8", "--json", *MAKE, script)
    assert again.returncode == 0 and json.loads(again.stdout)["changed"] is False and "said" not in again.stderr
    noisy = node.cli("step", "run", "--unit", "9", "--json", *MAKE, script)
    assert json.loads(noisy.stdout)["status"] == "done" and noisy.stderr == "said\n"


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        ("echo x > notes.md; exit 3", 3, "exit 3"),
        ("true", 1, "exit 0, and notes.md is missing"),
        (": > notes.md", 1, "exit 0, and notes.md is no file, or empty"),
        ("ln -s /etc/passwd notes.md", 1, "exit 0, and notes.md is no file, or empty"),
        ("echo x > notes.md; mkfifo p", 1, "p is a pipe (FIFO); leave regular files and directories only"),
        ("kill -9 $$", 137, "killed by SIGKILL (9)"),
    ],
)
def test_a_command_that_fails(node: LiveNode, script: str, code: int, reason: str) -> None:
    """Its unit is abandoned with the reason, nothing is published, what it left is in the trash; and it can be run again."""
    failed = node.cli("step", "run", "--unit", "8", *MAKE, script)
    assert (failed.returncode, failed.stderr) == (code, f"8 is abandoned: {reason}\n")
    assert not list(node.home.artifacts.iterdir()) and not list(node.home.steps.iterdir())
    assert node.cli("step", "run", "--unit", "8", *MAKE, "[ -e notes.md ] || echo x > notes.md").returncode == 0


def test_a_command_that_cannot_be_started(node: LiveNode) -> None:
    """127 and 126, as a shell says it."""
    for command, code in (("/nowhere/x", 127), ("/etc/passwd", 126)):
        found = node.cli("step", "run", "--unit", "8", "--artifact", "a", command)
        assert found.returncode == code and found.stderr.startswith(f"8 is abandoned: {command} could not be started: ")
    found = node.cli("step", "run", "--unit", "8", "--artifact", "a", "\udcff")
    assert found.returncode == 127 and "could not be started" in found.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_the_command(node: LiveNode, number: signal.Signals) -> None:
    """Who ends `step run` ends its command, and the unit is closed with that reason."""
    process = running(node, *MAKE, "echo x > notes.md; exec sleep 60")
    until(lambda: (node.home.steps / "8" / "work" / "notes.md").exists(), what="the command")
    time.sleep(0.1)  # the shell becomes sleep
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (128 + number, f"8 is abandoned: killed by {number.name} ({number.value})\n")
    assert "failed: killed by" in node.records("CONFIRM", "8")[0]


def test_one_at_a_time_also_after_a_kill(node: LiveNode) -> None:
    """A second one is refused while the first runs, and while a command outlives a killed first one; then it can be run again."""
    first = running(node, *MAKE, "echo $$ > notes.md; exec sleep 60")
    pid_file = node.home.steps / "8" / "work" / "notes.md"
    command = until(lambda: pid_file.exists() and pid_file.read_text().strip(), what="the command")
    second = node.cli("step", "run", "--unit", "8", *MAKE, "echo other > notes.md")
    assert second.returncode == 2 and "8 is being worked on" in second.stderr
    for word in ("begin", "commit"):
        more = ["--artifact", "notes.md"] if word == "begin" else []
        assert "8 is being worked on" in node.cli("step", word, "--unit", "8", *more).stderr
    first.kill()
    first.wait()  # its pipes are the command's as well
    assert "8 is being worked on" in node.cli("step", "run", "--unit", "8", *MAKE, "echo other > notes.md").stderr
    os.kill(int(command), signal.SIGKILL)
    until(
        lambda: node.cli("step", "run", "--unit", "8", *MAKE, "echo other > notes.md").returncode == 0,
        what="another run",
    )
    assert (node.home.artifacts / "8" / "notes.md").read_text() == "other\n"
    assert len(node.records("INTENT", "8")) == len(node.records("CONFIRM", "8")) == 1
    first.communicate()


def test_killed_at_any_moment(node: LiveNode) -> None:
    """`step run` killed wherever, with the node running and without: run again it ends done, once, with the artifact whole."""
    node.start()
    chance = random.Random(8)
    for round_ in range(6):
        unit = f"round-{round_}"
        if round_ == 3:
            node.kill()
        process = running(node, *MAKE, "echo whole > notes.md", unit=unit)
        time.sleep(chance.uniform(0.1, 0.5))
        process.kill()
        process.communicate()
        again = ("step", "run", "--unit", unit, *MAKE, "echo whole > notes.md")
        until(lambda words=again: node.cli(*words).returncode == 0, what="done")
        assert (node.home.artifacts / unit / "notes.md").read_text() == "whole\n"
        assert len(node.records("INTENT", unit)) == len(node.records("CONFIRM", unit)) == 1
        assert not list(node.home.steps.iterdir())


def test_many_at_once_on_a_running_node(node: LiveNode) -> None:
    """32 that begin at the same moment: one INTENT for the unit that all name, one for each of their own."""
    node.start()
    names = [unit for n in range(16) for unit in ("same", f"unit-{n}")]
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda unit: do(node.home, "step/begin", {"unit": unit, "artifacts": ["a"]}), names))
    assert sum(one["changed"] for one in found) == 17
    assert len(node.records("INTENT", "same")) == 1
    assert node.stop() == 0
    assert sum(unit["kind"] == "step" and unit["status"] == "open" for unit in node.state()["units"].values()) == 17


def test_the_example_of_the_documentation(node: LiveNode, tmp_path: Path) -> None:
    """The script in docs/agents.md works as it is printed, and may be run again."""
    text = (Path(__file__).parents[2] / "docs" / "agents.md").read_text(encoding="utf-8")
    script = text.split("<!-- example: study -->\n\n```bash\n")[1].split("```")[0]
    env = {**os.environ, "PATH": f"{OUTLAST.parent}:{os.environ['PATH']}", "OUTLAST_HOME": str(node.home.root)}
    for told in ("8 is done: ", "8 is done already: "):
        done = subprocess.run(
            ["bash", "-c", script, "study", "8"], env=env, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0 and told in done.stdout, done.stdout + done.stderr
    assert (node.home.artifacts / "8" / "plots" / "size.txt").stat().st_size
