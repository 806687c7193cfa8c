"""Clients that we did not write sign to a live node and verify what it sends, while keys are rotated on both sides."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fault.scenes import envelope, extras, hand_over
from support.clients import NAMES, Client, clients, signed
from support.live import LiveNode, free_port, share_keys, until

from outlast.core.ringtext import ring_text
from outlast.store.keyring import Keyring

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def four() -> Iterator[dict[str, Client]]:
    """All clients."""
    with clients() as found:
        yield found


@pytest.fixture(params=NAMES)
def client(request: pytest.FixtureRequest, four: dict[str, Client]) -> Client:
    """One of them after the other."""
    return four[request.param]


@dataclass
class Stranger:
    """A peer called axiom that is no node of ours: it verifies by a client, and answers signed by it."""

    client: Client
    port: int
    secret: str
    # The node's secrets that it believes, by the ring that it was handed.
    believed: list[str] = field(default_factory=list)
    taken: dict[str, list[str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def answer(self, headers: dict[str, str], body: str) -> tuple[int, dict[str, str], bytes]:
        """Take a message, or refuse it as a node does."""
        by = [secret for secret in self.believed if self.client.verify(secret, headers, body)]
        if not by:
            self.refused.append(headers.get("webhook-id", ""))
            return 401, {}, b"{}"
        self.taken.setdefault(headers["webhook-id"], []).append(by[0])
        status = 200 if '"ping"' in body else 202
        said = json.dumps({"node": "axiom", "status": status, "now": time.time()})
        return (
            status,
            signed(self.client, self.secret, f"res_{headers['webhook-id']}", int(time.time()), said),
            said.encode(),
        )


@contextmanager
def standing(stranger: Stranger) -> Iterator[None]:
    """Its server, for the length of the block. One request at a time: a client may be one process behind a pipe."""
    turn = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self._say(200, {}, b'{"status":"alive"}')

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            with turn:
                told = stranger.answer(headers, body)
            self._say(*told)

        def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", stranger.port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Peer:
    """Where axiom keeps its own keys, with no runtime."""

    def __init__(self, node: LiveNode) -> None:
        self._ring = Keyring(node.home.keys, node.name, [])

    def rotate(self, *steps: str) -> None:
        """Take these steps of a rotation."""
        for step in steps:
            if step == "prepare":
                self._ring.prepare("hmac", time.time(), "r1")
            else:
                getattr(self._ring, step)()

    @property
    def ring(self) -> str:
        """As it is carried to others."""
        return ring_text(self._ring.own)


def accepts(node: LiveNode, peer: Peer) -> None:
    """The node is handed the peer's keys."""
    assert node.order("keys/accept", {"agent": "axiom", "ring": peer.ring})["accepted"]


def ring_of(node: LiveNode) -> str:
    """The node's own ring, as it is carried to its peers."""
    done = node.cli("keys", "show")
    assert done.returncode == 0, done.stderr
    return done.stdout


def live_secrets(ring: str) -> list[str]:
    """The secrets of a ring, newest first."""
    return [line.split()[0] for line in ring.splitlines() if not line.startswith("-")]


@pytest.fixture
def coz(tmp_path: Path) -> Iterator[LiveNode]:
    """A node whose one peer, axiom, is not there yet, but for its keys."""
    ports = free_port(), free_port()
    node = LiveNode(
        tmp_path, "coz", ports[0], {"axiom": ports[1]}, extras(Path("/bin/true"), health={"interval": "1h"})
    )
    # Where the peer keeps its ring: a home of its own, of which no daemon runs.
    other = LiveNode(tmp_path, "axiom", ports[1], {"coz": ports[0]})
    share_keys(node, other)
    try:
        node.start()
        yield node
    finally:
        node.kill()


def post(node: LiveNode, sender: str, headers: dict[str, str], body: str) -> tuple[int, dict[str, str], str]:
    """Send a message to the node: status, headers and body of its answer."""
    wire = http.client.HTTPConnection("127.0.0.1", node.port, timeout=30)
    try:
        wire.request("POST", f"/inbox/{sender}", body.encode(), headers)
        answer = wire.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    finally:
        wire.close()


def ping(number: int) -> str:
    """A peer's message that asks for nothing."""
    return envelope(
        f"ping {number}", **{"from": "axiom", "to": "coz"}, seq=0, channel="control", message={"type": "ping"}
    )


