"""What the nodes say to each other: the signed body, typed.

Rules kept here: everything that matters is in the body, because nothing else is signed (facts.md): who, to whom, which
channel, which sequence number, which type. A body with an unknown field, a wrong type or an overlong text is refused whole.

Left to others: signature, freshness, replay and rate (net.ingress); what a message causes (work).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

import msgspec

from outlast.core import strictjson
from outlast.core.crdt import Entry, Holding
from outlast.core.ids import UNIT, message_id, span_of, valid_unit
from outlast.core.overview import Overview
from outlast.core.state import Verdict

__all__ = [
    "ArtifactFile",
    "Envelope",
    "Event",
    "Message",
    "Note",
    "Ping",
    "Reply",
    "Result",
    "Share",
    "Status",
    "Task",
    "Trace",
    "Traced",
    "UnitName",
    "decode",
    "decode_event",
    "sealed",
    "sent_span",
    "traceparent",
]

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=16_384)]
# It goes whole into the journal, which agents read at their owner's cost.
NoteText = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Short = Annotated[str, msgspec.Meta(max_length=512)]
Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16,32}\Z")]
UnitName = Annotated[str, msgspec.Meta(pattern=UNIT)]


class Ping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ping"):
    """Are you there? Answered at once, signed; not counted in the channel."""


class Task(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="task"):
    """Please do this. ``unit`` is the idempotency key of the work."""

    unit: UnitName
    task: Text


class ArtifactFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of an artifact: its path below the artifact's folder, bytes, and SHA-256 in hexadecimal."""

    path: Short
    size: int
    sha256: str


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="result"):
    """This became of what you asked for: the confirmation of a hand-off."""

    unit: UnitName
    verdict: Verdict
    detail: Short
    files: Annotated[tuple[ArtifactFile, ...], msgspec.Meta(max_length=1024)] = ()


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="share"):
    """What I hold of what we know together, and what I think you lack of it; of one agent's entries the older ones first.

    ``whole``: with these entries you hold all that I hold. Not counted in the channel: sending it again is harmless.
    """

    holding: Holding
    entries: Annotated[tuple[Entry, ...], msgspec.Meta(max_length=4096)] = ()
    whole: bool = False

    def __post_init__(self) -> None:
        for entry in self.entries:
            if wrong := entry.unsound():
                raise ValueError(wrong)


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="note"):
    """Know this. It goes into the journal (work.notes); nobody answers it with work."""

    text: NoteText


class Trace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="trace"):
    """What do you know of this message, unit or trace? Answered at once, signed; not counted in the channel."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="status"):
    """How are you? Answered at once, signed; not counted in the channel, and asked only while a person looks."""


class Traced(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that a node knows of what was asked for: when (seconds since 1970), where, and what, on one line."""

    at: float
    node: Annotated[str, msgspec.Meta(max_length=32)]
    what: Short


Message = Ping | Task | Result | Share | Note | Trace | Status


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """A message with its address. ``seq`` counts up per channel from sender to receiver; 0 where it is not counted."""

    v: Literal[1]
    sender: str
    to: str
    channel: Literal["main", "control"]
    seq: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
    trace_id: Id
    span_id: Id
    correlation_id: Short
    message: Message


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The signed answer to a message.

    ``status`` is that of HTTP, which nobody signs; ``retry_after`` is in seconds; ``now`` is the answering node's clock,
    seconds since 1970; ``holding`` answers a Share that was taken, ``trace`` a Trace, ``overview`` a Status. What has its
    default is left out, so that older nodes, which refuse fields that they do not know, take the answers to what they sent.
    """

    node: str
    status: int
    now: float
    reason: str = ""
    retry_after: int = 0
    holding: Holding | None = None
    trace: Annotated[tuple[Traced, ...], msgspec.Meta(max_length=200)] = ()
    overview: Overview | None = None

    @property
    def accepted(self) -> bool:
        """Was the message taken, now or before?"""
        return 200 <= self.status < 300


class _Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: NoteText


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an outside service says, as Standard Webhooks has it; ``timestamp`` is the service's, and nothing hangs on it."""

    type: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9._-]{0,63}\Z")]
    timestamp: Annotated[str, msgspec.Meta(max_length=64)]
    data: _Said


_decoder = msgspec.json.Decoder(Envelope)
_event_decoder = msgspec.json.Decoder(Event)
_T = TypeVar("_T")


def decode(body: bytes) -> Envelope:
    """Read a peer's body, strictly (core.strictjson). Raises msgspec.MsgspecError."""
    return _strictly(_decoder, body)


def decode_event(body: bytes) -> Event:
    """Read an outside service's body, as strictly. Raises msgspec.MsgspecError."""
    return _strictly(_event_decoder, body)


def _strictly(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    try:
        strictjson.check(body)
        return decoder.decode(body)
    except strictjson.NotStrict as error:
        raise msgspec.DecodeError(str(error)) from error


class _Traced(msgspec.Struct, frozen=True):
    trace_id: str
    span_id: str
    correlation_id: str = ""


def traceparent(body: bytes) -> str:
    """The W3C header that says of which trace a body of ours is. Of no weight: what is believed is in the signed body."""
    ids = msgspec.json.decode(body, type=_Traced)
    return f"00-{ids.trace_id}-{ids.span_id}-01"


# As which part of its unit a message is sent.
_PARTS = {"task": "handoff", "result": "task"}


def sent_span(msg_id: str, body: bytes) -> dict[str, str]:
    """What events say of the place in its trace that sending this body has; nothing where it is none of ours."""
    try:
        ids = msgspec.json.decode(body, type=_Traced)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    kind, _, unit = msg_id.partition("_")
    parent = {"parent_id": span_of(unit, _PARTS[kind])} if kind in _PARTS else {}
    return {"trace_id": ids.trace_id, "span_id": ids.span_id, "correlation_id": ids.correlation_id, **parent}


def sealed(sender: str, to: str, trace_id: str, correlation_id: str, message: Message) -> Callable[[int], bytes]:
    """Prepare a message's body: what is left open is its sequence number, which the outbox gives."""
    # About a unit there is one message of a kind: who takes it knows the span without being told, also after a restart.
    about_unit = isinstance(message, Task | Result | Note) and valid_unit(correlation_id)
    kind = str(type(message).__struct_config__.tag)
    span_id = span_of(message_id(correlation_id, kind), "sent") if about_unit else secrets.token_hex(8)

    def body(seq: int) -> bytes:
        envelope = Envelope(
            v=1,
            sender=sender,
            to=to,
            channel="main" if seq else "control",
            seq=seq,
            trace_id=trace_id,
            span_id=span_id,
            correlation_id=correlation_id,
            message=message,
        )
        return msgspec.json.encode(envelope)

    return body
