"""A hardened host keeps strangers out, and its operator never: whatever goes wrong, the state before comes back by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.hosts import REPOSITORY, Hosts
from support.machine import Machine
from support.on_hosts import changed

PLAY = """
- hosts: outlast
  gather_facts: false
  tasks:
    - ansible.builtin.setup: {gather_subset: ["!all", "!min", platform]}
    - ansible.builtin.include_role: {name: outlast.agents.hardening, tasks_from: %s}
"""
# Nobody logs in from there, and the address that the operator comes from is not let in beside it, as it is in real life.
LOCKED_OUT = {"__hardening_admit_operator": False, "outlast_ssh_from": ["192.0.2.0/24"]}
DROP_IN = "/etc/ssh/sshd_config.d/00-outlast.conf"
WATCHER = "/etc/outlast/rollback.py"
PASSWORD = "correct horse"


class Play:
    """Hardening alone, on axiom alone."""

    def __init__(self, hosts: Hosts, folder: Path) -> None:
        self.hosts, self.folder = hosts, folder

    def run(self, *words: str, part: str = "main.yml", **variables: Any) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return self.hosts.play(*self._words(part, variables), *words)

    def start(self, **variables: Any) -> subprocess.Popen[bytes]:
        """Begin it, so that it can be killed; what it prints is for nobody."""
        command = [str(Path(sys.executable).with_name("ansible-playbook")), *self._words("main.yml", variables)]
        return subprocess.Popen(
            [*command, "-i", str(self.hosts.inventory)],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _words(self, part: str, variables: dict[str, Any]) -> list[str]:
        book, extra = self.folder / "play.yml", self.folder / "extra.yml"
        book.write_text(PLAY % part)
        extra.write_text(yaml.safe_dump(variables))
        return [str(book), "--limit", "axiom", "-e", f"@{extra}"]


@pytest.fixture
def play(hosts: Hosts, axiom: Machine, tmp_path: Path) -> Iterator[Play]:
    """The play; afterwards axiom is hardened, as site.yml left it."""
    made = Play(hosts, tmp_path)
    yield made
    done = made.run()
    assert done.returncode == 0, done.stdout
    assert axiom.console("sh", "-c", f"ls -d {WATCHER} /etc/outlast/trial", check=False) == ""


def until(condition: Callable[[], object], limit_s: float = 120.0) -> None:
    """Wait until a condition holds; fails after the limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.2)


def rules(machine: Machine) -> str:
    """The rules in force, seen at the console."""
    return machine.console("nft", "list", "ruleset", check=False)


def can_log_in(machine: Machine) -> bool:
    """Whether a login of its own succeeds now, sudo included."""
    return machine.ssh("sudo", "-n", "true", options=["ConnectTimeout=5"]).returncode == 0


def reaches(address: str, port: int) -> str:
    """A program that says whether a connection comes about."""
    return f"import socket; socket.create_connection(({address!r}, {port}), 5).close(); print('in')"


def locked_out(play: Play, axiom: Machine, **variables: Any) -> None:
    """Have a run lock everybody out, and kill it, all of it, before the trial ends."""
    with play.start(**LOCKED_OUT, **variables) as process:
        until(lambda: "192.0.2.0/24" in rules(axiom))
        os.killpg(process.pid, signal.SIGKILL)
    assert not can_log_in(axiom)


def test_peers_reach_the_node_and_strangers_do_not(hosts: Hosts, axiom: Machine, coz: Machine) -> None:
    """The sibling connects to the node's port; this machine, which is no node, may log in and do no more."""
    port = int(yaml.safe_load((hosts.inventory / "group_vars/outlast.yml").read_text())["outlast_port"])
    program = reaches(axiom.address, port)
    assert coz.console("python3", "-c", program) == "in\n"
    stranger = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (stranger.stdout, "ConnectionRefusedError" in stranger.stderr) == ("", True)
    assert can_log_in(axiom)


def test_tables_of_others_are_left_alone(play: Play, axiom: Machine) -> None:
    """What a container engine or fail2ban put into the kernel is there after the rules were changed, and after they went."""
    axiom.console("nft", "add table inet somebody; add chain inet somebody mine")
    try:
        done = play.run(outlast_open_ports=[8888])
        assert done.returncode == 0, done.stdout
        assert "tcp dport 8888 accept" in rules(axiom)
        assert "table inet somebody" in rules(axiom)
        done = play.run(part="remove.yml")
        assert done.returncode == 0, done.stdout
        assert "outlast" not in rules(axiom)
        assert "table inet somebody" in rules(axiom)
    finally:
        axiom.console("nft", "delete table inet somebody")


def test_the_plan_comes_first_and_check_mode_stops_there(play: Play, axiom: Machine) -> None:
    """On a host that was never hardened, what will be closed is said by name, and check mode does no more than say it."""
    assert play.run(part="remove.yml").returncode == 0
    before = rules(axiom)
    server = "import http.server; http.server.test(port=3300, bind='0.0.0.0')"
    axiom.console("systemd-run", "--unit", "somebodys", "python3", "-c", server)
    try:
        until(lambda: ":0CE4 " in axiom.console("cat", "/proc/net/tcp"))
        done = play.run("--check")
    finally:
        axiom.console("systemctl", "stop", "somebodys")
    assert done.returncode == 0, done.stdout
    assert (
        "0.0.0.0:3300/tcp (python3) is open now and will be closed; keep it with outlast_open_ports: [3300]"
        in done.stdout
    )
    assert "sshd: passwords are no longer accepted" in done.stdout
    assert rules(axiom) == before
    assert axiom.console("sh", "-c", f"ls -d {DROP_IN} /etc/outlast", check=False) == ""


