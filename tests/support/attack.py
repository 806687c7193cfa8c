"""A node under attack: raw requests to its door, many on a connection, and proof that nothing came of them.

Rules kept here: what is sent is bytes, made here and not by the runtime's code, but for signatures; whoever attacks checks
at the end that the node said nothing it should not, did nothing, and grew by little.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
from fault.scenes import capture, envelope, events, extras, key

from .live import LiveNode, pair
from .served import answers, rest

__all__ = ["PING", "UNIT", "Message", "Victim", "message", "ping", "sent", "traces", "under_attack", "volley"]


@dataclass(frozen=True)
class Victim:
    """A node, and what opens its door: the secrets of its peer coz and of its outside service."""

    node: LiveNode
    secret: str
    outside: str

    @property
    def port(self) -> int:
        """Where its door is."""
        return self.node.port


class _Port(Protocol):
    @property
    def port(self) -> int: ...


UNIT = "coz-d1zjz7qv76sw"
_GROWTH = 12 << 20
PING: dict[str, Any] = {"message": {"type": "ping"}, "channel": "control", "seq": 0}


@dataclass(frozen=True)
class Message:
    """A request in parts, to be bent."""

    headers: Mapping[str, str]
    body: bytes
    path: str = "/inbox/coz"

    def raw(self, *, close: bool = False) -> bytes:
        """As it goes over the wire."""
        lines = [f"POST {self.path} HTTP/1.1", "host: axiom", f"content-length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += ["connection: close"] if close else []
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass") + self.body


def message(secret: str, msg_id: str, body: str | bytes, *, at: float | None = None, sender: str = "coz") -> Message:
    """A signed one; a body of bytes that are no text is signed as well."""
    if isinstance(body, str):
        made = capture(secret, msg_id, body, at=at, sender=sender)
        return Message(made.headers, body.encode(), made.path)
    from outlast.core import webhook
    from outlast.core.keys import parse_secret

    moment = int(time.time() if at is None else at)
    signature = webhook.sign([parse_secret(secret)], msg_id, moment, body)
    headers = {"webhook-id": msg_id, "webhook-timestamp": str(moment), "webhook-signature": signature}
    return Message(headers, body, f"/inbox/{sender}")


def ping(secret: str, msg_id: str) -> Message:
    """A message that asks for nothing."""
    return message(secret, msg_id, envelope("ping", **PING))


def sent(node: _Port, data: bytes, *, end: bool = True) -> bytes:
    """Raw bytes on a connection of their own; all that comes back."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=30) as wire:
        # It may have hung up before it was told all.
        with contextlib.suppress(OSError):
            wire.sendall(data)
            if end:
                wire.shutdown(socket.SHUT_WR)
        return rest(wire)


def volley(node: _Port, requests: Sequence[bytes]) -> list[int]:
    """Many requests, one after the other on as few connections as the node allows; the status of each."""
    statuses: list[int] = []
    while len(statuses) < len(requests):
        found = answers(sent(node, b"".join(requests[len(statuses) :])))
        assert found, "no answer at all"
        statuses += found
    return statuses[: len(requests)]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def traces(node: LiveNode) -> dict[str, str]:
    """What a message may cause: every file but logs and the bookkeeping, by its digest."""
    home = node.home
    skipped = {home.logs, home.ledger.parent, home.root / "run"}
    kept = [path for path in home.root.rglob("*") if path.is_file() and not skipped & {*path.parents}]
    kept += [path for folder in (home.tasks, home.trash) for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(home.root)): _digest(path) for path in kept if path.name != "daemon.log"}


@contextlib.contextmanager
def under_attack(root: Path, **messages: Any) -> Iterator[Victim]:
    """axiom, started, with an outside service ``door``; when it is left, nothing may have come of what it was sent."""
    laid = extras(Path("/bin/true"), health={"interval": "1h"}, shared={"rate": 100_000})
    laid["messages"] = {"rate": 1_000_000, "control_rate": 1_000_000, **messages}
    with pair(root, None, laid) as (_, node):
        node.start()
        outside = node.order("keys/add", {"name": "door", "allow": ["note"], "rate": 100_000})["secret"]
        victim = Victim(node, key(node, "coz"), outside)
        # What is loaded at the first message of a kind is no growth.
        assert set(volley(node, [ping(victim.secret, f"ping_{n}").raw() for n in range(200)])) == {200}
        assert node.process is not None
        process = psutil.Process(node.process.pid)
        before, memory = traces(node), process.memory_info().rss
        yield victim
        assert not node.ended(), node.log()
        assert traces(node) == before
        assert "Traceback" not in node.log()
        assert not events(node, "server.error") and not events(node, "node.crashed")
        assert process.memory_info().rss - memory < _GROWTH
        assert node.status()["tasks"]["open"] == 0
