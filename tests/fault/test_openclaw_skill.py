"""files/openclaw/skills/outlast/SKILL.md: what it teaches OpenClaw's agent works as it is written."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.live import LiveNode, pair, until

SKILL = (Path(__file__).parents[2] / "files" / "openclaw" / "skills" / "outlast" / "SKILL.md").read_text(
    encoding="utf-8"
)
TAUGHT = re.findall(r"`outlast ([a-z][^`]*)`", SKILL)
# What stands in place of what an agent chooses.
_CHOSEN = {
    "PEER": "axiom", "TASK": "host report", "TEXT": "the disk is new", "UNIT": "study-8", "KEY": "colour", "VALUE": "red",
    "ENTITY": "house", "ATTRIBUTE": "colour", "COMMAND": "sh -c 'echo found > out.md'",
}  # fmt: skip


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNode]:
    """coz, with axiom as its peer; both run."""
    with pair(tmp_path_factory.mktemp("skill")) as (coz, axiom):
        coz.start()
        axiom.start()
        yield coz


def words(taught: str) -> list[str]:
    """A command as it is typed, with something in place of every word in capitals."""
    for name, chosen in _CHOSEN.items():
        taught = re.sub(rf"\b{name}\b", chosen, taught)
    return shlex.split(taught)


def test_it_is_a_skill() -> None:
    """Its front matter is what OpenClaw reads, and it is short: its owner pays for every byte that an agent reads."""
    _, front, _ = SKILL.split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["name"] == "outlast" and 0 < len(told["description"]) < 300
    assert told["metadata"] == {"openclaw": {"requires": {"bins": ["outlast"]}}}
    assert len(SKILL.encode()) < 2600


def test_it_teaches_what_there_is_to_know() -> None:
    """Hand-offs, steps, state, facts, sub-agents, status: none is missing."""
    assert {"handoff", "step", "state", "facts", "spawn", "status", "note", "show"} <= {
        one.split()[0] for one in TAUGHT
    }


@pytest.mark.parametrize("taught", [one for one in TAUGHT if one.split()[0] not in ("show", "subagents", "spawn")])
def test_command_works(nodes: LiveNode, taught: str) -> None:
    """Typed as it stands there, in this order, each does what it says."""
    done = nodes.cli(*words(taught))
    assert done.returncode == 0, done.stderr


def test_handed_over_is_shown(nodes: LiveNode) -> None:
    """What was handed over without waiting is shown, by the unit that was printed, until it is done."""
    unit = nodes.json("handoff", "axiom", "host report", "--no-wait")["unit"]
    until(lambda: nodes.cli("show", unit).returncode == 0, what="the end of a hand-off")


def test_spawn_is_taken(nodes: LiveNode) -> None:
    """The command for a sub-agent is one that is understood; where the machine has no sandbox that is what it says."""
    (taught,) = (one for one in TAUGHT if one.startswith("spawn"))
    done = nodes.cli(*words(taught))
    if done.returncode == 0:
        assert nodes.cli("subagents", done.stdout.split()[0]).returncode == 0
    else:
        assert "sandbox" in done.stderr or "user namespaces" in done.stderr, done.stderr
