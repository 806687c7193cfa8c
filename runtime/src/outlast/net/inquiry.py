"""Asking every peer what it knows of a message, a unit or a trace.

Rules kept here: all are asked at once, past outbox and breaker, because a person waits; who cannot be asked is named, with why;
what is told is the peer's word, as it came. Left to others: the request itself (net.courier), what peers tell (work.tracing).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import Any

import msgspec

from outlast.errors import PeerError
from outlast.messages import Trace, sealed
from outlast.net.courier import Courier

__all__ = ["inquire"]


async def inquire(courier: Courier, node: str, peers: Iterable[str], name: str) -> dict[str, dict[str, Any]]:
    """By peer: its ``lines``, how far its clock is ahead (``skew_s``), and, where it could not be asked, the ``error``."""
    asked = list(peers)
    answers = await asyncio.gather(*(_ask(courier, node, peer, name) for peer in asked))
    return dict(zip(asked, answers, strict=True))


async def _ask(courier: Courier, node: str, peer: str, name: str) -> dict[str, Any]:
    body = sealed(node, peer, secrets.token_hex(16), "trace", Trace(name))(0)
    try:
        answer = await courier.deliver(peer, f"trace_{secrets.token_hex(10)}", body)
    except PeerError as error:
        return {"lines": [], "skew_s": 0.0, "error": str(error)}
    wrong = "" if answer.reply.accepted else f"{peer} did not tell: {answer.reply.reason or answer.reply.status}"
    return {"lines": msgspec.to_builtins(answer.reply.trace), "skew_s": answer.skew, "error": wrong}
