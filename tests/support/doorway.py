"""A node's door without its network: requests go in as the HTTP server would hand them over, and a clock that is set by hand.

Rules kept here: signatures are made here, with the standard library alone; what is sent together arrives in one turn of the
event loop; ``again()`` is a restart.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from pathlib import Path
from typing import Any

from outlast.config import load_config
from outlast.net.connection import Later
from outlast.net.http import Request, Response
from outlast.node import Node
from outlast.store.keyring import Keyring
from support.artifacts import make_home
from support.clock import FixedClock

__all__ = ["KEYS", "NOON", "UNITS", "Doorway", "envelope", "note", "signed"]

NOON = 1_795_262_400.0
KEYS = {"coz": b"c" * 32, "witness": b"w" * 32}
UNITS = [f"coz-d1zjz7qv76s{letter}" for letter in "abcdefghjkmnpqrstvwxyz"]


def envelope(message: dict[str, Any], seq: int = 1, **changes: Any) -> bytes:
    """The body of a message from coz to axiom."""
    plain = {
        "v": 1, "from": "coz", "to": "axiom", "channel": "main", "seq": seq, "trace_id": "a" * 32, "span_id": "b" * 16,
        "correlation_id": "c", "message": message,
    }  # fmt: skip
    return json.dumps({**plain, **changes}).encode()


def note(text: str = "the backup disk is new", seq: int = 1, **changes: Any) -> bytes:
    """The body of a note from coz to axiom."""
    return envelope({"type": "note", "text": text}, seq, **changes)


def signed(
    body: bytes, msg_id: str = "note_1", sender: str = "coz", at: float = NOON, key: bytes | None = None, **headers: str
) -> Request:
    """A request as its sender signs it; ``headers`` with ``_`` for ``-``."""
    moment = str(int(at))
    mac = hmac.digest(key or KEYS[sender], f"{msg_id}.{moment}.".encode() + body, "sha256")
    plain = {
        "webhook-id": msg_id,
        "webhook-timestamp": moment,
        "webhook-signature": "v1," + base64.b64encode(mac).decode(),
        "host": "x",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return Request("POST", f"/inbox/{sender}", plain, body, "192.0.2.7")


class Doorway:
    """axiom, whose peers are coz and witness."""

    def __init__(self, root: Path, **config: Any) -> None:
        peers = {name: {"url": "http://127.0.0.1:1"} for name in KEYS}
        messages = {"rate": 1000, "control_rate": 1000, **config.pop("messages", {})}
        self.home = make_home(root, "axiom", peers=peers, messages=messages, **config)
        for name, key in KEYS.items():
            path = self.home.keys / f"{name}.key"
            path.write_text(f"whsec_{base64.b64encode(key).decode()}\n")
            path.chmod(0o600)
        self.clock = FixedClock(NOON)
        self.node = self._open()

    def _open(self) -> Node:
        loaded = load_config(self.home.config)
        self.keys = Keyring(self.home.keys, "axiom", list(loaded.peers))
        return Node(loaded, self.home, self.keys, self.clock)

    def again(self) -> None:
        """kill -9, and a start."""
        self.node._local.ledger.close()
        self.node = self._open()

    def close(self) -> None:
        """A stop."""
        self.node._local.close()

    def send(self, *requests: Request) -> list[Response]:
        """All in one turn; their answers, in their order."""

        async def turn() -> list[Response]:
            waiting = [asyncio.get_running_loop().create_future() for _ in requests]
            for request, future in zip(requests, waiting, strict=True):
                answer = self.node.ingress(request)
                if isinstance(answer, Later):
                    answer.then(future.set_result)
                else:
                    future.set_result(answer)
            return list(await asyncio.gather(*waiting))

        answers = asyncio.run(turn())
        for answer in answers:
            assert isinstance(answer, Response), answer
        return answers

    def statuses(self, *requests: Request) -> list[int]:
        """The same, of each only the status."""
        return [answer.status for answer in self.send(*requests)]

    def noted(self) -> list[str]:
        """What the journal has under NOTE, of what came through the door."""
        lines = "".join(path.read_text() for path in sorted(self.home.memory.glob("*.md"))).splitlines()
        return [line.split(" ", 4)[4].rsplit(" [", 1)[0] for line in lines if " NOTE " in line]

    def recorded(self) -> list[dict[str, Any]]:
        """The rows of the ledger's record."""
        cursor = self.node.ledger._run("SELECT * FROM accepted ORDER BY n")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def refused(self) -> dict[str, int]:
        """How often what was refused."""
        return self.node.ingress.refused
