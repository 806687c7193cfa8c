"""docs/agents.md: the agents that it shows are run as they are printed."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from outlast.work.runner import AgentLimits, Outcome, run_agent

DOCS = (Path(__file__).parents[2] / "docs" / "agents.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\S+) -->\n+```\w+\n(.*?)```", DOCS, re.DOTALL))
INPUT = json.loads(re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)[0])
LIMITS = AgentLimits(timeout_s=60, stdout_bytes=1 << 20, artifact_bytes=1 << 20)


def run(name: str, task: dict[str, object], folder: Path) -> Outcome:
    """Run an example on a task, as the runtime does."""
    (folder / "work").mkdir()
    agent = folder / name
    agent.write_text(EXAMPLES[name], encoding="utf-8")
    agent.chmod(0o755)
    return asyncio.run(run_agent([str(agent)], task, folder / "work", LIMITS, {}))


@pytest.mark.parametrize("name", ["disk-watch", "word-count"])
def test_example_works(tmp_path: Path, name: str) -> None:
    """Both examples take the input that the page shows, leave an artifact, and sum it up in a line."""
    outcome = run(name, INPUT, tmp_path)
    assert (outcome.verdict, outcome.reason) == ("done", "")
    assert outcome.summary and outcome.files


def test_example_says_why_it_fails(tmp_path: Path) -> None:
    """The Python example refuses a task without words as the page says: exit 1, and its last line is the reason."""
    outcome = run("word-count", INPUT | {"task": " "}, tmp_path)
    assert (outcome.verdict, outcome.reason) == ("failed", "exit 1: the task has no words")
