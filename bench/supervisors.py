"""Who keeps workers running: our node, and supervisord, pm2, runit and systemd beside it, all told to restart at once.

Rules kept here: each keeps ``count`` workers that sleep, the first of which says when it runs; what is started here is ended with
the block; one that cannot be had is a BenchError that says why.

Left to others: measuring them (supervision).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.peers import PM2
from bench.processes import BenchError, family, finish, run, running
from tests.support.live import LiveNode, free_port

__all__ = ["KEEPERS", "Keeper", "Worker"]

_FIRST = "w0"
_START_S = 120.0


class Worker:
    """The first worker: it writes its process id into a FIFO as soon as it runs, and sleeps."""

    def __init__(self, root: Path) -> None:
        self._fifo = root / "runs"
        os.mkfifo(self._fifo)
        # Open for both, so that it never waits for us, nor we for it.
        self._fd = os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.script = root / "worker"
        self.script.write_text(f"#!/bin/sh\necho $$ > '{self._fifo}'\nexec sleep 86400\n")
        self.script.chmod(0o755)

    def runs(self, limit_s: float) -> int:
        """Wait until it runs (again): its process id. Raises BenchError."""
        if not select.select([self._fd], [], [], limit_s)[0]:
            raise BenchError(f"the worker did not run (again) within {limit_s:g} s")
        return int(os.read(self._fd, 4096).split()[-1])

    def close(self) -> None:
        """Let go of the FIFO."""
        os.close(self._fd)


@dataclass(frozen=True)
class Keeper:
    """One that keeps workers. ``pids``: its own processes; ``restart()`` orders the first worker to be restarted."""

    name: str
    pids: Sequence[int]
    folder: Path
    restart: Callable[[], object]


def _commands(worker: Worker, count: int) -> dict[str, list[str]]:
    return {_FIRST: [str(worker.script)], **{f"w{number}": ["/bin/sleep", "86400"] for number in range(1, count)}}


@contextlib.contextmanager
def outlast(root: Path, worker: Worker, count: int) -> Iterator[Keeper]:
    """A node of ours with the defaults, but for a restart at once."""
    node = LiveNode(root, "coz", free_port(), {})
    at_once = {"base": "1ms", "max": "1ms", "most": 1_000_000}
    commands = _commands(worker, count)
    node.config = {name: node.config[name] for name in ("node", "listen", "peers", "agent")}
    node.config["services"] = {name: {"command": command, **at_once} for name, command in commands.items()}
    node.configure()
    made = node.cli("keys", "init")
    if made.returncode:
        raise BenchError(made.stderr.strip())
    try:
        node.start()
        assert node.process is not None
        workers = {one["pid"] for one in _until_all_run(node, count).values()}
        # Its guard is its child as well.
        mine = [one.pid for one in family(node.process.pid) if one.pid not in workers and one.ppid() not in workers]
        yield Keeper("outlast", mine, node.home.root, lambda: _order(node.home.socket, {"name": _FIRST}))
    finally:
        node.kill()


def _until_all_run(node: LiveNode, count: int) -> dict[str, dict[str, int]]:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        services: dict[str, dict[str, int]] = node.order("ps")["services"]
        if sum(one["pid"] is not None for one in services.values()) == count:
            return services
        time.sleep(0.05)
    raise BenchError(f"{count} workers did not run after {_START_S:g} s")


def _order(path: Path, body: object) -> None:
    """Give the order and no more: whether it is done the worker says."""
    data = json.dumps(body).encode()
    head = f"POST /restart HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with connection:
        connection.connect(str(path))
        connection.sendall(head.encode() + data)
        connection.settimeout(60)
        connection.recv(1)


@contextlib.contextmanager
def supervisord(root: Path, worker: Worker, count: int) -> Iterator[Keeper]:
    """supervisord, by its programs' defaults, but that a start counts at once."""
    program = Path(sys.executable).parent / "supervisord"
    if not program.exists():
        raise BenchError(f"{program} does not exist")
    lines = [
        f"[unix_http_server]\nfile={root}/s.sock",
        f"[supervisord]\nlogfile={root}/log\npidfile={root}/pid\nchildlogdir={root}",
    ]
    lines += [
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface"
    ]
    for name, command in _commands(worker, count).items():
        lines += [f"[program:{name}]\ncommand={' '.join(command)}\nautorestart=true\nstartsecs=0\nstartretries=1000000"]
    (root / "conf").write_text("\n".join(lines) + "\n")

    def restart() -> None:
        _call(root / "s.sock", "stopProcess")
        _call(root / "s.sock", "startProcess")

    with running([str(program), "-n", "-c", str(root / "conf")], root / "out.log") as process:
        yield Keeper("supervisord", [process.pid], root, restart)


def _call(path: Path, method: str) -> None:
    import xmlrpc.client

    body = xmlrpc.client.dumps((_FIRST,), f"supervisor.{method}").encode()
    connection = http.client.HTTPConnection("bench")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(str(path))
    with contextlib.closing(connection):
        connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml"})
        connection.getresponse().read()


