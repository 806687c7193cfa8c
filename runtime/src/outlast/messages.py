"""What the nodes say to each other: the signed body, typed.

Rules kept here: everything that matters is in the body, because nothing else is signed (facts.md): who, to whom, which
channel, which sequence number, which type. A body with an unknown field, a wrong type or an overlong text is refused whole.

Left to others: signature, freshness, replay and rate (net.ingress); what a message causes (work).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from outlast.core.crdt import Entry, Holding
from outlast.core.ids import UNIT
from outlast.core.state import Verdict

__all__ = [
    "ArtifactFile",
    "Envelope",
    "Message",
    "Ping",
    "Reply",
    "Result",
    "Share",
    "Task",
    "UnitName",
    "decode",
    "sealed",
]

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=16_384)]
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


Message = Ping | Task | Result | Share


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
    seconds since 1970; ``holding`` answers a Share that was taken. What has its default is left out, so that older nodes,
    which refuse fields that they do not know, take the answers to what they sent.
    """

    node: str
    status: int
    now: float
    reason: str = ""
    retry_after: int = 0
    holding: Holding | None = None

    @property
    def accepted(self) -> bool:
        """Was the message taken, now or before?"""
        return 200 <= self.status < 300


_decoder = msgspec.json.Decoder(Envelope)


def decode(body: bytes) -> Envelope:
    """Read a body. Raises msgspec.ValidationError or msgspec.DecodeError, both below msgspec.MsgspecError."""
    try:
        return _decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def sealed(sender: str, to: str, trace_id: str, correlation_id: str, message: Message) -> Callable[[int], bytes]:
    """Prepare a message's body: what is left open is its sequence number, which the outbox gives."""
    span_id = secrets.token_hex(8)

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
