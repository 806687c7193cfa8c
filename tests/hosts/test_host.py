"""Role host on a Pi that is at work: who may see what, what is a person's stays theirs, and a mesh that peers talk over."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.hosts import Hosts, Machine
from support.on_hosts import changed, outlast

PLAY = """
- hosts: outlast
  gather_facts: false
  tasks:
    - ansible.builtin.setup: {gather_subset: ["!all", "!min", platform]}
    - ansible.builtin.include_role: {name: outlast.agents.host}
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGaE1dKzEhHCkGZJtzcPBkZWp0OZkMBXVlWMGBMvRwRO somebody"
PASSWORD = "$6$salt$stays"
WANTED = {
    "outlast_admin": "ada",
    "outlast_admin_keys": [KEY],
    "outlast_packages": ["tree"],
    "outlast_readers": ["dashboard"],
    "outlast_time_zone": "Europe/Berlin",
    "outlast_log_limit": "64MiB",
}


def play(hosts: Hosts, folder: Path, *words: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run the role, alone."""
    (folder / "play.yml").write_text(PLAY)
    (folder / "extra.yml").write_text(yaml.safe_dump(variables))
    return hosts.play(str(folder / "play.yml"), "-e", f"@{folder / 'extra.yml'}", *words)


def as_reader(machine: Machine, command: str) -> str:
    """What the dashboard's account gets to see."""
    return machine.console("runuser", "-u", "dashboard", "--", "sh", "-c", f"cd /; {command}", check=False)


@pytest.fixture(scope="module")
def prepared(hosts: Hosts, axiom: Machine) -> Iterator[str]:
    """Axiom as WANTED, on which ada had an account before; a line of the shadow file is returned."""
    zone = axiom.console("readlink", "/etc/localtime").strip()
    axiom.console("useradd", "--create-home", "dashboard")
    axiom.console("useradd", "--create-home", "--shell", "/bin/dash", "--password", PASSWORD, "ada")
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = play(hosts, Path(folder), "--limit", "axiom", **WANTED)
            assert done.returncode == 0, done.stdout
            yield folder
        finally:
            play(hosts, Path(folder), "--limit", "axiom")
            axiom.console(
                "sh", "-c", f"ln -sfn {zone} /etc/localtime; userdel -rf ada; userdel -rf dashboard", check=False
            )


def test_a_second_run_changes_nothing(hosts: Hosts, prepared: str) -> None:
    """Asked for the same again, on a node at work, the role looks and leaves all alone, in check mode too."""
    for words in ([], ["--check"]):
        done = play(hosts, Path(prepared), "--limit", "axiom", *words, **WANTED)
        assert done.returncode == 0, done.stdout
        assert changed(done.stdout) == 0, done.stdout


def test_a_reader_sees_what_agents_write(prepared: str, axiom: Machine, coz: Machine) -> None:
    """All of the workspace is readable for a reader, and so is what an agent leaves there from now on."""
    home = axiom.variables["outlast_home"]
    said = outlast(coz, "handoff", "axiom", "host report")
    unit = said.rstrip().rpartition("workspace/artifacts/")[2].partition("/")[0]
    assert "report.md" in as_reader(axiom, f"ls {home}/workspace/artifacts/{unit}")
    assert len(as_reader(axiom, f"cat {home}/workspace/artifacts/{unit}/report.md")) > 100
    assert as_reader(axiom, f"find {home}/workspace ! -readable") == ""


def test_a_reader_sees_nothing_else(prepared: str, axiom: Machine) -> None:
    """Keys, configuration, work in hand and the home's own names stay closed to a reader, who can write nothing."""
    home = axiom.variables["outlast_home"]
    for place in (".", "etc", "etc/keys", "var", "var/tasks", "run"):
        assert as_reader(axiom, f"ls {home}/{place} 2>/dev/null") == "", place
    assert as_reader(axiom, f"cat {home}/etc/node.yml {home}/etc/keys/axiom.key 2>/dev/null") == ""
    assert as_reader(axiom, f"find {home}/workspace -writable") == ""


def test_a_person_keeps_password_and_shell(prepared: str, axiom: Machine) -> None:
    """Who had an account before is an administrator now, and logs in as ever, or with the new key."""
    assert axiom.console("getent", "shadow", "ada").split(":")[1] == PASSWORD
    ada = axiom.inside.user("ada")
    assert ada.shell == "/bin/dash"
    assert "sudo" in ada.groups
    assert KEY in axiom.console("cat", "/home/ada/.ssh/authorized_keys").splitlines()


def test_the_machine_is_as_the_inventory_says(prepared: str, axiom: Machine) -> None:
    """Packages, time zone, the journal's limit, and an account for the agents that no password opens."""
    assert axiom.inside.package("tree").is_installed
    assert axiom.console("readlink", "/etc/localtime").strip().endswith("/Europe/Berlin")
    assert "SystemMaxUse=64M\n" in axiom.console("systemd-analyze", "cat-config", "systemd/journald.conf")
    assert axiom.console("getent", "shadow", "outlast").split(":")[1] == "*"
    assert axiom.inside.user("outlast").shell == "/bin/sh"


def test_who_is_no_reader_any_more_sees_nothing(hosts: Hosts, prepared: str, axiom: Machine) -> None:
    """Out of the list, out of the files: in the next run, and nothing of a list is left where it was."""
    home = axiom.variables["outlast_home"]
    done = play(hosts, Path(prepared), "--limit", "axiom", **{**WANTED, "outlast_readers": []})
    assert done.returncode == 0, done.stdout
    assert as_reader(axiom, f"cat {home}/workspace/STATE.json 2>/dev/null") == ""
    assert "dashboard" not in axiom.console("getfacl", "-Rp", f"{home}/workspace")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("outlast_packages", ["no-such-package"], "outlast_packages: No package matching 'no-such-package'"),
        ("outlast_readers", ["nobody-here"], "outlast_readers: there is no account nobody-here; mend: "),
        ("outlast_time_zone", "Middle/Earth", "outlast_time_zone: there is no zone Middle/Earth; mend: "),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    hosts: Hosts, prepared: str, variable: str, value: object, said: str
) -> None:
    """A package, an account or a zone that does not exist is named, with the mend."""
    done = play(hosts, Path(prepared), "--limit", "axiom", **{**WANTED, variable: value})
    assert done.returncode != 0
    assert said in done.stdout


