"""Signing and believing while keys change: each attempt by the key of its moment, each answer by those of its request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from support.clock import FixedClock

from outlast.config import load_config
from outlast.core import keys, webhook
from outlast.core.keys import Secret
from outlast.core.ringtext import ring_text
from outlast.errors import PeerError
from outlast.messages import Ping, Reply, sealed
from outlast.net import courier as module
from outlast.net.courier import Courier
from outlast.net.http import Response
from outlast.settings import Config
from outlast.store.keyring import Keyring, write_ring
from outlast.store.ledger import Ledger

NOON = 1_795_262_400.0
CONFIG = """
node: coz
listen: {host: 127.0.0.1, port: 1}
agent: {command: [/bin/true]}
peers: {axiom: {url: "http://127.0.0.1:2"}}
messages: {total_timeout: 300ms, connect_timeout: 100ms}
"""
TRACE = "a" * 32
BODY = sealed("coz", "axiom", TRACE, "ping", Ping())(0)


def secret(number: int) -> Secret:
    return Secret(bytes([number]) * 32)


class Wire:
    """A peer that answers when it is told to, signing with ``answers``."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        (root / "node.yml").write_text(CONFIG)
        self.config: Config = load_config(root / "node.yml")
        for number, name in ((1, "coz"), (11, "axiom")):
            write_ring(root / f"{name}.key", keys.use(keys.prepare((), secret(number), NOON, "")))
        self.ring = Keyring(root, "coz", ["axiom"])
        self.courier = Courier(self.config, self.ring, cast(Ledger, None), FixedClock(NOON), root / "tls")
        self.answers = secret(11)
        self.seen: list[str] = []
        self.traces: list[str] = []
        self.go = asyncio.Event()
        patch.setattr(module.client, "request", self.request)

    async def request(self, url: str, method: str, path: str, **more: Any) -> Response:
        headers: dict[str, str] = more["headers"]
        ours = [key.secret for key in keys.accepted(self.ring.own) if key.secret]
        self.seen.append(webhook.verify(ours, headers, more["body"], NOON, 300).key)
        self.traces.append(headers["traceparent"])
        await self.go.wait()
        body = msgspec.json.encode(Reply(node="axiom", status=200, now=NOON))
        msg_id = f"res_{headers['webhook-id']}"
        signature = webhook.sign([self.answers], msg_id, int(NOON), body)
        named = {"webhook-id": msg_id, "webhook-timestamp": str(int(NOON)), "webhook-signature": signature}
        return Response(200, body, named)

    async def during(self, change: Callable[[], object]) -> bool:
        """A message, and a change while it is on its way: was its answer believed?"""
        self.go.clear()
        sent = asyncio.create_task(self.courier.deliver("axiom", "msg_1", BODY))
        await asyncio.sleep(0)
        change()
        self.go.set()
        try:
            await sent
        except PeerError as error:
            assert "is not signed as axiom signs" in str(error)
            return False
        return True

    def told(self, own: keys.Ring) -> None:
        """Axiom's ring arrives."""
        self.ring.accept("axiom", ring_text(own))


@pytest.fixture
def wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(tmp_path, monkeypatch)


def test_each_attempt_is_signed_by_the_key_of_its_moment(wire: Wire) -> None:
    """The same message, sent again after the key was changed, has the new key's signature."""
    wire.go.set()

    async def twice() -> None:
        await wire.courier.deliver("axiom", "msg_1", BODY)
        wire.ring.prepare("hmac", NOON + 60, "r1")
        await wire.courier.deliver("axiom", "msg_1", BODY)
        wire.ring.use()
        await wire.courier.deliver("axiom", "msg_1", BODY)

    asyncio.run(twice())
    old, new = wire.ring.own[1].id, wire.ring.own[0].id
    assert wire.seen == [old, old, new]


def test_what_watches_the_wire_can_follow_a_trace(wire: Wire) -> None:
    """The header of the W3C says of which trace a message is, in a span of its own."""
    wire.go.set()
    asyncio.run(wire.courier.deliver("axiom", "msg_1", BODY))
    version, trace, span, flags = wire.traces[0].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01") and re.fullmatch("[0-9a-f]{16}", span)


def test_an_answer_is_believed_by_the_keys_of_its_request_or_of_now(wire: Wire) -> None:
    """The peer's key may be retired, or a new one be told, while an answer is on its way; a revoked one proves nothing."""
    begun = wire.ring.peers["axiom"]
    used = keys.use(keys.prepare(begun, secret(12), NOON + 60, "r1"))

    async def all_of_it() -> list[bool]:
        retired = await wire.during(lambda: wire.told(keys.retire(used)))
        old = await wire.during(lambda: None)
        wire.answers = secret(12)
        new = await wire.during(lambda: None)
        third = keys.use(keys.prepare(keys.retire(used), secret(13), NOON + 90, "r2"))
        wire.answers = secret(13)
        told = await wire.during(lambda: wire.told(third))
        revoked = await wire.during(lambda: wire.ring.revoke("axiom", {third[0].id}))
        return [retired, old, new, told, revoked]

    assert asyncio.run(all_of_it()) == [True, False, True, True, False]


def test_a_new_key_is_used_once_nothing_older_is_on_its_way(wire: Wire) -> None:
    """Whoever waits is told when the last request that an older key signed was answered, or has taken too long."""

    async def drained() -> list[bool]:
        said = [await wire.courier.drained()]
        sent = asyncio.create_task(wire.courier.deliver("axiom", "msg_1", BODY))
        await asyncio.sleep(0)
        said.append(await wire.courier.drained())
        wire.ring.prepare("hmac", NOON + 60, "r1")
        wire.ring.use()
        waiting = asyncio.create_task(wire.courier.drained())
        await asyncio.sleep(0)
        said.append(waiting.done())
        wire.go.set()
        said.append(await waiting)
        await sent
        wire.go.clear()
        late = asyncio.create_task(wire.courier.deliver("axiom", "msg_2", BODY))
        await asyncio.sleep(0)
        wire.ring.prepare("hmac", NOON + 90, "r2")
        wire.ring.use()
        said.append(await wire.courier.drained())
        wire.go.set()
        await late
        return said

    assert asyncio.run(drained()) == [True, True, False, True, False]


def test_without_a_key_that_signs_nothing_is_sent(wire: Wire) -> None:
    """After its own keys were revoked a node says what is to be done."""
    wire.ring.revoke("coz")
    with pytest.raises(PeerError, match="rotate-keys"):
        asyncio.run(wire.courier.deliver("axiom", "msg_1", BODY))
    assert not wire.seen and asyncio.run(wire.courier.drained())
