"""What Outlast is measured beside: supervisord and pm2, each minding one child that sleeps; pycrdt, which merges maps; Debian's
webhook, which starts a command for every signed message, and aiohttp, which only reads them.

Rules kept here: each lives in a folder of its own; a peer that cannot be had is a BenchError that says why.

Left to others: measuring them.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.processes import BenchError, family, finish, run, running, wait_answer

__all__ = ["PM2", "Supervisord", "aiohttp", "pm2", "pycrdt", "webhook"]

PM2 = "7.0.4"
_HERE = Path(__file__).resolve().parent
_LOCK = _HERE.parent / "requirements" / "bench.txt"
_GET = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
_CALL = b"<?xml version='1.0'?><methodCall><methodName>supervisor.getState</methodName><params/></methodCall>"
_CONF = """\
[unix_http_server]
file={root}/rpc.sock
chmod=0600

[supervisord]
directory={root}
logfile={root}/supervisord.log
pidfile={root}/supervisord.pid
childlogdir={root}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[program:idle]
command=/bin/sleep 86400
"""


class Supervisord:
    """An idle supervisord below ``root``. Raises BenchError where it is not installed."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self._program = Path(sys.executable).parent / "supervisord"
        if not self._program.exists():
            raise BenchError(f"{self._program} does not exist")
        self._root = root
        (root / "supervisord.conf").write_text(_CONF.format(root=root))

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """supervisord in the foreground, not waited for."""
        command = [str(self._program), "-n", "-c", str(self._root / "supervisord.conf")]
        with running(command, self._root / "out.log") as process:
            yield process

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for its first answer to a remote procedure call."""
        head = f"POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: {len(_CALL)}\r\n\r\n"
        wait_answer(str(self._root / "rpc.sock"), head.encode() + _CALL, process)


@contextlib.contextmanager
def pm2(root: Path) -> Iterator[int]:
    """pm2's daemon, installed below ``root`` for as long as the block lasts: its process id. Raises BenchError."""
    npm = shutil.which("npm")
    if npm is None:
        raise BenchError("npm is not on the PATH")
    root.mkdir()
    home = root / "home"
    environment = {"PM2_HOME": str(home), "PM2_DISABLE_VERSION_CHECK": "true"}
    install = [npm, "install", "--prefix", str(root), "--no-audit", "--no-fund", "--no-save", f"pm2@{PM2}"]
    run(install, root, {}, 120)
    program = str(root / "node_modules" / ".bin" / "pm2")
    try:
        start = [program, "start", "/bin/sleep", "--name", "idle", "--interpreter", "none", "--", "86400"]
        run(start, root, environment, 60)
        yield _daemon(home)
    finally:
        with contextlib.suppress(BenchError):
            processes = family(_daemon(home))
            with contextlib.suppress(BenchError):
                run([program, "kill"], root, environment, 30)
            finish(processes)


def _daemon(home: Path) -> int:
    try:
        pid = int((home / "pm2.pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError) as error:
        raise BenchError("pm2's daemon does not run") from error
    return pid


@contextlib.contextmanager
def pycrdt(root: Path) -> Iterator[Any]:
    """The module pycrdt, installed below ``root`` as requirements/bench.txt pins it. Raises BenchError."""
    _install(root)
    # Last on the path: what is installed here already is what is used.
    sys.path.append(str(root))
    try:
        yield importlib.import_module("pycrdt")
    except ImportError as error:
        raise BenchError(f"pycrdt cannot be imported: {error}") from error
    finally:
        sys.path.remove(str(root))


@contextlib.contextmanager
def aiohttp(root: Path, port: int, wrapper: Sequence[str]) -> Iterator[None]:
    """A bare aiohttp server (bare.py), installed below ``root`` as requirements/bench.txt pins it. Raises BenchError."""
    _install(root / "lib")
    # -P: nothing of this folder is taken for a module of theirs.
    command = ["env", f"PYTHONPATH={root / 'lib'}", sys.executable, "-P", str(_HERE / "bare.py"), str(port)]
    with running([*wrapper, *command], root / "out.log") as process:
        wait_answer(("127.0.0.1", port), _GET, process)
        yield


@contextlib.contextmanager
def webhook(root: Path, port: int, wrapper: Sequence[str], secret: str) -> Iterator[None]:
    """webhook, which starts /bin/true for every body signed (HMAC-SHA256) with ``secret``; Debian's package is unpacked below
    ``root`` where it is not installed. Raises BenchError.
    """
    root.mkdir()
    rule = {"type": "payload-hmac-sha256", "secret": secret, "parameter": {"source": "header", "name": "X-Signature"}}
    hook = {
        "id": "note",
        "execute-command": "/bin/true",
        "http-methods": ["POST"],
        "success-http-response-code": 202,
        "response-message": "accepted",
        "trigger-rule": {"match": rule},
        "trigger-rule-mismatch-http-response-code": 401,
    }
    hooks = root / "hooks.json"
    hooks.touch(0o600)
    hooks.write_text(json.dumps([hook]))
    command = [_webhook(root), "-ip", "127.0.0.1", "-port", str(port), "-hooks", str(hooks)]
    with running([*wrapper, *command], root / "out.log") as process:
        wait_answer(("127.0.0.1", port), _GET, process)
        yield


def _webhook(root: Path) -> str:
    if program := shutil.which("webhook"):
        return program
    if not shutil.which("apt-get"):
        raise BenchError("it is not installed, and apt-get, which has it, is not here")
    # Downloaded and unpacked, not installed: the machine stays as it is.
    run(["apt-get", "-qq", "download", "webhook"], root, {}, 60)
    run(["dpkg-deb", "-x", *map(str, root.glob("webhook_*.deb")), str(root)], root, {}, 60)
    return str(root / "usr" / "bin" / "webhook")


def _install(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    install += ["--require-hashes", "--only-binary", ":all:", "--target", str(folder), "--requirement", str(_LOCK)]
    run(install, _LOCK.parent, {}, 120)
