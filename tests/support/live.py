"""Real nodes for tests and for ``make bench``: processes of the shipped daemon in folders of their own, on free ports.

Rules kept here: whoever starts a node stops it, by process id; waiting is for a condition, with a limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from outlast.cli.talk import NotRunning, order
from outlast.home import Home

__all__ = ["LiveNode", "free_port", "pair", "share_keys", "until"]


def free_port() -> int:
    """A port that nobody listens on now, and that no outgoing connection is given while a node is being restarted; nor are
    these the clones' (tests/e2e)."""
    while True:
        port = random.SystemRandom().randrange(25_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def until(condition: Callable[[], Any], *, limit: float = 30.0, what: str = "the condition") -> Any:
    """Wait until ``condition()`` is true, for at most ``limit`` seconds; return what it gave."""
    deadline = time.monotonic() + limit
    while True:
        if value := condition():
            return value
        assert time.monotonic() < deadline, f"{what} did not come true within {limit} s"
        time.sleep(0.01)


class LiveNode:
    """One node. ``extra`` is laid over the default node.yml."""

    def __init__(self, root: Path, name: str, port: int, peers: dict[str, int], extra: dict[str, Any] | None = None):
        self.name, self.port = name, port
        self.home = Home(root / name)
        for folder in (self.home.config.parent, self.home.keys, self.home.socket.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.config: dict[str, Any] = {
            "node": name,
            "listen": {"host": "127.0.0.1", "port": port},
            "peers": {peer: {"url": f"http://127.0.0.1:{at}"} for peer, at in peers.items()},
            "agent": {
                "command": [str(Path(sys.executable).parent / "outlast-host-report")],
                "after_crash": "rerun",
            },
            "messages": {"rate": 100_000},
            "retry": {"base": "20ms", "max": "200ms"},
            "breaker": {"failures": 1000},
        }
        for section, fields in (extra or {}).items():
            self.config[section] = {**self.config.get(section, {}), **fields} if isinstance(fields, dict) else fields
        self.configure()
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self) -> None:
        """Write node.yml as ``self.config`` is now."""
        self.home.config.write_text(yaml.safe_dump(self.config))
        self.home.config.chmod(0o600)

    def start(self, *, wait: bool = True, wrapper: list[str] | None = None, env: dict[str, str] | None = None) -> None:
        """Start the daemon; with ``wait`` return when it answers."""
        command = [*(wrapper or []), sys.executable, "-m", "outlast.daemon", "--home", str(self.home.root)]
        log = open(self.home.root / "daemon.log", "ab")
        with log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})}
            )
        if wait:
            until(lambda: self.ended() or self.status(), what=f"an answer of {self.name}")
            assert not self.ended(), f"{self.name} did not start: {self.log()}"

    def ended(self) -> bool:
        """Is the daemon's process over?"""
        return self.process is None or self.process.poll() is not None

    def order(self, name: str, body: object = None) -> dict[str, Any]:
        """What the command does, without the time that a process of its own takes. Raises OutlastError."""
        return order(self.home, name, body)

    def status(self) -> dict[str, Any]:
        """What ``outlast status --json`` prints; empty while the node does not answer."""
        try:
            return self.order("status")
        except NotRunning:
            return {}

    def alive(self) -> bool:
        """Does the daemon answer its control socket?"""
        return self.cli("status").returncode in (0, 1)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            self.process.wait(30)
            self.process = None

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(30)
        self.process = None
        return code

    def log(self) -> str:
        """What the daemon printed."""
        path = self.home.root / "daemon.log"
        return path.read_text() if path.exists() else ""

    def cli(self, *words: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Type ``outlast --home … words``."""
        command = [str(Path(sys.executable).parent / "outlast"), "--home", str(self.home.root), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)

    def json(self, *words: str) -> Any:
        """The JSON that a command prints."""
        return json.loads(self.cli(*words, "--json").stdout)

    def state(self) -> dict[str, Any]:
        """What STATE.json says."""
        loaded: dict[str, Any] = json.loads(self.home.state_file.read_text())["states"][self.name]["state"]
        return loaded

    def journal(self) -> str:
        """All daily files."""
        return "".join(path.read_text() for path in sorted(self.home.memory.glob("*.md")))

    def records(self, step: str, unit: str) -> list[str]:
        """The journal's lines of this step and unit."""
        return [line for line in self.journal().splitlines() if f" {step} {unit} " in line]


def share_keys(*nodes: LiveNode) -> None:
    """Let every node make its key, and carry it to the others."""
    for node in nodes:
        made = node.cli("keys", "init")
        assert made.returncode == 0, made.stderr
    for node in nodes:
        for other in nodes:
            if other is not node:
                target = other.home.keys / f"{node.name}.key"
                target.write_bytes((node.home.keys / f"{node.name}.key").read_bytes())
                target.chmod(0o600)


@contextlib.contextmanager
def pair(
    root: Path, coz: dict[str, Any] | None = None, axiom: dict[str, Any] | None = None
) -> Iterator[tuple[LiveNode, LiveNode]]:
    """Two nodes that know each other, not started; whatever runs at the end is killed."""
    ports = free_port(), free_port()
    first = LiveNode(root, "coz", ports[0], {"axiom": ports[1]}, coz)
    second = LiveNode(root, "axiom", ports[1], {"coz": ports[0]}, axiom)
    share_keys(first, second)
    try:
        yield first, second
    finally:
        first.kill()
        second.kill()
