"""How the runtime's process begins and ends, as its service manager and Ansible see it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live import LiveNode, free_port, until

from outlast.store.keyring import make_key

KEY = "etc/keys/coz.key"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LiveNode]:
    """A node that is well configured and does not run yet."""
    made = LiveNode(tmp_path, "coz", free_port(), {})
    make_key(made.home.keys / "coz.key")
    yield made
    made.kill()


def test_it_says_what_it_read(node: LiveNode) -> None:
    """Once it serves, run/loaded tells its process id, its release and the digest of its configuration, its keys and the
    time zone, and no key itself; the lock names the process, too."""
    node.start()
    assert node.process is not None
    told = node.home.loaded.read_text()
    zone = Path("/etc/localtime")
    files = {path: hashlib.sha256((node.home.root / path).read_bytes()).hexdigest() for path in ("etc/node.yml", KEY)}
    files["/etc/localtime"] = hashlib.sha256(zone.read_bytes()).hexdigest() if zone.exists() else ""
    assert node.home.lock.read_text() == f"{node.process.pid}\n"
    release = os.path.realpath(sys.prefix)
    assert json.loads(told) == {"pid": node.process.pid, "release": release, "files": files}
    assert (node.home.root / KEY).read_text().strip() not in told
    assert node.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_failed_start_is_not_over_at_once(node: LiveNode, number: int) -> None:
    """A start that failed says why, stays for a moment so that it is not tried again without end, and a signal ends it, as
    such: a service manager that stops it sees no failure."""
    with node.home.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        node.start(wait=False)
        assert node.process is not None
        until(lambda: "another runtime is at work" in node.log(), what="the reason")
        assert not node.ended()
        node.process.send_signal(number)
        assert node.process.wait(30) == -number
    assert node.log().count("\n") == 1


def test_a_failed_start_is_over_by_itself(node: LiveNode) -> None:
    """A start that failed ends with 1, so that it is tried again."""
    with node.home.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        node.start(wait=False)
        assert node.process is not None
        assert node.process.wait(30) == 1
    node.start()


def test_a_wrong_configuration_ends_with_78(node: LiveNode) -> None:
    """What no further start can mend ends with 78 and one line."""
    node.config["listen"] = {"host": "127.0.0.1", "port": "none"}
    node.configure()
    node.start(wait=False)
    assert node.process is not None
    assert node.process.wait(30) == 78
    assert node.log().count("\n") == 1


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="where a process prints to is read in /proc")
def test_a_log_that_was_moved_away_is_begun_anew(node: LiveNode) -> None:
    """At SIGHUP it prints into the file that OUTLAST_LOG names, so that logs can be rotated, and goes on serving."""
    log, old = node.home.root / "named.log", node.home.root / "named.log.0"
    node.start(env={"OUTLAST_LOG": str(log)})
    assert node.process is not None
    for name in (log, old):
        node.process.send_signal(signal.SIGHUP)
        until(log.exists, what=f"a log after {name}")
        until(lambda: os.path.samefile(f"/proc/{node.process.pid}/fd/2", log), what="the new log")  # type: ignore[union-attr]
        log.rename(old)
    assert node.status()
    assert node.stop() == 0


def test_without_a_log_of_its_own_a_hangup_ends_it(node: LiveNode) -> None:
    """Run by hand in a terminal, it does not outlive the terminal."""
    node.start()
    assert node.process is not None
    node.process.send_signal(signal.SIGHUP)
    assert node.process.wait(30) == -signal.SIGHUP


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that nobody can read, not even root")
def test_a_memory_that_cannot_be_read_is_an_emergency(node: LiveNode) -> None:
    """STATE.json damaged and the journal not given back by the disk: the node is there and says so; nothing is touched, no
    order but status is taken, peers are asked to wait, and once the disk is well only a person ends the emergency."""
    node.start()
    assert node.stop() == 0
    node.home.state_file.write_text("garbage")
    lost = node.home.memory / "2026-01-01.md"
    lost.symlink_to("/proc/self/mem")
    node.start()
    status = node.status()
    assert (status["mode"], status["ready"]) == ("emergency", False)
    assert "could not be read" in status["mode_reasons"][0]
    assert node.home.state_file.read_text() == "garbage"
    assert "Outlast: emergency" in node.home.heartbeat.read_text()
    shown = node.cli("status")
    assert (shown.returncode, shown.stderr) == (1, "")
    refused = node.cli("clean")
    assert refused.returncode == 1 and "recover-state.yml" in refused.stderr and refused.stderr.count("\n") == 1
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(f"http://127.0.0.1:{node.port}/inbox/axiom", b"{}")
    assert node.stop() == 0
    lost.unlink()
    node.start()
    assert node.status()["mode"] == "emergency"
    assert node.cli("resume", "--reason", "another disk").returncode == 0
    assert node.status()["mode"] == "normal"
