"""The role openclaw by Ansible itself, on releases that stand in for the real ones: which release a node is left with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "collections"))

from ansible_collections.outlast.agents.plugins.action.openclaw_release import digest, sources  # noqa: E402

OLD, NEW = (f"{version}-{digest(sources(version))}" for version in ("2026.9.5", "2026.9.7"))
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: outlast.agents.openclaw, tasks_from: "{{ part }}"}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A node's home with an old release that takes every configuration, and a new one that refuses it."""
    for name, said in ((OLD, '{"valid":true}'), (NEW, '{"issues":[{"path":"gateway.port","message":"gone"}]}')):
        for part in ("node/bin/node", "node_modules/openclaw/openclaw.mjs", "node_modules/.package-lock.json"):
            path = tmp_path / "openclaw/releases" / name / part
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"#!/bin/sh\necho '{said}'\n" if part.startswith("node/") else '{"packages": {}}')
            path.chmod(0o755)
        (tmp_path / "openclaw/releases" / name / ".complete").touch()
    (tmp_path / "etc").mkdir()
    (tmp_path / "current").symlink_to(Path(sys.prefix))
    openclaw = {"release": f"{tmp_path}/openclaw/current-axiom", "agent": "axiom"}
    listen = {"host": "127.0.0.1", "port": 27801}
    node = {"node": "axiom", "listen": listen, "agent": {"command": ["/bin/true"]}, "openclaw": openclaw}
    (tmp_path / "etc/node.yml").write_text(json.dumps(node))
    return tmp_path


def play(home: Path, part: str, version: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a part of the role for the node axiom."""
    values = {
        "part": part,
        "outlast_home": str(home),
        "openclaw_version": version.rpartition("-")[0],
        "__preflight_openclaw": {"hosts": {"axiom": {"secrets": {}}}},
        "ansible_python_interpreter": sys.executable,
        **more,
    }
    path = home / "play.yml"
    path.write_text(PLAY)
    program = Path(sys.executable).with_name("ansible-playbook")
    return subprocess.run(
        [program, "-i", "axiom,", "-c", "local", "-e", json.dumps(values), path],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def current(home: Path) -> str:
    """The release that the node has."""
    return (home / "openclaw/current-axiom").resolve().name


def test_a_release_that_refuses_the_configuration_is_not_left_there(home: Path) -> None:
    """What the new release says is the one error, and the node has the release that its configuration works with, with nothing on
    trial; also where a run was cut off between the two."""
    done = play(home, "main.yml", OLD)
    assert done.returncode == 0, done.stdout
    (home / "etc/openclaw/before").rename(home / "etc/openclaw/proved")
    for _ in range(2):
        refused = play(home, "main.yml", NEW)
        assert refused.returncode != 0 and "openclaw_config: gateway.port: gone; correct that in " in refused.stdout, (
            refused.stdout
        )
        assert current(home) == OLD
        assert not (home / "etc/openclaw/before").exists()
        (home / "openclaw/current-axiom").unlink()
        (home / "openclaw/current-axiom").symlink_to(f"releases/{NEW}")


def test_going_back_needs_no_word_of_the_proof(home: Path) -> None:
    """A proof that was killed says nothing: the release of before is there again all the same, with its configuration; where it is not
    there whole any more, that is the error, and it is still known."""
    assert play(home, "main.yml", OLD).returncode == 0
    (home / "etc/openclaw/before").rename(home / "etc/openclaw/proved")
    text = (home / "etc/openclaw/openclaw.json").read_text()
    (home / f"openclaw/releases/{NEW}/node/bin/node").write_text("#!/bin/sh\necho '{}'\n")
    put = play(home, "main.yml", NEW, openclaw_config={"logging": {"level": "debug"}})
    assert put.returncode == 0 and current(home) == NEW, put.stdout
    (home / f"openclaw/releases/{OLD}/.complete").rename(home / "complete")
    gone = play(home, "back.yml", NEW)
    assert f"openclaw: {OLD}, which worked before, is not there whole; mend: " in gone.stdout, gone.stdout
    (home / "complete").rename(home / f"openclaw/releases/{OLD}/.complete")
    # The runtime, which comes next, is none of this test's.
    play(home, "back.yml", NEW, runtime_trial="never")
    assert current(home) == OLD
    assert (home / "etc/openclaw/openclaw.json").read_text() == text
