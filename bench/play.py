"""How long the second ``make up`` takes, beside the same play under mitogen, in a copy of this checkout with ports of its own.

Rules kept here: the copy holds what git would hold, so the checkout's own nodes are not touched; the virtual environment is
the one that runs this, so nothing is installed twice; whatever happens, ``make down`` runs at the end, and what it left is
ended by process id.

Left to others: watching the nodes while they idle.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.processes import BenchError, finish, run, say
from bench.table import Figure, Goal, Row, median
from tests.support.live import free_port

__all__ = ["Clone", "changed", "clone", "mitogen", "second_up"]

# OpenClaw has to be fetched as well, where a node has one.
_LIMIT_S = 900.0
_NODES = ("coz", "axiom")


def changed(printed: str) -> int | None:
    """The number of changes in Ansible's recap, or None where there is no recap."""
    counts = re.findall(r"\bchanged=(\d+)", printed)
    return sum(map(int, counts)) if counts else None


@dataclass(frozen=True, slots=True)
class Clone:
    """A copy of the checkout with ports of its own."""

    root: Path
    port_base: int
    environment: Mapping[str, str] = field(default_factory=dict)

    def make(self, target: str, environment: Mapping[str, str] | None = None) -> tuple[float, str]:
        """Run a target; return its seconds and what it printed. Raises BenchError."""
        # As after a first run: the stamp says that what .venv needs is installed.
        arguments = f"-e '{json.dumps({'outlast_port_base': self.port_base})}'"
        command = ["make", "--no-print-directory", "-o", ".venv/.control", target, f"ARGS={arguments}"]
        return run(command, self.root, {**self.environment, **(environment or {})}, _LIMIT_S)

    def play(self, playbook: str, *words: str, environment: Mapping[str, str] | None = None) -> float:
        """Run a playbook; return its seconds. Raises BenchError."""
        arguments = ["-e", json.dumps({"outlast_port_base": self.port_base}), *words]
        around = {**self.environment, "ANSIBLE_CONFIG": "ansible.cfg", "LC_ALL": "C.UTF-8", **(environment or {})}
        command = [str(self.root / ".venv/bin/ansible-playbook"), playbook, *arguments]
        return run(command, self.root, around, _LIMIT_S)[0]

    @property
    def settings(self) -> Path:
        """The variables that it was made with, if any."""
        return self.root / "inventory" / "local" / "group_vars" / "all" / "bench.yml"

    def home(self, node: str) -> Path:
        """The home of a node."""
        return self.root / ".outlast" / node

    def processes(self) -> dict[str, tuple[int, int]]:
        """For each node the process ids of its supervisord and of its runtime. Raises BenchError."""
        return {node: (_pid(self.home(node)), _runtime(self.home(node))) for node in _NODES}


@contextlib.contextmanager
def clone(checkout: Path, folder: Path, settings: Mapping[str, object] | None = None) -> Iterator[Clone]:
    """Copy the checkout to ``folder``, provision its nodes, with these variables, and take them down at the end.

    Raises BenchError.
    """
    _copy(checkout, folder)
    copy = Clone(folder, _free_base())
    if settings:
        # YAML is what it is read as, and JSON is YAML.
        copy.settings.parent.mkdir(parents=True, exist_ok=True)
        copy.settings.write_text(json.dumps(settings))
    (folder / ".venv").symlink_to(sys.prefix)
    try:
        say(f"make up: the first one, in a copy, ports {copy.port_base + 1} and {copy.port_base + 2}")
        seconds, _ = copy.make("up")
        say(f"make up: took {seconds:.1f} s")
        yield copy
    finally:
        _down(copy)


def second_up(copy: Clone, times: int) -> list[Row]:
    """Run ``make up`` again so many times, in turns with the same play under mitogen. Raises BenchError."""
    ours: list[float] = []
    theirs: list[float] = []
    strategies, why = mitogen()
    say(f"make up: {times} more, in turns with {times} under mitogen")
    for _ in range(times):
        seconds, printed = copy.make("up")
        ours.append(seconds)
        if again := changed(printed):
            say(f"make up: the second run changed {again} things")
        if not why:
            try:
                theirs.append(copy.make("up", strategies)[0])
            except BenchError as error:
                why = str(error)
        say(f"make up: {ours[-1]:.2f} s{f', under mitogen {theirs[-1]:.2f} s' if not why else ''}")
    beside = Figure(None, "mitogen", why) if why else Figure(median(theirs), "mitogen")
    return [Row(f"second make up, median of {times}", "s", Figure(median(ours)), [beside], Goal(8.0, beside="mitogen"))]


def mitogen() -> tuple[dict[str, str], str]:
    """What makes Ansible use mitogen, or why that cannot be."""
    found = importlib.util.find_spec("ansible_mitogen")
    if found is None or not found.submodule_search_locations:
        return {}, "it is not installed"
    plugins = Path(found.submodule_search_locations[0]) / "plugins" / "strategy"
    return {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(plugins)}, ""


def _copy(checkout: Path, folder: Path) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=checkout, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise BenchError(f"git does not list {checkout}: {error}") from error
    for name in filter(None, listed.split("\0")):
        source, target = checkout / name, folder / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def _free_base() -> int:
    for _ in range(100):
        base = free_port() - 1
        with contextlib.suppress(OSError):
            # The second node's, and the dashboards'.
            for above in (2, 101, 102):
                _bind(base + above)
            return base
    raise BenchError("no two free ports next to each other were found")


def _bind(port: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def _pid(home: Path) -> int:
    path = home / "run" / "supervisord.pid"
    try:
        return int(path.read_text())
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: {error}") from error


def _runtime(home: Path) -> int:
    for child in psutil.Process(_pid(home)).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "outlast.daemon" in child.cmdline():
                return child.pid
    raise BenchError(f"no runtime runs below the supervisord of {home}")


def _down(copy: Clone) -> None:
    say("make down")
    try:
        copy.make("down")
    except BenchError as error:
        say(str(error))
    # Only processes whose command line names the copy's own nodes.
    below = f"{copy.root}/.outlast/"
    left = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(below in word for word in process.info["cmdline"] or ())
    ]
    if left:
        say(f"make down left {len(left)} processes running: {', '.join(str(process.pid) for process in left)}")
        for process in left:
            finish([process])
