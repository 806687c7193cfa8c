"""What site.yml does with openclaw_adopt: true, as far as to the gateway, which the slow tests start for real."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.oldclaw import CONFIG, installed, listed

from .conftest import Clone, Sketch

# The plays of site.yml that come before any service.
BOOK = """
- hosts: outlast
  gather_facts: false
  roles: [outlast.agents.preflight, outlast.agents.runtime]
  tasks:
    - ansible.builtin.include_role: {name: outlast.agents.openclaw}
"""
# Stands in for OpenClaw, which takes every configuration.
NODE = '#!/bin/sh\necho \'{"valid":true,"path":"x","warnings":[]}\'\n'
NAME = """
from ansible_collections.outlast.agents.plugins.action.openclaw_release import digest, sources
print("2026.9.6-" + digest(sources("2026.9.6")))
"""


@pytest.fixture
def machine(clone: Clone, sketch: Sketch) -> Sketch:
    """A node to be, on a machine on which somebody has an OpenClaw."""
    # macOS and the temporary folders of tests: all paths as the node sees them.
    top = sketch.homes.resolve()
    name = clone.run("env", f"PYTHONPATH={clone.root}/collections", str(clone.root / ".venv/bin/python"), "-c", NAME)
    assert name.code == 0, name.text
    release = top / "openclaw/releases" / name.text.strip()
    for path in ("node/bin/node", "node_modules/openclaw/openclaw.mjs", "node_modules/.package-lock.json", ".complete"):
        (release / path).parent.mkdir(parents=True, exist_ok=True)
        (release / path).write_text(NODE)
        (release / path).chmod(0o755)
    (top / "openclaw/current-axiom").symlink_to(f"releases/{release.name}")
    (sketch.path.parent / "book.yml").write_text(BOOK)
    installed(top / "pat/.openclaw")
    sketch.hosts.pop("coz")
    sketch.common |= {
        "openclaw_enabled": True, "openclaw_port": sketch.hosts["axiom"]["outlast_port"] + 120,
        "openclaw_dir": str(top / "openclaw"), "openclaw_adopt": True, "openclaw_adopt_from": str(top / "pat/.openclaw"),
    }  # fmt: skip
    return sketch


def test_it_is_refused_until_it_can_be_had_and_then_it_is_had_once(clone: Clone, machine: Sketch) -> None:
    """What stands in the way is said before anything changes; --check changes nothing; then the node has it, the person too, and
    what the inventory lacks is named; the next run changes nothing."""
    old, home = machine.homes / "pat/.openclaw", machine.homes / "axiom"

    def play(*words: str, **common: Any) -> Any:
        machine.common |= common
        done = clone.play(str(machine.path.parent / "book.yml"), "-i", machine.write(), *words)
        assert "Traceback" not in done.text and "hush" not in done.text, done.text
        return done

    refused = play()
    assert refused.code != 0 and "openclaw_agents: main, with sessions in" in refused.text, refused.text
    assert "set openclaw_agents: {main: {}}" in refused.text
    assert not home.exists()
    before = listed(old)
    tried = play("--check", openclaw_agents={"main": {}})
    assert tried.code == 0 and tried.changed() and not (home / "var").exists(), tried.text
    done = play()
    assert done.code == 0, done.text
    assert "with main; there it is as it was" in done.text
    assert (
        "openclaw.json says channels.telegram, and the inventory does not; mend: say it in openclaw_channels"
        in done.text
    )
    assert "openclaw.json says agents.entries.main.identity" in done.text
    assert ".env says ANTHROPIC_API_KEY, TELEGRAM_BOT_TOKEN" in done.text
    assert listed(old) == before
    assert (home / "workspace/AGENTS.md").read_text() == "be kind\n"
    assert (home / "var/home/.openclaw/agents/main/agent/openclaw-agent.sqlite").exists()
    assert "hush" in (home / "etc/openclaw/adopted.json").read_text() and "hush" in CONFIG
    assert json.loads((home / "etc/openclaw/openclaw.json").read_text())["agents"]["entries"].keys() == {"main"}
    again = play()
    assert again.code == 0 and again.changed() == 0 and "with main" not in again.text, again.text
