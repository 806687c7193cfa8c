"""What the runtime tells its service manager, seen from the socket of a manager that is not there."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live import LiveNode, free_port, pair, until

from outlast.notify import Manager
from outlast.store.keyring import make_key

# An agent that leaves its environment as its artifact.
TELLTALE = [sys.executable, "-c", "import os; open('environment', 'w').write(repr(dict(os.environ)))"]


@contextlib.contextmanager
def listening(address: str | bytes) -> Iterator[socket.socket]:
    """A manager's socket that waits for at most ten seconds."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(address)
        ear.settimeout(10)
        yield ear


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket in the file system."""
    with listening(str(tmp_path / "notify")) as made:
        yield made


def heard(ear: socket.socket) -> dict[str, str]:
    """The next datagram as NAME to value."""
    return dict(line.partition("=")[::2] for line in ear.recv(4096).decode().splitlines())


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LiveNode]:
    """A node that is well configured and does not run yet."""
    made = LiveNode(tmp_path, "coz", free_port(), {})
    make_key(made.home.keys / "coz.key")
    yield made
    made.kill()


def test_a_life_is_told_from_ready_to_stopping(node: LiveNode, ear: socket.socket) -> None:
    """READY comes once the node answers, signs of life come at half the interval, and STOPPING comes before the end."""
    node.start(wait=False, env={"NOTIFY_SOCKET": ear.getsockname(), "WATCHDOG_USEC": "200000"})
    assert heard(ear) == {"READY": "1", "STATUS": f"port {node.port}, mode normal"}
    assert node.status()
    for _ in range(3):
        assert heard(ear)["WATCHDOG"] == "1"
    assert node.process is not None
    node.process.send_signal(signal.SIGTERM)
    until(lambda: heard(ear).get("STOPPING") == "1", what="STOPPING")
    assert node.process.wait(30) == 0


def test_a_node_that_hangs_gives_no_sign_of_life(node: LiveNode, ear: socket.socket) -> None:
    """While the process stands still nothing is heard; afterwards it goes on."""
    node.start(env={"NOTIFY_SOCKET": ear.getsockname(), "WATCHDOG_USEC": "200000"})
    assert node.process is not None
    node.process.send_signal(signal.SIGSTOP)
    ear.settimeout(1)
    with pytest.raises(TimeoutError):
        while True:
            heard(ear)
    node.process.send_signal(signal.SIGCONT)
    assert heard(ear)["WATCHDOG"] == "1"


def test_a_node_that_cannot_serve_is_never_ready(node: LiveNode, ear: socket.socket) -> None:
    """A port that is taken: the process ends without having said READY."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", node.port))
        taken.listen()
        node.start(wait=False, env={"NOTIFY_SOCKET": ear.getsockname()})
        assert node.process is not None
        assert node.process.wait(30) == 1
    ear.settimeout(0.1)
    with pytest.raises(TimeoutError):
        heard(ear)


def test_a_manager_that_went_away_stops_nobody(node: LiveNode, tmp_path: Path) -> None:
    """A socket that leads nowhere is no reason to fail."""
    node.start(env={"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "100000"})
    assert node.stop() == 0


def test_no_agent_speaks_for_its_node(tmp_path: Path, ear: socket.socket) -> None:
    """What the manager put into the environment is not in that of agents, so that none can say that all is well."""
    with pair(tmp_path, axiom={"agent": {"command": TELLTALE}}) as (coz, axiom):
        coz.start()
        axiom.start(env={"NOTIFY_SOCKET": ear.getsockname(), "WATCHDOG_USEC": "60000000", "OUTLAST_LOG": "/dev/null"})
        unit = coz.json("handoff", "axiom", "look around", "--wait", "30s")["unit"]
        told = (axiom.home.artifacts / unit / "environment").read_text()
    assert "OUTLAST_UNIT" in told
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "OUTLAST_LOG"):
        assert name not in told


def test_the_environment_is_cleared() -> None:
    """Whoever is told is remembered, and the variables are gone for every child."""
    environment = {
        "NOTIFY_SOCKET": "/nowhere",
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "LANG": "C",
    }
    assert Manager(environment).beat_s == 1.5
    assert environment == {"LANG": "C"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "3000000"},
        {"NOTIFY_SOCKET": "/nowhere"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"},
    ],
)
def test_no_sign_of_life_for_those_who_do_not_wait(environment: dict[str, str]) -> None:
    """Without a socket, without an interval, or where another process is meant, no sign of life is due; nothing fails."""
    manager = Manager(environment)
    assert manager.beat_s == 0
    manager.ready("")
    manager.stopping("")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract sockets")
def test_an_abstract_socket_is_found() -> None:
    """A leading @ stands for the zero byte."""
    name = f"outlast-{secrets.token_hex(8)}"
    with listening(f"\0{name}".encode()) as ear:
        Manager({"NOTIFY_SOCKET": f"@{name}"}).alive("well")
        assert heard(ear) == {"WATCHDOG": "1", "STATUS": "well"}
