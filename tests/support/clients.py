"""Clients of Standard Webhooks that we did not write: PyPI's and npm's ``standardwebhooks`` and ``svix``, behind one face.

Rules kept here: a Node process that was started is ended. Left to others: having npm's packages (npm).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import standardwebhooks
import svix.webhooks

from .npm import installed

__all__ = ["NAMES", "Client", "clients", "signed"]

_HERE = Path(__file__).resolve().parents[1] / "clients"
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


@contextlib.contextmanager
def clients() -> Iterator[dict[str, Client]]:
    """All four, by name."""
    environment = {**os.environ, "NODE_CLIENTS": str(installed(_HERE))}
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
