"""The door: what a message must pass, in this order, before anything acts on it.

size, headers, slow senders (net.server) → signature → timestamp → id not seen → rate → strict JSON, schema, address → the
journal, or whatever makes it durable → id, sequence and record in the ledger → 202.

Rules kept here:

* A repeat gets the answer of the first time and causes nothing, also one that comes before the first is answered. Nor does it
  take from its sender's rate: anybody may repeat what was overheard.
* Who is not authenticated learns only that it was refused, in the same words and, as far as we can, the same time, whoever it
  said it was. Every refusal is counted and logged once a burst.
* Peers' answers are signed, so that they know who spoke; outside services get a few plain words.
* An outside service may send what its key was made for and nothing else; it is never taken for a peer.

Left to others: bytes and sockets (net.server), the cryptography (core.webhook), making it durable before it is acknowledged
(net.intake). The sequence is in the signed body: it is recorded with the id, in the same transaction.
"""

from __future__ import annotations

import re
import secrets
from math import ceil

import msgspec

from outlast.clock import Clock
from outlast.core import webhook
from outlast.core.ids import UNIT_TAIL
from outlast.core.keys import Secret, secrets_of, signing, signs
from outlast.core.ratelimit import Bucket, Lane, lane, take
from outlast.core.record import one_line
from outlast.core.ringtext import Outside
from outlast.core.webhook import Signed
from outlast.errors import BadInput, DurabilityError, OutlastError, SignatureError
from outlast.messages import Envelope, Reply, Result, Task, decode, decode_event
from outlast.net.connection import Later
from outlast.net.http import Request, Response
from outlast.net.intake import Arrival, Busy, Door, Effect, Intake, success
from outlast.quantity import duration
from outlast.settings import Config
from outlast.store.events import EventLog
from outlast.store.keyring import Keyring
from outlast.store.ledger import Keep, Ledger
from outlast.work.notes import Noted

__all__ = ["Ingress"]

_INBOX = re.compile(r"/inbox/([a-z][a-z0-9-]{0,31})")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")
# An answer's id is this and the request's; an id has at most 64 characters.
_ANSWER = "res_"
_ID_LIMIT = 60
# So many of the newest refusals are known again.
_UNFIT = 1024
_MINUTE = 60.0
_NOTHING = Effect()


class _UnfitError(Exception):
    """This will never be taken from there."""


