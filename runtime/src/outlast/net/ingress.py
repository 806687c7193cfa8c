"""The door: what a message from a peer must pass, in this order, before anything acts on it.

size (net.server) → signature → freshness → replay → rate → schema and address → the handler, which makes it durable →
id and sequence remembered → 202.

Rules kept here: acknowledged means durable; a repeat gets the answer of the first time and causes nothing; who is not
authenticated learns only that it was refused; every refusal is counted and logged once a burst; answers to the
authenticated are signed, so that the peer knows who spoke.

Left to others: bytes and sockets (net.server), the cryptography (core.webhook), the work (the handler).
"""

from __future__ import annotations

import re
from math import ceil
from typing import Protocol

import msgspec

from outlast.clock import Clock
from outlast.config import Config
from outlast.core import webhook
from outlast.core.crdt import Holding
from outlast.core.ids import UNIT_TAIL
from outlast.core.ratelimit import Bucket, take
from outlast.errors import BadInput, DurabilityError, OutlastError, SignatureError
from outlast.messages import Envelope, Message, Ping, Reply, Result, Share, Task, decode
from outlast.net.http import Request, Response
from outlast.quantity import duration
from outlast.store.events import EventLog
from outlast.store.keyring import Keyring
from outlast.store.ledger import Ledger

__all__ = ["Busy", "Door", "Ingress"]

_INBOX = re.compile(r"/inbox/([a-z][a-z0-9-]{0,31})")
_ACCEPTED = 202
# Our answer's id is "res_" and the request's; an id has at most 64 characters.
_ID_LIMIT = 60


class Busy(OutlastError):
    """The node cannot take this now; the peer may try again."""


class Door(Protocol):
    """What stands behind the door."""

    def accept(self, envelope: Envelope) -> Holding | None:
        """Take a message, durably and idempotently; a Share is answered with what is held then.

        Raises Busy, DurabilityError; BadInput for what will never be taken.
        """

    def heard(self, peer: str) -> None:
        """A peer gave a proven sign of life."""

    def reasons(self) -> list[str]:
        """Why no work can be taken now; empty when it can."""


