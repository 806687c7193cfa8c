"""The sub-agents' door: ``run/agents.sock``, where an order is done only for who shows a token that allows it.

Rules kept here: every single call is checked: the signature, whose token it is, that this run of it is the current one, its
time, the action, and how often it asks; an order that no action stands for is not to be had here at all. What is refused
changes nothing. Every order that is done is an event with the sub-agent's name.

Left to others: what a token says (core.capability), doing the order (control), shutting sub-agents away from the other socket
(work.sandbox).
"""

from __future__ import annotations

import math
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from outlast.control import Control
from outlast.core import capability
from outlast.core.plainjson import to_json
from outlast.core.ratelimit import Bucket, take
from outlast.errors import BadInput, KeyFileError
from outlast.net.http import HttpLimits, Request, Response
from outlast.net.server import HttpServer
from outlast.quantity import duration
from outlast.store import durable

if TYPE_CHECKING:
    from outlast.upkeep import Around

__all__ = ["BEARER", "ORDERS", "Gate", "root_key"]

BEARER = "Bearer "
ORDERS: dict[str, str] = {
    "handoff": "message:handoff",
    "wait": "message:handoff",
    "note": "message:note",
    "facts/query": "read:facts",
    "state/get": "read:facts",
    "state/ls": "read:facts",
    "status": "read:status",
    "facts/add": "write:facts",
    "state/set": "write:facts",
    "state/unset": "write:facts",
    "state/add": "write:facts",
    "state/discard": "write:facts",
}
"""What a sub-agent can order, and the action that it must be allowed for it."""

_LIMITS = HttpLimits(body_bytes=256 << 10, connections=64)
_ROOT_BYTES = 32


def root_key(path: Path) -> bytes:
    """The key that tokens come from, made where there is none. Raises KeyFileError, DurabilityError."""
    mend = f"move it away: a new one is made, and the sub-agents of now are refused (rm {path})"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        key = secrets.token_bytes(_ROOT_BYTES)
        durable.make_dir(path.parent)
        durable.replace(path, f"{key.hex()}\n".encode())
        return key
    except OSError as error:
        raise KeyFileError(str(path), f"it cannot be read ({error.strerror})", mend) from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise KeyFileError(str(path), "others may read or write it, or it is no file of ours", mend)
        text = os.read(fd, 1024).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != _ROOT_BYTES:
        raise KeyFileError(str(path), "it does not hold a key", mend)
    return key


class Gate:
    """The door. ``heard(agent)`` is told of every call."""

    def __init__(self, around: Around, heard: Callable[[str], None]) -> None:
        self._around = around
        self._heard = heard
        self._root = b""
        # Of each run that is not over its number, and how far the wall clock was before the other when it began.
        self._runs: dict[str, tuple[int, float]] = {}
        self._buckets: dict[str, Bucket] = {}
        self._server: HttpServer | None = None

    async def open(self) -> None:
        """Be there; done already is fine. Raises KeyFileError, DurabilityError, BadInput."""
        if self._server is None:
            self._root = root_key(self._around.home.capability_key)
            server = HttpServer(self, _LIMITS)
            await server.start_unix(self._around.home.agents_socket)
            self._server = server

    async def close(self) -> None:
        """Be gone."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.close(0.5)

    def token(self, agent: str, issued: int, actions: frozenset[str], seconds: float) -> str:
        """A token for one run that begins now, good until it is over, and ``seconds`` at most. The door must be open."""
        now = self._around.clock.time()
        self._runs[agent] = issued, now - self._around.clock.monotonic()
        return capability.mint(self._root, agent, issued, actions, math.ceil(now + seconds))

    async def __call__(self, request: Request) -> Response:
        """Answer one order of a sub-agent."""
        name = request.path.strip("/")
        try:
            grant = self._admitted(request, name)
        except BadInput as error:
            self._around.events.burst("subagent.refused", f"subagent {error.field}", wrong=error.wrong)
            return _json(400, {"field": error.field, "wrong": error.wrong, "mend": error.mend})
        self._heard(grant.id)
        if name == "token":
            return _json(200, {"id": grant.id, "allow": sorted(grant.actions), "until": grant.until})
        answer = await Control(self._around.orders)(request)
        self._around.events.emit("subagent.order", correlation_id=grant.id, order=name, status=answer.status)
        return answer

    def _admitted(self, request: Request, name: str) -> capability.Grant:
        """Who asks, where it may. Raises BadInput."""
        shown = request.headers.get("authorization", "")
        if not shown.startswith(BEARER):
            raise BadInput("token", "none was shown", "sub-agents have one: OUTLAST_TOKEN_FILE")
        grant = capability.verify(self._root, shown.removeprefix(BEARER))
        action = ORDERS.get(name, "")
        if not action and name != "token":
            raise BadInput("order", f"{name[:40]} is not for sub-agents", f"one of: {', '.join(ORDERS)}")
        issued, ahead = self._runs.get(grant.id, (None, 0.0))
        # Neither a machine that slept nor a clock that was set takes time from a run, or gives it more.
        if why := capability.permits(grant, action, self._around.clock.monotonic() + ahead, issued):
            raise BadInput("token", why, "ask whoever spawned it to allow it")
        messages = self._around.config.messages
        bucket, wait = take(
            self._buckets.get(grant.id),
            self._around.clock.monotonic(),
            messages.control_rate,
            duration(messages.rate_window),
        )
        self._buckets[grant.id] = bucket
        if wait:
            raise BadInput("rate", f"more than {messages.control_rate} orders", f"ask again in {wait:.1f} s")
        return grant

    def forget(self, agent: str) -> None:
        """A sub-agent's run is over, and its token worth nothing."""
        self._runs.pop(agent, None)
        self._buckets.pop(agent, None)


def _json(status: int, value: object) -> Response:
    return Response(status, to_json(value), {"content-type": "application/json"})
