"""Clones of this repository in temporary directories, and what the tests do with them.

Keeps: every clone takes ports of its own, is stopped by whoever made it, and lies under a short path because Unix sockets
want that. Leaves to others: what is promised.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_S = 240.0
AGAIN_S = 15.0
NODES = ("coz", "axiom")
HELD: list[IO[str]] = []


@dataclass(frozen=True)
class Done:
    """How a command ended, and all that it printed."""

    code: int
    text: str

    def changed(self) -> int:
        """The number of changes in Ansible's recap; fails where there is none."""
        counts = [word.partition("=")[2] for word in self.text.split() if word.startswith("changed=")]
        assert counts, self.text
        return sum(map(int, counts))


def clean_environment() -> dict[str, str]:
    """The environment of a person who types: nothing of the test runner's make, nothing of its virtual environment."""
    dropped = ("ANSIBLE_", "ARGS", "MAKE", "MFLAGS", "OUTLAST_", "PYTEST", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def own_span() -> int:
    """The first of 2000 ports that no other process of tests, in this run or another, is given while this one lives."""
    for first in (*range(10_000, 18_000, 2_000), *range(21_000, 25_000, 2_000)):
        # Another user's file cannot be opened, and means the same as one that is locked.
        with contextlib.suppress(OSError):
            lock = Path(tempfile.gettempdir(), f"outlast-ports-{first}.lock").open("a")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            HELD.append(lock)
            return first
    raise AssertionError("no free ports")


@functools.cache
def bases() -> Iterator[int]:
    """Every tenth port of the span's first hundred, over and over: what lies under the last of its ports, those of OpenClaw, fits."""
    return itertools.cycle(range(first := own_span(), first + 100, 10))


def free_base() -> int:
    """A port base whose next two ports are free, and so are those a few hundred further on, where the dashboards are. What is
    looked at once may be taken a moment later, so each process has ports of its own, and the base itself nobody listens on."""
    for base in itertools.islice(bases(), 10):
        if all(is_free(base + shift + index) for shift in (0, 100, 200) for index in (0, 1, 2)):
            return base
    raise AssertionError("no free ports")


def is_free(port: int) -> bool:
    """Whether a port of this machine can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass
class Clone:
    """A copy of the repository as git would hand it out, plus what is not committed yet."""

    root: Path
    environment: dict[str, str] = field(default_factory=clean_environment)

    def begin(self, *command: str) -> subprocess.Popen[str]:
        """Run a command in the clone, in a process group of its own; what it prints is in its ``stdout``."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, limit_s: float = LIMIT_S) -> Done:
        """Run a command in the clone and wait for its end."""
        with self.begin(*command) as process:
            try:
                text, _ = process.communicate(timeout=limit_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return Done(process.returncode, text)

    def make(self, target: str, arguments: str = "") -> Done:
        """Type `make TARGET`."""
        return self.run("make", "--no-print-directory", target, *([f"ARGS={arguments}"] if arguments else []))

    def play(self, *arguments: str) -> Done:
        """Type `ansible-playbook …` after `. .venv/bin/activate`."""
        return self.run(str(self.root / ".venv/bin/ansible-playbook"), *arguments)

    def outlast(self, *arguments: str) -> Done:
        """Type `outlast …` after `. .venv/bin/activate`."""
        return self.run(str(self.root / ".venv/bin/outlast"), *arguments)

    def status(self, node: str) -> dict[str, Any]:
        """What `outlast status --json` says; empty while the node does not answer."""
        done = self.outlast("--node", node, "status", "--json")
        return dict(json.loads(done.text)) if done.code in {0, 1} and done.text.startswith("{") else {}

    def interrupt(self, sign: str, *command: str) -> Done:
        """Run a command, press Ctrl-C once its output holds the sign, and wait for its end.

        Ctrl-C is pressed once more, as a person would, where nothing happens for a while: Ansible ends its workers even
        while they hold the lock of the queue that it then wants to write to.
        """
        with self.begin(*command) as process:
            assert process.stdout is not None
            guard = threading.Timer(LIMIT_S, os.killpg, (process.pid, signal.SIGKILL))
            again = threading.Timer(AGAIN_S, os.killpg, (process.pid, signal.SIGINT))
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
            finally:
                guard.cancel()
                again.cancel()
            process.wait(LIMIT_S)
        return Done(process.returncode, "".join(lines))

    def home(self, node: str) -> Path:
        """A node's home in the local inventory."""
        return self.root / ".outlast" / node

    def forget(self) -> None:
        """Stop the nodes and take their homes away."""
        self.make("down")
        if (self.root / ".outlast").exists():
            shutil.rmtree(self.root / ".outlast")

    def processes(self) -> list[str]:
        """Command lines of processes that have to do with the clone's homes."""
        listing = subprocess.run(["ps", "-axwwo", "command="], capture_output=True, text=True, check=True).stdout
        return [line for line in listing.splitlines() if f"{self.root}/.outlast/" in line]


def make_clone(folder: Path, base: int | None) -> Clone:
    """Copy what git has or would add; with a base, as if the operator had chosen ports."""
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listing.stdout.split("\0")):
        source, target = REPOSITORY / name, folder / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    clone = Clone(folder)
    if base is not None:
        ports = folder / "inventory/local/group_vars/all/ports.yml"
        ports.parent.mkdir(parents=True, exist_ok=True)
        ports.write_text(f"outlast_port_base: {base}\n")
    return clone


@pytest.fixture(scope="session")
def short_dir() -> Iterator[Path]:
    """A temporary directory with a short name."""
    path = Path(tempfile.mkdtemp(prefix="ol-")).resolve()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def clone(short_dir: Path) -> Iterator[Clone]:
    """The clone that most tests share, with .venv made."""
    made = make_clone(short_dir / "a", free_base())
    done = made.make(".venv/.control")
    assert done.code == 0, done.text
    yield made
    made.make("down")


@pytest.fixture
def up(clone: Clone) -> Clone:
    """The shared clone with both nodes running."""
    if not all(clone.status(node).get("ready") for node in NODES):
        done = clone.make("up")
        assert done.code == 0, done.text
    return clone


@dataclass
class Sketch:
    """An inventory that a test bends before it is used."""

    path: Path
    homes: Path
    hosts: dict[str, dict[str, Any]]
    common: dict[str, Any] = field(default_factory=dict)

    def write(self) -> str:
        """Write it; return its path for `-i`."""
        content = {"outlast": {"hosts": self.hosts, "vars": self.common}}
        self.path.write_text(yaml.safe_dump(content, sort_keys=False))
        return str(self.path)


@pytest.fixture
def sketch(clone: Clone, short_dir: Path, tmp_path: Path) -> Iterator[Sketch]:
    """Two nodes on this machine in homes of their own, well configured so far."""
    base = free_base() + 1
    homes = Path(tempfile.mkdtemp(prefix="h-", dir=short_dir))
    hosts = {
        name: {"outlast_port": base + index, "outlast_home": str(homes / name)} for index, name in enumerate(NODES)
    }
    common = {"ansible_connection": "local", "ansible_python_interpreter": str(clone.root / ".venv/bin/python")}
    drawn = Sketch(tmp_path / "hosts.yml", homes, hosts, common)
    yield drawn
    if any(path.name == "current" for path in homes.glob("*/*")):
        clone.play("playbooks/down.yml", "-i", str(drawn.path))


def until(condition: Callable[[], object], limit_s: float = 30.0) -> None:
    """Wait until a condition holds; fails after the limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


def namespace(script: str, clone: Clone, *arguments: str) -> Done:
    """Run a shell script with mounts of its own, as no real root; skips where the kernel does not allow it."""
    unshare: Sequence[str] = ("unshare", "--user", "--map-root-user", "--mount")
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    probe = subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("this kernel gives no mounts to an ordinary user")
    return clone.run(*unshare, "sh", "-euc", script, "sh", *arguments)
