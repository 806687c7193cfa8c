"""One signed request to a peer, and its signed answer: the single place where this node speaks to another.

Rules kept here: every attempt is signed afresh (same id, new timestamp, the key that is active now); an answer counts only
when the peer signed it for this very request, with a key that was accepted when the request went out or is now, and is not
revoked; time-outs bound the connection and the whole.

Left to others: when to send, and again (net.outbox); what is said (messages).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from outlast.clock import Clock
from outlast.core import webhook
from outlast.core.keys import Key, Ring, accepted, secrets_of, signing, signs
from outlast.errors import HttpError, PeerError, SignatureError, UnreachableError
from outlast.messages import Ping, Reply, sealed, traceparent
from outlast.net import client
from outlast.net.http import Response
from outlast.net.tls import Pinned, pinned
from outlast.quantity import duration
from outlast.settings import Config
from outlast.store.keyring import Keyring
from outlast.store.ledger import Ledger

__all__ = ["Answer", "Courier"]

_ANSWER_LIMIT = 16_384


@dataclass(frozen=True, slots=True)
class Answer:
    """What the peer said. ``seconds`` is the round trip, ``skew`` how far its clock is ahead of ours, in seconds."""

    reply: Reply
    seconds: float
    skew: float


class Courier:
    """Carries messages to the peers of one node."""

    def __init__(self, config: Config, keyring: Keyring, ledger: Ledger, clock: Clock, tls: Path) -> None:
        """``tls`` is the folder with the pins of peers that are reached over TLS."""
        # How far each peer's clock was ahead of ours when it last answered, in seconds.
        self.skew: dict[str, float | None] = dict.fromkeys(config.peers)
        self._config = config
        self._keyring = keyring
        self._ledger = ledger
        self._clock = clock
        self._tls = tls
        self._connect = duration(config.messages.connect_timeout)
        self._total = duration(config.messages.total_timeout)
        # How many requests are on their way, by the id of the key that signed them.
        self._flying: Counter[str] = Counter()
        self._landed = asyncio.Event()

    async def deliver(self, peer: str, msg_id: str, body: bytes) -> Answer:
        """Send one message once. Raises PeerError: not delivered, or not known to be (no answer, or not a proven one)."""
        if peer not in self._keyring.peers:
            raise PeerError(f"the key of {peer} is not here yet, so that no answer of it could be believed")
        if not signs(self._keyring.own):
            raise PeerError("no key signs here: the last one was revoked; mend: ansible-playbook rotate-keys.yml")
        key = signing(self._keyring.own)
        known = accepted(self._keyring.peers[peer])
        with self._flight(key.id):
            return await self._exchange(peer, msg_id, body, key, known)

    async def drained(self) -> bool:
        """Wait until no request is on its way that another key signed than the one that signs now.

        False where that took longer than a request may.
        """
        try:
            async with asyncio.timeout(self._total):
                while self._flying.keys() - {key.id for key in self._keyring.own if key.state == "active"}:
                    self._landed.clear()
                    await self._landed.wait()
        except TimeoutError:
            return False
        return True

    @contextmanager
    def _flight(self, key_id: str) -> Iterator[None]:
        self._flying[key_id] += 1
        try:
            yield
        finally:
            self._flying[key_id] -= 1
            if not self._flying[key_id]:
                del self._flying[key_id]
            self._landed.set()

    async def _exchange(self, peer: str, msg_id: str, body: bytes, key: Key, known: Ring) -> Answer:
        now = self._clock.time()
        began = self._clock.monotonic()
        headers = {
            "content-type": "application/json",
            "webhook-id": msg_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": webhook.sign(secrets_of((key,)), msg_id, int(now), body),
            "traceparent": traceparent(body),
        }
        try:
            response = await client.request(
                self._config.peers[peer].url,
                "POST",
                f"/inbox/{self._config.node}",
                headers=headers,
                body=body,
                connect_s=self._connect,
                total_s=self._total,
                pinned=self._pinned(peer),
                response_bytes=_ANSWER_LIMIT,
            )
        except HttpError as error:
            raise PeerError(f"{peer} answered, but not as a node does: {error}") from error
        seconds = self._clock.monotonic() - began
        if response.status == 401:
            own = self._config.node
            raise PeerError(f"{peer} does not take our signature: its copy of {own}'s key, or a clock, is not right")
        if response.status == 503 and "webhook-signature" not in response.headers:
            raise PeerError(f"{peer} answers 503, unsigned: it is probably in an emergency; see `outlast status` there")
        # A skewed clock is something to see, not a reason to doubt an answer that is bound to our id.
        try:
            believed = secrets_of(self._believed(peer, known))
            signed = webhook.verify(believed, response.headers, response.body, self._clock.time(), tolerance_s=86_400.0)
            reply = msgspec.json.decode(response.body, type=Reply)
        except (SignatureError, msgspec.MsgspecError) as error:
            raise PeerError(
                f"the answer (HTTP {response.status}) is not signed as {peer} signs: our copy of {peer}'s key is not right, "
                f"or something else listens at {self._config.peers[peer].url}"
            ) from error
        if signed.id != f"res_{msg_id}" or reply.node != peer:
            raise PeerError(f"{peer} answered something else than what was asked")
        skew = self.skew[peer] = reply.now - (now + seconds / 2)
        return Answer(reply, seconds, skew)

    def _believed(self, peer: str, known: Ring) -> Ring:
        """The keys that prove an answer of ``peer`` to a request that went out when ``known`` were accepted."""
        ring = self._keyring.peers[peer]
        ended = {key.id for key in ring if key.state == "revoked"}
        now = accepted(ring)
        held = {key.id for key in now}
        return (*now, *(key for key in known if key.id not in held | ended))

    def _pinned(self, peer: str) -> Pinned | None:
        return pinned(peer, self._config.peers[peer], self._tls, self._clock.time())

    async def ping(self, peer: str) -> Answer:
        """A signed round trip that asks for nothing. Raises PeerError, DurabilityError."""
        body = sealed(self._config.node, peer, secrets.token_hex(16), "ping", Ping())(0)
        answer = await self.deliver(peer, f"ping_{secrets.token_hex(10)}", body)
        if not answer.reply.accepted:
            raise PeerError(f"{peer} did not take the ping: {answer.reply.reason}")
        self._ledger.sent(peer, self._clock.time())
        return answer

    async def lost(self, peer: str) -> bool:
        """Does what is sent to the peer get no answer at all, not even that nobody listens there? A look as by ``alive``."""
        try:
            await self._look(peer, None)
        except UnreachableError as error:
            return error.lost
        except (PeerError, HttpError):
            pass
        return False

    async def alive(self, peer: str, within_s: float | None = None) -> bool:
        """Does anything answer at the peer's /healthz, within so many seconds? Proves nothing, costs neither node a write."""
        try:
            return (await self._look(peer, within_s)).status == 200
        except (PeerError, HttpError):
            return False

    async def _look(self, peer: str, within_s: float | None) -> Response:
        return await client.request(
            self._config.peers[peer].url,
            "GET",
            "/healthz",
            connect_s=within_s or self._connect,
            total_s=within_s or self._total,
            pinned=self._pinned(peer),
            response_bytes=_ANSWER_LIMIT,
        )