def test_a_peer_that_is_not_ours_signs_while_keys_are_rotated(coz: LiveNode, client: Client) -> None:
    """A peer that signs by another implementation is believed with its old key and its next one until the old is retired, and
    believes each answer, whichever key of the node's is in use; a retired key is refused."""
    other = Peer(LiveNode(coz.home.root.parent, "axiom", free_port(), {"coz": coz.port}))
    number = 0

    def asks(secret: str, believed: str) -> int:
        nonlocal number
        number += 1
        body = ping(number)
        status, headers, said = post(
            coz, "axiom", signed(client, secret, f"ping_{number}", int(time.time()), body), body
        )
        assert status == 401 or client.verify(believed, headers, said)
        assert status != 401 or not any(name.startswith("webhook") for name in headers)
        return status

    (old,) = live_secrets(other.ring)
    (own,) = live_secrets(ring_of(coz))
    assert asks(old, own) == 200
    # The peer's keys.
    other.rotate("prepare")
    new, _ = live_secrets(other.ring)
    assert asks(new, own) == 401
    accepts(coz, other)
    assert asks(new, own) == asks(old, own) == 200
    other.rotate("use", "retire")
    accepts(coz, other)
    assert asks(new, own) == 200
    assert asks(old, own) == 401
    # The node's own.
    coz.order("keys/prepare", {"rotation": "r1"})
    assert asks(new, own) == 200
    coz.order("keys/use")
    used, _ = live_secrets(ring_of(coz))
    assert used != own
    assert asks(new, used) == 200
    coz.order("keys/retire")
    assert asks(new, used) == 200
    assert live_secrets(ring_of(coz)) == [used]


def test_a_peer_that_is_not_ours_believes_what_a_node_sends(coz: LiveNode, client: Client, tmp_path: Path) -> None:
    """Messages that a node sends all the while are verified by another implementation, and its answers are believed, through a
    rotation on either side: none is refused, each is delivered once, and the last come under the new key."""
    port = int(coz.config["peers"]["axiom"]["url"].rpartition(":")[2])
    other = Peer(LiveNode(tmp_path, "axiom", port, {"coz": coz.port}))
    stranger = Stranger(client, port, live_secrets(other.ring)[0], live_secrets(ring_of(coz)))
    sent = 0

    def flows() -> None:
        """Pings and hand-offs more have arrived."""
        nonlocal sent
        for _ in range(3):
            hand_over(coz)
            assert coz.order("ping", {"peer": "axiom"})["ok"]
        sent += 6
        until(lambda: not coz.status()["channels"]["axiom"]["queued"], what="the outbox is empty")

    with standing(stranger):
        flows()
        coz.order("keys/prepare", {"rotation": "r1"})
        stranger.believed = live_secrets(ring_of(coz))
        flows()
        coz.order("keys/use")
        flows()
        coz.order("keys/retire")
        stranger.believed = live_secrets(ring_of(coz))
        flows()
        other.rotate("prepare")
        accepts(coz, other)
        other.rotate("use")
        stranger.secret = live_secrets(other.ring)[0]
        flows()
        other.rotate("retire")
        accepts(coz, other)
        flows()
    assert stranger.refused == []
    assert len(stranger.taken) >= sent
    assert all(len(by) == 1 for by in stranger.taken.values())
    (new,) = live_secrets(ring_of(coz))
    assert list(stranger.taken.values())[-1] == [new]


def event(text: str) -> str:
    """What an outside service says."""
    return json.dumps({"type": "note", "timestamp": "2026-11-21T03:00:00Z", "data": {"text": text}}, ensure_ascii=False)


def test_an_outside_service_signs_by_another_implementation(coz: LiveNode, client: Client) -> None:
    """A service that was given a key is taken at its word, once, and answered tersely and unsigned; without its key, with a
    peer's, or as another it is refused; removed and added again it has another key, and the old one is refused."""
    secret = coz.json("keys", "add", "home-assistant", "--allow", "note")["secret"]
    number = 0

    def says(text: str, by: str = secret, name: str = "home-assistant") -> int:
        nonlocal number
        number += 1
        body = event(text)
        status, headers, said = post(coz, name, signed(client, by, f"msg_{number}", int(time.time()), body), body)
        assert len(said) < 100 and not any(header.startswith("webhook") for header in headers)
        return status

    assert says("the door is öpen") == 202
    until(lambda: "the door is öpen" in coz.journal(), what="the note is in the journal")
    (peers,) = live_secrets((coz.home.keys / "axiom.key").read_text())
    assert says("forged", by=peers) == 401
    assert says("forged", name="axiom") == 401
    assert says("forged", by="whsec_" + "Zm9y" * 8) == 401
    coz.order("keys/remove", {"name": "home-assistant"})
    assert says("too late") == 401
    fresh = coz.order("keys/add", {"name": "home-assistant", "allow": ["note"]})["secret"]
    assert says("too late") == 401
    assert says("again in", by=fresh) == 202
    until(lambda: "again in" in coz.journal(), what="the note is in the journal")
    assert "forged" not in coz.journal() and "too late" not in coz.journal()
    assert coz.journal().count("the door is öpen") == 1