class Ingress:
    """Answers every HTTP request that comes from outside."""

    def __init__(
        self, config: Config, keyring: Keyring, ledger: Ledger, door: Door, events: EventLog, clock: Clock
    ) -> None:
        self.refused: dict[str, int] = {}
        self._node = config.node
        self._tolerance = duration(config.messages.tolerance)
        self._window = duration(config.messages.rate_window)
        self._rates: dict[Lane, int] = {
            "work": config.messages.rate,
            "control": config.messages.control_rate,
            "shared": config.shared.rate,
        }
        # An id must outlive every moment at which its timestamp could still pass (dated ahead, that is twice the tolerance),
        # and the time for which its sender may go on sending it.
        keep = Keep(
            ids_s=max(2.2 * self._tolerance, 2.0 * duration(config.messages.keep)),
            record_s=duration(config.messages.audit_keep),
            record_most=config.messages.audit_most,
            ahead_s=self._tolerance,
        )
        self._busy_for = ceil(duration(config.messages.busy_for))
        self._keyring = keyring
        self._ledger = ledger
        self._door = door
        self._intake = Intake(door, ledger, keep, events, clock, self._outcome)
        self._events = events
        self._clock = clock
        self._buckets: dict[tuple[str, Lane], Bucket] = {}
        # Why what was refused for good was, by who signed it, its id and when it was signed; the oldest first.
        self._unfit: dict[tuple[str, str, int], str] = {}
        # Who is unknown is judged like everybody else, by a key that nobody has.
        self._nobody = (Secret(secrets.token_bytes(32)),)

    def __call__(self, request: Request) -> Response | Later:
        """Answer one request."""
        inbox = _INBOX.fullmatch(request.path)
        if inbox is not None:
            if request.method != "POST":
                return _json(405, {"error": "method not allowed"}, {"allow": "POST"})
            return self._message(inbox[1], request)
        if request.path == "/healthz" and request.method in {"GET", "HEAD"}:
            return _json(200, {"status": "alive", "node": self._node})
        if request.path == "/readyz" and request.method in {"GET", "HEAD"}:
            reasons = self._door.reasons()
            return _json(503 if reasons else 200, {"ready": not reasons, "reasons": reasons})
        return _json(404, {"error": "not found"})

    def _message(self, sender: str, request: Request) -> Response | Later:
        now = self._clock.time()
        outside = self._keyring.outside.get(sender)
        ring = outside.ring if outside else self._keyring.peers.get(sender)
        try:
            known = secrets_of(ring) if ring else self._nobody
            signed = webhook.verify(known, request.headers, request.body, now, self._tolerance)
            if signed.timestamp < self._ledger.floor(now):
                raise SignatureError("signed before the replay store was begun anew")
            if len(signed.id) > _ID_LIMIT:
                raise SignatureError("an id so long that its answer's could not be told from another's")
            # Whoever overheard it could use up its sender's rate with it.
            if not outside and signed.id.startswith(_ANSWER):
                raise SignatureError("an answer, which is no message")
        except SignatureError as error:
            self._refuse(sender, str(error) if ring else "unknown sender", request.remote)
            return _json(401, {"error": "refused"})
        if not outside:
            self._door.heard(sender)
        return self._authentic(sender, outside, signed, request)

    def _authentic(self, sender: str, outside: Outside | None, signed: Signed, request: Request) -> Response | Later:
        arrived = self._intake.waiting(sender, signed.id)
        if arrived is None:
            try:
                first = self._ledger.seen(sender, signed.id)
            except DurabilityError as error:
                self._refuse(sender, str(error), request.remote)
                return self._answer(sender, signed.id, 503, "cannot write", retry=self._busy_for)
            if first is not None:
                self._events.burst("message.repeat", f"repeat from {sender}", id=signed.id)
                return self._answer(sender, signed.id, first)
            this = (sender, signed.id, signed.timestamp)
            unfit = self._unfit.get(this)
            if unfit is None and (wait := self._over_rate(sender, outside, signed.id)):
                self._refuse(sender, "rate", request.remote)
                return self._answer(sender, signed.id, 429, "too many messages", retry=ceil(wait))
            try:
                arrived = self._judge(sender, outside, signed, request, unfit)
            except _UnfitError as error:
                self._unfit[this] = str(error)
                if len(self._unfit) > _UNFIT:
                    del self._unfit[next(iter(self._unfit))]
                self._refuse(sender, str(error), request.remote)
                return self._answer(sender, signed.id, 422, str(error))
            self._intake.add(arrived)
        later = Later()
        arrived.answers.append(later)
        return later

    def _over_rate(self, sender: str, outside: Outside | None, msg_id: str) -> float:
        """Take a token; 0 where there was one, else the seconds until there is."""
        which = "work" if outside else lane(msg_id.partition("_")[0])
        rate, window = (outside.rate, _MINUTE) if outside else (self._rates[which], self._window)
        bucket, wait = take(self._buckets.get((sender, which)), self._clock.monotonic(), rate, window)
        self._buckets[sender, which] = bucket
        return wait

    def _judge(
        self, sender: str, outside: Outside | None, signed: Signed, request: Request, unfit: str | None
    ) -> Arrival:
        """Read the body, unless it was ``unfit`` before. Raises _UnfitError for what may not come from there."""
        if unfit is not None:
            raise _UnfitError(unfit)
        try:
            if outside:
                event = decode_event(request.body)
                if event.type not in outside.allow:
                    raise _UnfitError("type: not one that its key was made for")
                trace = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
                trace_id, span_id = (trace[1], trace[2]) if trace else (secrets.token_hex(16), "")
                noted = Noted(signed.id, sender, event.data.text, event.type)
                return Arrival(sender, signed, request, noted, trace_id, span_id, event.type)
            envelope = decode(request.body)
        except msgspec.MsgspecError as error:
            # It names the field that its sender made up.
            raise _UnfitError(f"schema: {one_line(str(error))}") from None
        if envelope.sender != sender or envelope.to != self._node or not _owned(envelope):
            raise _UnfitError("wrong address")
        kind = str(type(envelope.message).__struct_config__.tag)
        claimed = lane(signed.id.partition("_")[0])
        if claimed != "work" and claimed != lane(kind):
            raise _UnfitError("id: it says another kind of message")
        return Arrival(sender, signed, request, envelope, envelope.trace_id, envelope.span_id, kind)

    def _outcome(self, one: Arrival, effect: Effect | OutlastError) -> Response:
        sender, msg_id = one.sender, one.signed.id
        if isinstance(effect, Effect):
            return self._answer(sender, msg_id, success(one.kind), effect=effect)
        if isinstance(effect, BadInput):
            self._refuse(sender, f"content: {effect}", one.request.remote)
            return self._answer(sender, msg_id, 422, str(effect))
        if isinstance(effect, Busy):
            return self._answer(sender, msg_id, 503, str(effect), retry=self._busy_for)
        self._refuse(sender, str(effect), one.request.remote)
        return self._answer(sender, msg_id, 503, "cannot write", retry=self._busy_for)

    def _refuse(self, sender: str, reason: str, remote: str) -> None:
        kind = reason.split(":", 1)[0]
        self.refused[kind] = self.refused.get(kind, 0) + 1
        known = sender if sender in self._keyring.peers or sender in self._keyring.outside else "unknown"
        self._events.burst("message.refused", f"{known}: {kind}", detail=reason, remote=remote)

    def _answer(
        self,
        sender: str,
        msg_id: str,
        status: int,
        reason: str = "",
        retry: int = 0,
        effect: Effect = _NOTHING,
    ) -> Response:
        later = {"retry-after": str(retry)} if retry else {}
        # Where our own keys were revoked nothing can be signed: a peer does not believe it, and asks again.
        if sender in self._keyring.outside or not signs(self._keyring.own):
            said = {"status": "accepted"} if status < 300 else {"error": _OUTSIDE.get(status, "refused")}
            return _json(status, said, later)
        now = self._clock.time()
        reply = Reply(self._node, status, now, reason, retry, effect.holding, effect.trace, effect.overview)
        body = msgspec.json.encode(reply)
        answer_id = f"{_ANSWER}{msg_id}"
        headers = {
            "content-type": "application/json",
            "webhook-id": answer_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": webhook.sign(secrets_of((signing(self._keyring.own),)), answer_id, int(now), body),
        }
        return Response(status, body, headers | later)


_OUTSIDE = {422: "not a message that is taken", 429: "too many messages", 503: "busy"}


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
