"""What goes wrong with real hosts: each is one line with its mend, nothing is left half-done, and whoever is well goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.hosts import Hosts
from support.machine import REPOSITORY, Machine, checked
from support.on_hosts import bent, changed

UNITS = {
    "axiom": ("/etc/systemd/system/outlast-runtime.service", "# canary-edit"),
    "coz": ("/Library/LaunchDaemons/outlast.runtime.plist", "<!-- canary-edit -->"),
}
OLD = "sys.version_info = type('version_info', (tuple,), {'major': 3, 'minor': 9})((3, 9, 2, 'final', 0))"
NARROW = "sys.maxsize = 2**31 - 1"
LATE = "real = time.time; time.time = lambda: real() + 3600"
LIMIT_S = 900.0


@contextmanager
def python_that_believes(machine: Machine, code: str) -> Iterator[None]:
    """The host with an interpreter that takes something for true that is not."""
    wrapper = 'exec env PYTHONPATH=/opt/bent /usr/bin/python3 "$@"'
    script = f"mkdir -p /opt/bent; cat >/opt/bent/sitecustomize.py; echo '#!/bin/sh\n{wrapper}' >/opt/bent/python; chmod +x /opt/bent/python"
    machine.console("sh", "-c", script, stdin=f"import sys, time\n{code}\n")
    try:
        with bent(machine, ansible_python_interpreter="/opt/bent/python"):
            yield
    finally:
        machine.console("rm", "-r", "/opt/bent")


def assert_finding(text: str, *words: str) -> None:
    """One line holds all the words, and the next one is its mend; there is no traceback."""
    lines = text.splitlines()
    hits = [index for index, line in enumerate(lines) if all(word in line for word in words)]
    assert any(lines[index + 1].strip().startswith("mend: ") for index in hits), text
    assert "Traceback" not in text


def assert_refused(hosts: Hosts, *words: str) -> None:
    """site.yml changes nothing anywhere, and says why."""
    done = hosts.play("site.yml")
    assert done.returncode == 2, done.stdout
    assert_finding(done.stdout, *words)
    assert changed(done.stdout) == 0


def assert_left_out(hosts: Hosts, name: str, *words: str) -> str:
    """site.yml provisions the other host, says why one is missing, shows both, and ends with an error. Returns what it said."""
    other = next(host for host in hosts.machines if host != name)
    with bent(hosts[other], outlast_health={"interval": "29s"}):
        done = hosts.play("site.yml")
    assert done.returncode == 4, done.stdout
    assert_finding(done.stdout, f"{name}: ", *words)
    rows = [line.split()[:2] for line in done.stdout.splitlines()]
    assert [name, "unreachable"] in rows, done.stdout
    assert [other, "ready"] in rows, done.stdout
    assert "when it is back, run the same command again" in done.stdout
    assert "29s" in hosts[other].console("cat", f"{hosts[other].variables['outlast_home']}/etc/node.yml")
    alone = hosts.play("site.yml", "-l", other)
    assert alone.returncode == 0, alone.stdout
    return done.stdout


def assert_well(hosts: Hosts) -> None:
    """Both are as site.yml leaves them."""
    done = hosts.play("site.yml")
    assert done.returncode == 0, done.stdout
    assert "2 of 2 nodes are well" in done.stdout
    assert changed(done.stdout) == 0, done.stdout


def test_host_that_sleeps(hosts: Hosts, coz: Machine) -> None:
    """A Mac whose lid is closed is left out; when it is awake, site.yml finds all as it should be."""
    with bent(coz):
        coz.sleep()
        try:
            assert_left_out(hosts, "coz", "ansible_host", coz.address, "cannot be reached")
        finally:
            coz.wake()
    assert_well(hosts)


def test_host_key_that_changed(hosts: Hosts, axiom: Machine, tmp_path: Path) -> None:
    """A host with another key than the known one is not talked to; the mend says how to see whether it is ours."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text().split()[:2]
    (tmp_path / "known_hosts").write_text(" ".join([axiom.address, *public]) + "\n")
    with bent(axiom, ansible_ssh_common_args=checked(tmp_path)):
        said = assert_left_out(hosts, "axiom", "host key", "shows another key (SHA256:")
    assert f"ssh-keygen -f {tmp_path}/known_hosts -R {axiom.address}" in said
    assert_well(hosts)