# Told by a program that stays: its command takes half a second to start.
_TELL_PM2 = """
const pm2 = require(process.argv[1]);
pm2.connect(() => {
  require("readline").createInterface({input: process.stdin}).on("line", (name) => pm2.restart(name, () => {}));
  console.log("ready");
});
"""


@contextlib.contextmanager
def pm2(root: Path, worker: Worker, count: int) -> Iterator[Keeper]:
    """pm2, installed below ``root``."""
    npm = shutil.which("npm")
    if npm is None:
        raise BenchError("npm is not on the PATH")
    install = [npm, "install", "--prefix", str(root), "--no-audit", "--no-fund", "--no-save", f"pm2@{PM2}"]
    run(install, root, {}, 120)
    program, home = str(root / "node_modules" / ".bin" / "pm2"), root / "home"
    environment = {"PM2_HOME": str(home), "PM2_DISABLE_VERSION_CHECK": "true"}
    apps = [
        {"name": name, "script": command[0], "args": command[1:], "interpreter": "none", "max_restarts": 1_000_000}
        for name, command in _commands(worker, count).items()
    ]
    (root / "apps.json").write_text(json.dumps({"apps": apps}))
    try:
        run([program, "start", str(root / "apps.json")], root, environment, _START_S)
        pid = int((home / "pm2.pid").read_text())
        library = str(root / "node_modules" / "pm2")
        teller = subprocess.Popen(
            ["node", "-e", _TELL_PM2, library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        assert teller.stdin is not None and teller.stdout is not None
        try:
            teller.stdout.readline()
            tell = teller.stdin.fileno()
            yield Keeper("pm2", [pid], home, lambda: os.write(tell, f"{_FIRST}\n".encode()))
        finally:
            teller.kill()
            teller.wait()
    finally:
        with contextlib.suppress(OSError, ValueError):
            processes = family(int((home / "pm2.pid").read_text()))
            with contextlib.suppress(BenchError):
                run([program, "kill"], root, environment, 30)
            finish(processes)


@contextlib.contextmanager
def runit(root: Path, worker: Worker, count: int) -> Iterator[Keeper]:
    """runsvdir with a runsv for each worker; Debian's package is unpacked below ``root`` where it is not installed."""
    if not shutil.which("runsvdir"):
        if not shutil.which("apt-get"):
            raise BenchError("it is not installed, and apt-get, which has it, is not here")
        run(["apt-get", "-qq", "download", "runit"], root, {}, 60)
        run(["dpkg-deb", "-x", *map(str, root.glob("runit_*.deb")), str(root / "deb")], root, {}, 60)
    places = f"{root / 'deb/usr/bin'}:{root / 'deb/usr/sbin'}:{os.environ['PATH']}"
    for name, command in _commands(worker, count).items():
        folder = root / "service" / name
        folder.mkdir(parents=True)
        (folder / "run").write_text(f"#!/bin/sh\nexec {' '.join(command)}\n")
        (folder / "run").chmod(0o755)
    program = shutil.which("runsvdir", path=places)
    if program is None:
        raise BenchError("the package has no runsvdir")
    with running(["env", f"PATH={places}", program, str(root / "service")], root / "out.log") as process:
        control = root / "service" / _FIRST / "supervise" / "control"
        deadline = time.monotonic() + _START_S
        while not control.exists() or len(_keepers(process.pid)) <= count:
            if time.monotonic() > deadline:
                raise BenchError("runsvdir did not start its services")
            time.sleep(0.05)
        # What `sv restart` writes.
        yield Keeper("runit", _keepers(process.pid), root, lambda: control.write_text("tcu"))


def _keepers(pid: int) -> list[int]:
    """runsvdir and every runsv, without what they keep."""
    with contextlib.suppress(psutil.Error):
        return [pid, *(child.pid for child in psutil.Process(pid).children())]
    return []


@contextlib.contextmanager
def systemd(root: Path, worker: Worker, count: int) -> Iterator[Keeper]:
    """The systemd that this machine runs on, with transient units."""
    if not Path("/run/systemd/system").exists() or os.geteuid() != 0:
        raise BenchError("this machine does not run on systemd, or we are not root")
    units = {name: f"outlast-bench-{os.getpid()}-{name}" for name in _commands(worker, count)}
    at_once = ["-p", "Restart=always", "-p", "RestartSec=0", "-p", "StartLimitIntervalSec=0", "--collect", "--quiet"]
    try:
        for name, command in _commands(worker, count).items():
            run(["systemd-run", "--unit", units[name], *at_once, *command], root, {}, 60)
        first = units[_FIRST]
        yield Keeper("systemd", [1], root, lambda: run(["systemctl", "restart", first], root, {}, 120))
    finally:
        with contextlib.suppress(BenchError):
            run(["systemctl", "stop", *units.values()], root, {}, 300)


KEEPERS = {"outlast": outlast, "supervisord": supervisord, "pm2": pm2, "runit": runit, "systemd": systemd}
