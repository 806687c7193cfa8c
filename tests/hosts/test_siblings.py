"""Two real hosts and their sshd: a node fetches its peer's artifacts, and its key opens nothing else."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

import pytest
from support.hosts import Hosts, Machine
from support.on_hosts import outlast


@dataclass
class Ended:
    """How a command on a host ended: exit code, and both its outputs together."""

    code: int
    said: str


def as_node(machine: Machine, *command: str) -> Ended:
    """Run a command on a host as the node's user, which is what agents can do."""
    line = f"cd /; {shlex.join(['sudo', '-u', 'outlast', *command])} 2>&1 </dev/null; code=$?; echo; echo $code"
    *said, code = machine.console("sh", "-c", line).splitlines()
    return Ended(int(code), "\n".join(said))


def home(machine: Machine) -> str:
    return str(machine.variables["outlast_home"])


def with_key(coz: Machine, axiom: Machine, *words: str, program: str = "ssh") -> list[str]:
    """A program of OpenSSH's with coz's own SSH key against axiom; `AXIOM` in the words stands for the account there."""
    options = [
        "BatchMode=yes", "IdentitiesOnly=yes", f"IdentityFile={home(coz)}/etc/ssh/id_ed25519", "HostKeyAlias=axiom",
        f"UserKnownHostsFile={home(coz)}/.ssh/known_hosts", "StrictHostKeyChecking=yes", "ConnectTimeout=10",
    ]  # fmt: skip
    settings = [word for option in options for word in ("-o", option)]
    there = [word.replace("AXIOM", f"outlast@{axiom.address}") for word in words]
    return ["timeout", "30", program, "-F", "none", *settings, *there]


@pytest.fixture(scope="module")
def unit(coz: Machine) -> str:
    """An artifact on axiom, of a task that coz handed over."""
    said = outlast(coz, "handoff", "axiom", "host report")
    found = re.search(r"bring it to coz: outlast fetch axiom (\S+)", said)
    assert found, said
    return found[1]


def test_what_was_handed_over_is_fetched(coz: Machine, axiom: Machine, unit: str) -> None:
    """`outlast handoff` says how, `outlast fetch` does it, byte by byte; the second time it is there already."""
    assert f"{unit} came from axiom" in outlast(coz, "fetch", "axiom", unit)
    assert f"{unit} was here already" in outlast(coz, "fetch", "axiom", unit)
    digests = [
        machine.console(
            "sh", "-c", f"cd {home(machine)}/workspace/artifacts/{unit} && find . -type f | sort | xargs sha256sum"
        )
        for machine in (axiom, coz)
    ]
    assert digests[0] == digests[1]
    assert "report.md" in digests[0]
    assert unit in outlast(coz, "fetch", "axiom")


OPENS_NOTHING = {
    "a shell": ("ssh", ["AXIOM"], "only `list artifacts`"),
    "a terminal": ("ssh", ["-tt", "AXIOM"], "PTY allocation request failed"),
    "a command": ("ssh", ["AXIOM", "cat /etc/passwd"], "only `list artifacts`"),
    "a command behind a request": ("ssh", ["AXIOM", "list artifacts; cat /etc/passwd"], "only `list artifacts`"),
    "sftp": ("sftp", ["AXIOM:/etc/passwd", "/tmp/"], "Connection closed"),
    "scp": ("scp", ["AXIOM:/etc/passwd", "/tmp/"], "Connection closed"),
    "old scp": ("scp", ["-O", "AXIOM:/etc/passwd", "/tmp/"], "only `list artifacts`"),
    "scp the other way": ("scp", ["-O", "/etc/hostname", "AXIOM:/tmp/x"], "only `list artifacts`"),
    "a way through it": ("ssh", ["-W", "127.0.0.1:22", "AXIOM"], "administratively prohibited"),
    "a way back": (
        "ssh",
        ["-N", "-o", "ExitOnForwardFailure=yes", "-R", "9999:127.0.0.1:22", "AXIOM"],
        "remote port forwarding",
    ),
    "root": ("ssh", ["-o", "User=root", "AXIOM"], "Permission denied"),
}


@pytest.mark.parametrize(("program", "words", "says"), OPENS_NOTHING.values(), ids=OPENS_NOTHING)
def test_a_nodes_key_opens_nothing_else(
    coz: Machine, axiom: Machine, program: str, words: list[str], says: str
) -> None:
    """Whatever OpenSSH's programs ask with it is refused by axiom's sshd, or by the one command that it may run."""
    done = as_node(coz, *with_key(coz, axiom, *words, program=program))
    assert done.code not in (0, 124), done.said
    assert says in done.said
    assert "root:" not in done.said
    assert not axiom.console("sh", "-c", "ls /tmp/x 2>/dev/null", check=False)


