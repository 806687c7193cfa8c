"""Who is let in and known on a node, by what its peers told: the role's own files, filled in without a host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
ROLE = REPOSITORY / "roles" / "siblings"
KEYS = {
    name: f"AAAAC3NzaC1lZDI1NTE5AAAAI{letter * 43}"
    for name, letter in zip(("coz", "axiom", "witness"), "CAW", strict=True)
}
PLAY = f"""
- hosts: outlast
  gather_facts: false
  connection: local
  vars_files: ["{ROLE}/vars/main.yml"]
  tasks:
    - ansible.builtin.set_fact: {{__siblings_own: "{{{{ told }}}}"}}
    - ansible.builtin.copy:
        dest: "{{{{ target }}}}/{{{{ inventory_hostname }}}}-{{{{ item }}}}"
        content: "{{{{ lookup('ansible.builtin.template', '{ROLE}/templates/' ~ item ~ '.j2') }}}}"
        mode: "0600"
      loop: [authorized_keys, known_hosts]
"""


def fill(
    folder: Path, told: dict[str, object], peers: dict[str, list[str]], limit: str = "all"
) -> dict[str, list[str]]:
    """Fill the files in for nodes that told this; return their lines without the comment, by ``NODE-FILE``."""
    hosts = {
        name: {
            "told": {"own": "", "host": "", "let_in": {}, "known": {}, **told.get(name, {})},  # type: ignore[dict-item]
            **({"outlast_peers": peers[name]} if name in peers else {}),
        }
        for name in KEYS
    }
    common = {
        **yaml.safe_load((ROLE / "defaults/main.yml").read_text()),
        "outlast_home": "/srv/a home",
        "target": str(folder),
        "ansible_python_interpreter": sys.executable,
    }
    (folder / "hosts.json").write_text(json.dumps({"outlast": {"hosts": hosts, "vars": common}}))
    (folder / "play.yml").write_text(PLAY)
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [program, folder / "play.yml", "-i", folder / "hosts.json", "--limit", limit],
        cwd=REPOSITORY, env={**os.environ, "ANSIBLE_CONFIG": "ansible.cfg", "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return {path.name: path.read_text().splitlines()[1:] for path in folder.glob("*_*s")}


@pytest.fixture
def told() -> dict[str, object]:
    return {name: {"own": key, "host": key[:-3] + "HHH"} for name, key in KEYS.items()}


def test_every_peer_is_let_in_to_one_command_and_known(tmp_path: Path, told: dict[str, object]) -> None:
    """A line a peer: its own key, the command with its name, nothing else allowed; and its machine's host key by its name."""
    files = fill(tmp_path, told, {})
    command = "'/srv/a home/current/bin/outlast-files' --home '/srv/a home' --peer axiom"
    assert files["coz-authorized_keys"] == [
        f'restrict,command="{command}" ssh-ed25519 {KEYS["axiom"]} axiom',
        f'restrict,command="{command.replace("axiom", "witness")}" ssh-ed25519 {KEYS["witness"]} witness',
    ]
    assert files["coz-known_hosts"][0] == f"axiom ssh-ed25519 {KEYS['axiom'][:-3]}HHH"
    assert len(files["witness-known_hosts"]) == 2


def test_who_is_no_peer_any_more_is_forgotten(tmp_path: Path, told: dict[str, object]) -> None:
    """What was known before counts only for those that are peers now."""
    told["coz"] = {**told["coz"], "let_in": KEYS, "known": KEYS}  # type: ignore[dict-item]
    files = fill(tmp_path, told, {"coz": ["axiom"]})
    assert [line.rpartition(" ")[2] for line in files["coz-authorized_keys"]] == ["axiom"]
    assert [line.partition(" ")[0] for line in files["coz-known_hosts"]] == ["axiom"]


def test_who_is_not_in_the_run_stays_known(tmp_path: Path, told: dict[str, object]) -> None:
    """A node that sleeps, or was left out, keeps its place on the others; one that was never seen has none."""
    told["coz"] = {**told["coz"], "let_in": {"axiom": KEYS["axiom"]}, "known": {"axiom": KEYS["axiom"]}}  # type: ignore[dict-item]
    files = fill(tmp_path, told, {}, limit="coz")
    assert [line.rpartition(" ")[2] for line in files["coz-authorized_keys"]] == ["axiom"]
    assert files["coz-known_hosts"] == [f"axiom ssh-ed25519 {KEYS['axiom']}"]
