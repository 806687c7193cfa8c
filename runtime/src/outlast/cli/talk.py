"""How the command talks to the running node: HTTP over its control socket.

Rules kept here: a node that is not running, or an order that it refuses, is one clear error. Left to others: printing.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from outlast.errors import BadInput, ControlError, HttpError, PeerError
from outlast.home import Home
from outlast.net import client

__all__ = ["NotRunning", "order"]


class NotRunning(ControlError):
    """The node does not answer on its control socket."""


def order(home: Home, method: str, path: str, body: object = None, *, seconds: float = 90.0) -> dict[str, Any]:
    """Give one order and return the answer. Raises NotRunning, BadInput, PeerError, ControlError."""
    try:
        response = asyncio.run(
            client.request(
                f"unix:{home.socket}",
                method,
                path,
                body=msgspec.json.encode(body) if body is not None else b"",
                connect_s=5.0,
                total_s=seconds,
            )
        )
    except (PeerError, HttpError) as error:
        raise NotRunning(
            f"{home.node} is not running (or not as you): {error}; "
            "wait a few seconds, it may be starting again; else run ansible-playbook site.yml"
        ) from error
    try:
        answer: dict[str, Any] = msgspec.json.decode(response.body, type=dict)
    except msgspec.MsgspecError:
        raise ControlError(f"{home.node} could not answer (HTTP {response.status}); try again in a moment") from None
    if response.status == 400:
        raise BadInput(answer["field"], answer["wrong"], answer["mend"])
    if response.status == 502:
        raise PeerError(answer["error"])
    if response.status != 200:
        raise ControlError(str(answer.get("error", f"HTTP {response.status}")))
    return answer