CONNECT = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/tmp/way'); s.sendall(b'GET /status HTTP/1.1\\r\\n\\r\\n'); print(s.recv(99))"


def test_a_nodes_key_is_no_way_to_its_peers_sockets(coz: Machine, axiom: Machine) -> None:
    """The control socket, which takes orders from whoever reaches it, is not reached through sshd either."""
    way = shlex.join(with_key(coz, axiom, "-N", "-L", f"/tmp/way:{home(axiom)}/run/control.sock", "AXIOM"))
    wait = "for _ in $(seq 100); do [ -S /tmp/way ] && break; sleep 0.1; done"
    done = as_node(coz, "sh", "-c", f"{way} & {wait}; python3 -c {shlex.quote(CONNECT)}; kill $!; wait; rm -f /tmp/way")
    assert "open failed" in done.said
    assert "HTTP/1.1" not in done.said


def test_refusals_are_events(coz: Machine, axiom: Machine) -> None:
    """Who asked for what it may not have stands in axiom's events, once a minute at most."""
    for _ in range(3):
        as_node(coz, *with_key(coz, axiom, "AXIOM", "id"))
    events = axiom.console("sh", "-c", f"cat {home(axiom)}/workspace/logs/*.jsonl")
    refused = [line for line in events.splitlines() if '"files.refused"' in line]
    assert 1 <= len(refused) <= 3
    assert all('"peer":"coz"' in line for line in refused)


@pytest.mark.parametrize("name", ["axiom", "coz"])
def test_agents_cannot_let_anybody_in(hosts: Hosts, name: str) -> None:
    """They run as the node's user, and may write neither the keys that open its account nor the machines that are known."""
    machine = hosts[name]
    for attempt in (
        f"echo x >> {home(machine)}/.ssh/authorized_keys",
        f"echo x >> {home(machine)}/.ssh/known_hosts",
        f"rm -f {home(machine)}/.ssh/authorized_keys",
        f"touch {home(machine)}/.ssh/rc",
        f"mv {home(machine)}/.ssh {home(machine)}/other",
        f"mkdir {home(machine)}/new",
    ):
        assert as_node(machine, "sh", "-c", attempt).code != 0, attempt


def test_another_machine_in_its_place_is_not_asked(coz: Machine, unit: str) -> None:
    """With another host key than the one that was written down there is one line, exit code 3, and no request."""
    known = f"{home(coz)}/.ssh/known_hosts"
    coz.console("cp", "-p", known, f"{known}.kept")
    try:
        coz.console(
            "sh", "-c", "ssh-keygen -q -t ed25519 -N '' -f /tmp/other && cut -d' ' -f1,2 /tmp/other.pub > /tmp/key"
        )
        coz.console("sh", "-c", f"printf 'axiom %s\\n' \"$(cat /tmp/key)\" > {known}; rm -f /tmp/other* /tmp/key")
        done = as_node(coz, "/usr/local/bin/outlast", "--home", home(coz), "fetch", "axiom", unit)
        assert done.code == 3
        assert "its host key is not the one that was written down, so nothing was asked" in done.said
        coz.console("truncate", "-s", "0", known)
        done = as_node(coz, "/usr/local/bin/outlast", "--home", home(coz), "fetch", "axiom", unit)
        assert "its host key is not known here" in done.said
    finally:
        coz.console("mv", f"{known}.kept", known)


def test_what_was_changed_by_hand_is_put_right(hosts: Hosts, coz: Machine, unit: str) -> None:
    """A key that somebody let in is out after the next run, and kept aside; a peer that is not in that run stays known."""
    allowed = f"{home(coz)}/.ssh/authorized_keys"
    before = coz.console("cat", allowed)
    coz.console("sh", "-c", f"echo 'ssh-ed25519 AAAA somebody' >> {allowed}")
    done = hosts.play("site.yml", "--limit", "coz")
    assert done.returncode == 0, done.stdout
    assert coz.console("cat", allowed) == before
    assert " axiom" in before
    assert "somebody" in coz.console("sh", "-c", f"cat {home(coz)}/etc/replaced/*authorized_keys*")
    assert f"{unit} was here already" in outlast(coz, "fetch", "axiom", unit)
