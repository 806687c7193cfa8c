"""How the command gives an order: to the running node, over its control socket, or to nobody but itself.

Rules kept here: a node that is not running, or an order that it refuses, is one clear error; what needs no peer is done
with the runtime dead as well, by the same code, under the home's lock. Left to others: printing.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from outlast.core.plainjson import to_json
from outlast.core.record import one_line
from outlast.errors import BadInput, ControlError, HeldError, HttpError, PeerError
from outlast.home import Home
from outlast.net import client

__all__ = ["NotRunning", "do", "order", "token_in_use"]

_PATIENCE_S = 15.0
_LOOK_S = 0.1
# The node is trusted; a set with thousands of long elements is one answer.
_ANSWER_BYTES = 64 << 20


class NotRunning(ControlError):
    """The node does not answer on its control socket."""


def do(home: Home, name: str, body: object = None, *, seconds: float = 90.0) -> dict[str, Any]:
    """Give an order that needs no peer; where no runtime runs it is carried out here, by this process.

    Raises NotRunning where that cannot be done either, and whatever the order raises.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return order(home, name, body, seconds=seconds)
        except NotRunning as error:
            if not os.access(home.lock.parent, os.W_OK):
                raise
            trouble = error
        from outlast.lock import held

        # A runtime that starts or stops, or another command, holds the home for a moment.
        try:
            with held(home):
                return _here(home, name, body)
        except HeldError as error:
            if time.monotonic() > deadline:
                raise trouble from error
            time.sleep(_LOOK_S)


def _here(home: Home, name: str, body: object) -> dict[str, Any]:
    from outlast.clock import SystemClock
    from outlast.config import load_config
    from outlast.control import carry_out
    from outlast.local import Local

    # As in the daemon: what is made is the node's alone, but for what an access list hands on.
    os.umask(0o077)
    local = Local(load_config(home.config), home, SystemClock())
    try:
        answer = asyncio.run(carry_out(local.orders, name, _encoded(body)))
    finally:
        local.close()
    # What the socket would have made of it.
    plain: dict[str, Any] = msgspec.json.decode(to_json(answer), type=dict)
    return plain


def order(home: Home, name: str, body: object = None, *, seconds: float = 90.0) -> dict[str, Any]:
    """Give one order to the running node and return the answer. Raises NotRunning, BadInput, PeerError, ControlError.

    A sub-agent was given a socket of its own, and shows its token with each order.
    """
    token = token_in_use()
    try:
        response = asyncio.run(
            client.request(
                f"unix:{os.environ.get('OUTLAST_SOCKET', home.socket)}",
                "POST",
                f"/{name}",
                headers={"authorization": f"Bearer {token}"} if token else {},
                body=_encoded(body),
                connect_s=5.0,
                total_s=seconds,
                response_bytes=_ANSWER_BYTES,
            )
        )
    except (PeerError, HttpError) as error:
        raise NotRunning(f"{home.node} is not running (or not as you): {error}; {_mend(home)}") from error
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


def token_in_use() -> str:
    """The token of the sub-agent that we are called by; empty for everybody else. Raises BadInput."""
    token = os.environ.get("OUTLAST_TOKEN", "")
    if not token and (path := os.environ.get("OUTLAST_TOKEN_FILE")):
        try:
            token = Path(path).read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise BadInput("OUTLAST_TOKEN_FILE", f"{path} cannot be read ({error})", "use what was given") from None
    return token.strip()


def _mend(home: Home) -> str:
    """What to do about a node that does not answer: where its supervisord is gone it was stopped."""
    if not (home.root / "etc" / "supervisord.conf").exists():
        return "wait a few seconds, it may be starting again; where it was stopped, or stays away: ansible-playbook site.yml"
    try:
        os.kill(int((home.root / "run" / "supervisord.pid").read_text()), 0)
    except (OSError, ValueError):
        return "it is stopped; make up, or ansible-playbook site.yml, starts it"
    return "wait a few seconds, it may be starting again; else run ansible-playbook site.yml"


def _encoded(body: object) -> bytes:
    """The body of an order. Raises BadInput where something that was typed is not UTF-8."""
    if body is None:
        return b""
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError as error:
        raise BadInput("usage", f"{one_line(ascii(error.object), 60)} is not UTF-8", "write it in UTF-8") from None