def test_two_pis_talk_over_the_mesh() -> None:
    """WireGuard's keys are made on the machines, only their public halves travel, and it is there after a reboot."""
    mesh = {
        "outlast_mesh": {"kind": "wireguard"},
        "outlast_mesh_address": "{{ {'axiom': '10.77.0.1', 'standby': '10.77.0.2'}[inventory_hostname] }}",
    }
    with tempfile.TemporaryDirectory(prefix="outlast-mesh-") as name:
        folder = Path(name)
        pair = Hosts.create(folder / "hosts", {"axiom": "pi-amd64", "standby": "pi-amd64"})
        try:
            done = play(pair, folder, **mesh)
            assert done.returncode == 0, done.stdout
            again = play(pair, folder, **mesh)
            assert changed(again.stdout) == 0, again.stdout
            hello = "import socket; print(socket.create_connection(('10.77.0.2', 22), 20).recv(4).decode())"
            assert "SSH-" in pair["axiom"].console("python3", "-c", hello)
            private = pair["axiom"].console("cat", "/etc/wireguard/outlast.key").strip()
            spoken = play(pair, folder, "-vvv", "--diff", **mesh).stdout
            assert private not in done.stdout + spoken + pair["standby"].console("cat", "/etc/wireguard/outlast.conf")
            pair["axiom"].reboot()
            assert "SSH-" in pair["axiom"].console("python3", "-c", hello)
            left = play(pair, folder)
            assert left.returncode == 0, left.stdout
            assert pair["axiom"].console("ls", "/etc/wireguard") == ""
        finally:
            pair.destroy()