def test_rules_that_lock_out_are_taken_back(play: Play, axiom: Machine) -> None:
    """The play waits until the state before is back, fails with one line that says so, and the operator logs in again."""
    before = rules(axiom)
    done = play.run(**LOCKED_OUT, outlast_trial="10s")
    assert done.returncode == 2, done.stdout
    assert "no fresh login succeeded" in done.stdout and "they are as they were before" in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout
    assert can_log_in(axiom)
    assert rules(axiom) == before


def test_a_killed_run_is_taken_back(play: Play, axiom: Machine) -> None:
    """Nobody has to log in for that: kill -9 of Ansible between change and proof, and the state before comes back in time."""
    before = rules(axiom)
    locked_out(play, axiom, outlast_trial="10s")
    until(lambda: rules(axiom) == before)
    until(lambda: can_log_in(axiom))


def test_a_restart_during_a_trial_is_the_state_before(play: Play, axiom: Machine) -> None:
    """Long before the time is up, a machine that was switched off and on again lets its operator in."""
    locked_out(play, axiom, outlast_trial="1h")
    axiom.reboot()
    until(lambda: can_log_in(axiom))
    assert "192.0.2.0/24" not in rules(axiom)
    assert "table inet outlast" in rules(axiom)
    assert axiom.console("systemctl", "--failed", "--no-legend") == ""


def test_passwords_go_only_after_a_login_by_key(play: Play, axiom: Machine) -> None:
    """For an operator who comes with a password, passwords stay, the rest goes on; once a key logs in they are refused."""
    assert play.run(part="remove.yml").returncode == 0
    axiom.console("chpasswd", stdin=f"operator:{PASSWORD}\n")
    try:
        # Connections of its own: one that a key had opened would be shared.
        own = {"ansible_control_path_dir": tempfile.mkdtemp(prefix="ol-"), "ansible_ssh_private_key_file": ""}
        done = play.run(**own, ansible_password=PASSWORD)
        assert done.returncode == 0, done.stdout
        assert "sshd: passwords stay on, a login by key alone did not succeed" in done.stdout
        assert f"mend: ssh-copy-id operator@{axiom.address}" in done.stdout
        assert "passwordauthentication yes" in axiom.console("sshd", "-T")
        assert "table inet outlast" in rules(axiom)
        done = play.run()
        assert done.returncode == 0, done.stdout
        assert "passwordauthentication no" in axiom.console("sshd", "-T")
        offered = axiom.ssh("true", options=["PubkeyAuthentication=no", "PreferredAuthentications=password"])
        assert "Permission denied (publickey)" in offered.stderr
        assert can_log_in(axiom)
    finally:
        axiom.console("passwd", "-l", "operator")


def test_an_sshd_that_does_not_heed_the_drop_in_is_found(play: Play, axiom: Machine) -> None:
    """Where sshd's own file does not include the folder, that is said with its mend, and it is no failure."""
    axiom.console("sed", "-i", "s/^Include/#Include/", "/etc/ssh/sshd_config")
    try:
        done = play.run()
        assert (done.returncode, changed(done.stdout)) == (0, 0), done.stdout
        assert "sshd: passwords are still accepted" in done.stdout
        assert "make 'Include /etc/ssh/sshd_config.d/*.conf' its first line" in done.stdout
    finally:
        axiom.console("sed", "-i", "s/^#Include/Include/", "/etc/ssh/sshd_config")


def test_sudo_is_scoped(axiom: Machine) -> None:
    """The administrator runs outlast and looks after its service without a password; the agents' user may do nothing."""
    allowed = axiom.console("sudo", "-l", "-U", "operator")
    assert "(outlast) NOPASSWD: /var/lib/outlast/bin/outlast" in allowed
    assert "(root) NOPASSWD: /usr/bin/systemctl restart outlast-runtime.service" in allowed
    assert "*" not in axiom.console("grep", "-v", "^#", "/etc/sudoers.d/outlast")
    assert "not allowed to run sudo" in axiom.console("sudo", "-l", "-U", "outlast", check=False)


def test_security_updates_come_by_themselves(axiom: Machine) -> None:
    """The lists are fetched and upgrades installed daily, from the security archive too, and the machine is not restarted."""
    told = axiom.console("apt-config", "dump")
    for line in ('APT::Periodic::Unattended-Upgrade "1";', 'Unattended-Upgrade::Automatic-Reboot "false";'):
        assert line in told
    assert "label=Debian-Security" in told


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"outlast_trial": "60"}, "outlast_trial: '60' is not a number with one of the units"),
        ({"outlast_reboot_time": "4am"}, "outlast_reboot_time: '4am' is no time of day; mend: write it like 04:00"),
        ({"outlast_ssh_from": ["home"]}, "outlast_ssh_from: 'home' is no network; mend: write it like 192.168.1.0/24"),
        (
            {"outlast_open_ports": [{"prot": 1}]},
            "outlast_open_ports: {'prot': 1} is no port to open; mend: write a port",
        ),
    ],
)
def test_a_mistake_in_the_inventory_changes_nothing(
    play: Play, axiom: Machine, variables: dict[str, Any], line: str
) -> None:
    """One line names the variable, what is wrong with it and how it is written, before anything is changed."""
    before = rules(axiom)
    done = play.run(**variables)
    assert done.returncode == 2
    assert line in " ".join(done.stdout.split()) and "Traceback" not in done.stdout
    assert (changed(done.stdout), rules(axiom)) == (0, before)
