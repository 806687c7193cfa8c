"""Clients of Standard Webhooks that we did not write: PyPI's and npm's ``standardwebhooks`` and ``svix``, behind one face.

Rules kept here: npm's are installed once a machine, outside the checkout, from the lock in tests/clients, and no script of
theirs is run at that; a Node process that was started is ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import standardwebhooks
import svix.webhooks

from .needs import missing

__all__ = ["NAMES", "Client", "clients", "signed"]

_HERE = Path(__file__).resolve().parents[1] / "clients"
_LOCK = ("package.json", "package-lock.json")
NAMES = ("PyPI standardwebhooks", "PyPI svix", "npm standardwebhooks", "npm svix")


class Client(Protocol):
    """One implementation."""

    def sign(self, secret: str, msg_id: str, at: int, body: str) -> str:
        """The ``webhook-signature`` of a message; ``at`` in seconds since 1970."""

    def verify(self, secret: str, headers: Mapping[str, str], body: str) -> bool:
        """Does it believe the message?"""


def signed(client: Client, secret: str, msg_id: str, at: int, body: str) -> dict[str, str]:
    """The headers of a message of this client's."""
    return {
        "content-type": "application/json",
        "webhook-id": msg_id,
        "webhook-timestamp": str(at),
        "webhook-signature": client.sign(secret, msg_id, at, body),
    }


class _Python:
    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def sign(self, secret: str, msg_id: str, at: int, body: str) -> str:
        return str(self._kind(secret).sign(msg_id, datetime.fromtimestamp(at, UTC), body))

    def verify(self, secret: str, headers: Mapping[str, str], body: str) -> bool:
        try:
            self._kind(secret).verify(body, dict(headers))
        except standardwebhooks.WebhookVerificationError:
            return False
        return True


class _Node:
    def __init__(self, process: subprocess.Popen[str], package: str) -> None:
        self._process = process
        self._package = package

    def sign(self, secret: str, msg_id: str, at: int, body: str) -> str:
        return str(self._ask(secret=secret, id=msg_id, at=at, body=body)["signature"])

    def verify(self, secret: str, headers: Mapping[str, str], body: str) -> bool:
        return bool(self._ask(secret=secret, headers=dict(headers), body=body)["verified"])

    def _ask(self, **fields: Any) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"client": self._package, **fields}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the Node process ended with {self._process.poll()}"
        answer: dict[str, Any] = json.loads(line)
        return answer


def _installed() -> Path:
    """The folder with npm's packages; made where it is not there yet."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            missing(f"{program}, for the clients from npm")
    digest = hashlib.sha256(b"".join((_HERE / name).read_bytes() for name in _LOCK)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outlast" / "clients"
    folder = cache / digest
    if not folder.exists():
        # Beside it, and renamed when whole: two runs may do it at once.
        making = cache / f"{digest}.{os.getpid()}"
        making.mkdir(parents=True)
        for name in _LOCK:
            shutil.copy(_HERE / name, making)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=making, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if done.returncode:
            shutil.rmtree(making)
            missing(f"npm's packages: {done.stderr.strip().splitlines()[-1:]}")
        try:
            making.rename(folder)
        except OSError:
            shutil.rmtree(making)
    return folder


@contextlib.contextmanager
def clients() -> Iterator[dict[str, Client]]:
    """All four, by name."""
    environment = {**os.environ, "NODE_CLIENTS": str(_installed())}
    process = subprocess.Popen(
        ["node", str(_HERE / "sign_and_verify.mjs")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True,
    )  # fmt: skip
    try:
        found: tuple[Client, ...] = (
            _Python(standardwebhooks.Webhook),
            _Python(svix.webhooks.Webhook),
            _Node(process, "standardwebhooks"),
            _Node(process, "svix"),
        )
        yield dict(zip(NAMES, found, strict=True))
    finally:
        process.kill()
        process.communicate()