class Ingress:
    """Answers every HTTP request that comes from outside."""

    def __init__(
        self, config: Config, keyring: Keyring, ledger: Ledger, door: Door, events: EventLog, clock: Clock
    ) -> None:
        self.refused: dict[str, int] = {}
        self._config = config
        self._tolerance = duration(config.messages.tolerance)
        self._window = duration(config.messages.rate_window)
        # An id must outlive every moment at which its timestamp could still pass (dated ahead, that is twice the tolerance),
        # and the time for which its sender may go on sending it.
        self._remember = max(2.2 * self._tolerance, 2.0 * duration(config.messages.keep))
        self._busy_for = ceil(duration(config.messages.busy_for))
        self._keyring = keyring
        self._ledger = ledger
        self._door = door
        self._events = events
        self._clock = clock
        # By sender and kind: what the nodes know together must not use up what work is allowed.
        self._buckets: dict[tuple[str, bool], Bucket] = {}

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        if request.path == "/healthz" and request.method in {"GET", "HEAD"}:
            return _json(200, {"status": "alive", "node": self._config.node})
        if request.path == "/readyz" and request.method in {"GET", "HEAD"}:
            reasons = self._door.reasons()
            return _json(503 if reasons else 200, {"ready": not reasons, "reasons": reasons})
        inbox = _INBOX.fullmatch(request.path)
        if inbox is None:
            return _json(404, {"error": "not found"})
        if request.method != "POST":
            return _json(405, {"error": "method not allowed"}, {"allow": "POST"})
        return self._message(inbox[1], request)

    def _message(self, sender: str, request: Request) -> Response:
        now = self._clock.time()
        try:
            if sender not in self._keyring.peers:
                raise SignatureError("unknown sender")
            secrets = self._keyring.peers[sender]
            signed = webhook.verify(secrets, request.headers, request.body, now, self._tolerance)
            if signed.timestamp < self._ledger.not_before:
                raise SignatureError("signed before the replay store was begun anew")
            if len(signed.id) > _ID_LIMIT:
                raise SignatureError("an id so long that its answer's could not be told from another's")
        except SignatureError as error:
            self._refuse(sender, str(error), request.remote)
            return _json(401, {"error": "refused"})
        self._door.heard(sender)
        try:
            return self._authentic(sender, signed.id, request)
        except DurabilityError as error:
            self._refuse(sender, str(error), request.remote)
            return self._answer(503, signed.id, "cannot write", retry=self._busy_for)

    def _authentic(self, sender: str, msg_id: str, request: Request) -> Response:
        first = self._ledger.seen(sender, msg_id)
        if first is not None:
            self._events.burst("message.repeat", f"repeat from {sender}", id=msg_id)
            return self._answer(first, msg_id, "")
        try:
            envelope = decode(request.body)
        except msgspec.MsgspecError as error:
            self._refuse(sender, f"schema: {error}", request.remote)
            return self._answer(422, msg_id, f"schema: {error}")
        if envelope.sender != sender or envelope.to != self._config.node or not _owned(envelope):
            self._refuse(sender, "wrong address", request.remote)
            return self._answer(422, msg_id, "wrong address")
        control = isinstance(envelope.message, Ping)
        if not control and (wait := self._over_rate(sender, envelope.message)):
            self._refuse(sender, "rate", request.remote)
            return self._answer(429, msg_id, "too many messages", retry=ceil(wait))
        try:
            holding = self._door.accept(envelope)
        except Busy as busy:
            return self._answer(503, msg_id, str(busy), retry=self._busy_for)
        except BadInput as wrong:
            self._refuse(sender, f"content: {wrong}", request.remote)
            return self._answer(422, msg_id, str(wrong))
        now = self._clock.time()
        status = 200 if control else _ACCEPTED
        found = self._ledger.accept(msg_id, sender, envelope.seq, status, now, now - self._remember)
        self._events.emit(
            f"{type(envelope.message).__name__.lower()}.accepted",
            trace_id=envelope.trace_id,
            span_id=envelope.span_id,
            correlation_id=envelope.correlation_id,
            id=msg_id,
            peer=sender,
            seq=envelope.seq,
            **({"finding": found} if found else {}),
        )
        return self._answer(status, msg_id, "", holding=holding)

    def _over_rate(self, sender: str, message: Message) -> float:
        shared = isinstance(message, Share)
        rate = self._config.shared.rate if shared else self._config.messages.rate
        bucket, wait = take(self._buckets.get((sender, shared)), self._clock.monotonic(), rate, self._window)
        self._buckets[sender, shared] = bucket
        return wait

    def _refuse(self, sender: str, reason: str, remote: str) -> None:
        kind = reason.split(":", 1)[0]
        self.refused[kind] = self.refused.get(kind, 0) + 1
        known = sender if sender in self._keyring.peers else "unknown"
        self._events.burst("message.refused", f"{known}: {kind}", detail=reason, remote=remote)

    def _answer(
        self, status: int, msg_id: str, reason: str, retry: int = 0, holding: Holding | None = None
    ) -> Response:
        now = self._clock.time()
        reply = Reply(node=self._config.node, status=status, now=now, reason=reason, retry_after=retry, holding=holding)
        body = msgspec.json.encode(reply)
        headers = {
            "content-type": "application/json",
            "webhook-id": f"res_{msg_id}",
            "webhook-timestamp": str(int(now)),
        }
        headers["webhook-signature"] = webhook.sign(self._keyring.own[:1], headers["webhook-id"], int(now), body)
        if retry:
            headers["retry-after"] = str(retry)
        return Response(status, body, headers)


def _owned(envelope: Envelope) -> bool:
    """A task is named by who hands it over, and a result answers a task of ours: nobody speaks of others' work."""
    match envelope.message:
        case Task(unit=unit):
            return unit[:-UNIT_TAIL] == envelope.sender
        case Result(unit=unit):
            return unit[:-UNIT_TAIL] == envelope.to
    return True


def _json(status: int, value: object, headers: dict[str, str] | None = None) -> Response:
    return Response(status, msgspec.json.encode(value), {"content-type": "application/json", **(headers or {})})
