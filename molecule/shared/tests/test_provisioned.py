"""What holds on two hosts that site.yml has provisioned, from outside and from inside."""

from __future__ import annotations

import plistlib
import socket
import subprocess
from pathlib import Path

import pytest
from support.hosts import Hosts, Machine
from support.on_hosts import changed, outlast

PORT = 18801


@pytest.fixture(params=["axiom", "coz"])
def machine(request: pytest.FixtureRequest, hosts: Hosts) -> Machine:
    """Each of the two."""
    return hosts[request.param]


def test_both_nodes_are_well(hosts: Hosts) -> None:
    """Looked at from the outside in, nothing is wrong, and looking changes nothing."""
    done = hosts.play("playbooks/verify.yml")
    assert done.returncode == 0, done.stdout
    assert changed(done.stdout) == 0, done.stdout


@pytest.mark.parametrize(("sender", "receiver"), [("coz", "axiom"), ("axiom", "coz")])
def test_work_is_handed_over_and_confirmed(hosts: Hosts, sender: str, receiver: str) -> None:
    """Each node takes work from the other, over the network and through both firewalls."""
    assert "done: report.md" in outlast(hosts[sender], "handoff", receiver, "host report", "--wait", "1m")


def test_no_unit_failed(axiom: Machine) -> None:
    """systemd is content with everything that runs on the Pi."""
    assert axiom.console("systemctl", "--failed", "--plain", "--no-legend").strip() == ""


def test_the_runtime_starts_at_boot_as_its_own_user(axiom: Machine) -> None:
    """The Pi's service is enabled, runs, and is not root's."""
    service = axiom.inside.service("outlast-runtime")
    assert service.is_enabled
    assert service.is_running
    assert axiom.console("ps", "-C", "python", "-o", "user:20=").split() == ["outlast"]


def test_the_daemon_starts_before_anyone_logs_in(coz: Machine) -> None:
    """The Mac's job is a LaunchDaemon that names the agent's user."""
    plist = "/Library/LaunchDaemons/outlast.runtime.plist"
    assert coz.console("find", plist, "-user", "root", "-perm", "0644")
    assert coz.inside.file(plist).contains("<key>UserName</key>")


def test_every_definition_of_a_daemon_is_a_property_list(coz: Machine, tmp_path: Path) -> None:
    """What site.yml wrote for launchd is read by plistutil as Python reads it: two readers that know nothing of each other."""
    listed = coz.console("sh", "-c", "ls /Library/LaunchDaemons/outlast.*.plist").split()
    assert "/Library/LaunchDaemons/outlast.runtime.plist" in listed
    for path in listed:
        text, binary = coz.console("cat", path), tmp_path / Path(path).name
        subprocess.run(["plistutil", "-i", "-", "-f", "bin", "-o", binary], input=text.encode(), check=True)
        assert plistlib.loads(binary.read_bytes()) == plistlib.loads(text.encode()), path


def test_what_root_executes_is_not_the_agents_to_write(machine: Machine) -> None:
    """Agents run as the node's user, so the runtime, its configuration and its services belong to root."""
    home = machine.variables["outlast_home"]
    places = [f"{home}/{name}" for name in ("bin", "releases", "current", "etc/node.yml")]
    assert machine.console("find", *places, "!", "-user", "root").strip() == ""
    assert machine.console("find", *places, "-perm", "-o+w", "!", "-type", "l").strip() == ""


def test_nobody_else_reads_the_keys(machine: Machine) -> None:
    """The keys are the node's user's alone."""
    keys = f"{machine.variables['outlast_home']}/etc/keys"
    assert machine.console("find", keys, "!", "-user", "outlast").strip() == ""
    assert machine.console("find", keys, "-perm", "/077").strip() == ""


def test_a_stranger_does_not_reach_the_node(axiom: Machine) -> None:
    """The Pi's firewall lets its peers to the node's port, and nobody else: this machine is none."""
    if axiom.is_emulated:
        pytest.skip("the emulator does not hand nftables' rules on")
    with pytest.raises(OSError), socket.create_connection((axiom.address, PORT), timeout=3):
        pass


def test_a_password_does_not_open_a_host(axiom: Machine) -> None:
    """sshd offers keys and nothing else."""
    done = axiom.ssh(
        "true", options=["PubkeyAuthentication=no", "PreferredAuthentications=password,keyboard-interactive"]
    )
    assert done.returncode == 255
    assert "(publickey)" in done.stderr


def test_the_operator_keeps_the_way_in(machine: Machine) -> None:
    """After all that was done to it, a fresh login works, and sudo where it is needed."""
    assert machine.ssh("id", "-un").stdout.strip() == "operator"
    assert machine.ssh("sudo", "-n", "true").returncode == 0