def test_login_that_is_refused(hosts: Hosts, axiom: Machine, tmp_path: Path) -> None:
    """A host that does not know our key is left out, and the mend brings the key there."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    with bent(axiom, ansible_ssh_private_key_file=str(tmp_path / "key")):
        said = assert_left_out(hosts, "axiom", "ansible_user", "does not let operator in")
    assert f"ssh-copy-id operator@{axiom.address}" in said


def test_sudo_password_that_is_wrong(hosts: Hosts, axiom: Machine) -> None:
    """A host whose sudo wants another password, or one at all, is left out; the password is in nothing that is printed."""
    # The last rule that fits counts.
    axiom.console("sh", "-c", "umask 337; cat >/etc/sudoers.d/zz-asked", stdin="operator ALL=(ALL) PASSWD: ALL\n")
    axiom.console("chpasswd", stdin="operator:canary-right\n")
    try:
        with bent(axiom, ansible_become_password="canary-wrong"):
            said = assert_left_out(
                hosts, "axiom", "ansible_become_password", "is not the one that sudo wants of operator"
            )
        assert "canary" not in said
        with bent(axiom):
            done = hosts.play("site.yml", "-l", "axiom")
        assert done.returncode == 4, done.stdout
        assert_finding(done.stdout, "axiom: ansible_become_password", "is not set")
        with bent(axiom, ansible_become_password="canary-right"):
            done = hosts.play("playbooks/status.yml", "-l", "axiom")
        assert "1 of 1 nodes are well" in done.stdout
    finally:
        axiom.console("rm", "/etc/sudoers.d/zz-asked")
        axiom.console("passwd", "--lock", "operator")
    assert_well(hosts)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (OLD, ("axiom: python", "3.9.2, 3.11 or newer is needed")),
        (NARROW, ("axiom: machine", "has no prebuilt packages")),
        (LATE, ("axiom: clock", "off coz's", "outlast_max_skew")),
    ],
    ids=["Python too old", "no wheels", "clock an hour off"],
)
def test_host_that_cannot_bear_a_node(hosts: Hosts, axiom: Machine, code: str, words: tuple[str, ...]) -> None:
    """Python too old, a processor without prebuilt packages, a clock an hour off: neither host is changed."""
    with python_that_believes(axiom, code):
        assert_refused(hosts, *words)


def test_disk_that_is_full(hosts: Hosts, axiom: Machine) -> None:
    """A disk with 50 MB free is refused before anything is written to it."""
    axiom.console("sh", "-c", "mkdir /mnt/small && mount -t tmpfs -o size=50m none /mnt/small")
    try:
        with bent(axiom, outlast_home="/mnt/small/outlast"):
            assert_refused(hosts, "axiom: outlast_min_free", "50 MiB free at /mnt/small, 500 MiB are asked for")
        assert axiom.console("ls", "/mnt/small") == ""
    finally:
        axiom.console("sh", "-c", "umount /mnt/small && rmdir /mnt/small")


def test_service_manager_of_another_system(hosts: Hosts, axiom: Machine) -> None:
    """launchd on a Linux is refused."""
    with bent(axiom, outlast_service_manager="launchd"):
        assert_refused(hosts, "axiom: outlast_service_manager", "launchd is not what runs this machine")


@pytest.mark.parametrize("name", UNITS)
def test_unit_file_that_was_edited(hosts: Hosts, name: str) -> None:
    """A unit file or property list edited by hand is reported, put right and kept; the service runs as the inventory says."""
    machine, (unit, edit) = hosts[name], UNITS[name]
    machine.console("sh", "-c", f"echo '{edit}' >>{unit}")
    done = hosts.play("site.yml")
    assert done.returncode == 0, done.stdout
    assert f"{Path(unit).name}: edited by hand" in " ".join(done.stdout.split())
    assert "canary-edit" not in machine.console("cat", unit)
    assert machine.console("grep", "-rl", "canary-edit", f"{machine.variables['outlast_home']}/etc/replaced")
    assert_well(hosts)


def test_service_that_was_stopped(hosts: Hosts, axiom: Machine) -> None:
    """verify.yml tells of a service that would not come back after a restart of the machine, and changes nothing."""
    assert hosts.play("playbooks/verify.yml").returncode == 0
    axiom.console("systemctl", "disable", "outlast-runtime.service")
    try:
        done = hosts.play("playbooks/verify.yml")
        assert done.returncode == 2, done.stdout
        assert_finding(done.stdout, "axiom: service", "would not start it with the machine")
        assert changed(done.stdout) == 0
        assert axiom.console("systemctl", "is-enabled", "outlast-runtime.service", check=False).strip() == "disabled"
    finally:
        assert hosts.play("site.yml").returncode == 0
    assert hosts.play("playbooks/verify.yml").returncode == 0


# In the middle of a build it is interrupted on the embedded nodes (tests/e2e/test_trouble.py).
@pytest.mark.parametrize("sign", ["TASK [outlast.agents.keys", "Hand the runtime to the service manager"])
def test_interrupted_half_way(hosts: Hosts, axiom: Machine, sign: str) -> None:
    """Ctrl-C while a host is provisioned: no traceback, and the same command again completes."""
    home = axiom.variables["outlast_home"]
    # A release that was not built to its end is built anew.
    axiom.console("sh", "-c", f"rm {home}/releases/*/.complete")
    code, text = interrupted(hosts, sign)
    assert code != 0
    assert "Traceback" not in text
    done = hosts.play("site.yml")
    assert done.returncode == 0, done.stdout
    assert "2 of 2 nodes are well" in done.stdout
    assert_well(hosts)


def interrupted(hosts: Hosts, sign: str) -> tuple[int, str]:
    """Run site.yml, press Ctrl-C when its output holds the sign (once more where nothing happens); how it ended, what it said."""
    command = [Path(sys.executable).with_name("ansible-playbook"), "site.yml", "-i", hosts.inventory]
    with subprocess.Popen(
        [*map(str, command)], cwd=REPOSITORY, env={**os.environ, "ANSIBLE_CONFIG": "ansible.cfg", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        guard = threading.Timer(LIMIT_S, os.killpg, (process.pid, signal.SIGKILL))
        again = threading.Timer(15.0, os.killpg, (process.pid, signal.SIGINT))
        guard.start()
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if sign in line:
                    os.killpg(process.pid, signal.SIGINT)
                    again.start()
                    break
            lines.append(process.stdout.read())
            process.wait(LIMIT_S)
        finally:
            guard.cancel()
            again.cancel()
    return process.returncode, "".join(lines)
