"""Asks the gateway how it is: by HTTP whether it is there, by calls whether it can do its work; and whether it is ready.

Rules kept here: the truth is asked by two calls that read its database, ``status`` and ``cron.status``; its own ``health`` is
answered from memory and stays well for ever. As SQLite goes on from its cache and its log over a file that is damaged, the
files' first bytes are looked at as well. That it is not ready is told apart: an account of a channel, a plugin that is
exchanged or a suspension make it so, and no restart mends these. Each ends within its time and raises nothing: what came of it
is the answer.

Left to others: what several answers in a row mean (core.gateway), and when to ask (openclaw.watch).
"""

from __future__ import annotations

from typing import Any

import msgspec

from outlast.core.gateway import Answer
from outlast.core.record import one_line
from outlast.errors import GatewayError, HttpError, KeyFileError, PeerError
from outlast.net import client
from outlast.net.http import Response
from outlast.openclaw import rpc
from outlast.openclaw.place import Place
from outlast.store import regular

__all__ = ["HTTP_S", "RPC_S", "here", "truth", "unready"]

HTTP_S, RPC_S = 5.0, 15.0
_SQLITE = b"SQLite format 3\0"
# How sure one answer makes us that it does not work: 2 where it says so itself.
_WEIGHT = {"failed": 2, "refused": 2}


async def here(place: Place, seconds: float = HTTP_S) -> Answer:
    """Is it there?"""
    try:
        response = await _get(place, "/healthz", seconds)
    except (PeerError, HttpError) as error:
        return Answer("http", 1, str(error))
    if response.status == 200:
        return Answer("http")
    return Answer("http", 1, f"it says that it is not well (HTTP {response.status})")


async def unready(place: Place, seconds: float = HTTP_S) -> str:
    """Why it says that it is not ready, in its own words; nothing where it says that it is, or nothing."""
    try:
        response = await _get(place, "/readyz", seconds)
    except (PeerError, HttpError):
        return ""
    if response.status != 503:
        return ""
    try:
        said: Any = msgspec.json.decode(response.body)
    except (ValueError, RecursionError):
        said = None
    failing = said.get("failing") if isinstance(said, dict) else None
    names = [one for one in failing if isinstance(one, str)] if isinstance(failing, list) else []
    return one_line(", ".join(names), 200) or f"HTTP {response.status}"


async def _get(place: Place, path: str, seconds: float) -> Response:
    return await client.request(
        place.url, "GET", path, headers={"user-agent": "outlast"}, connect_s=seconds, total_s=seconds
    )


async def truth(place: Place, seconds: float = RPC_S) -> Answer:
    """Can it do its work?"""
    # First: over a file that is damaged a call is answered from memory, fails, or is not answered at all.
    if damaged := _damaged(place):
        return Answer("rpc", 2, f"{damaged} is not a database any more")
    try:
        for method in ("status", "cron.status"):
            await rpc.call(place, method, timeout=seconds)
    except GatewayError as error:
        return Answer("rpc", _WEIGHT.get(error.kind, 1), one_line(error.wrong, 300))
    except KeyFileError as error:
        return Answer("rpc", 1, one_line(str(error), 300))
    return Answer("rpc")


def _damaged(place: Place) -> str:
    """A database of OpenClaw's that does not begin as one does, by its path in the state; empty where there is none."""
    for path in place.databases:
        try:
            with regular.opened(path) as file:
                begins = file.read(len(_SQLITE))
        except OSError:
            # One that is not there may never have been: it is OpenClaw's to know.
            continue
        if begins and begins != _SQLITE:
            return str(path.relative_to(place.state))
    return ""
