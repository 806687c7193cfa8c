"""Peers of one connection each, which say what a test wants, and one call of the client against them.

Rules kept here: they stand on 127.0.0.1 and a free port, and are gone, tasks and all, when the call is over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from outlast.net.client import request
from outlast.net.http import Response

__all__ = ["OK", "Peer", "ask_endpoint", "says", "talk"]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def says(*pieces: bytes, stay: bool = False) -> Peer:
    """A peer that reads a request's head, says this piece by piece, and hangs up (or stays silent)."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if stay:
            await reader.read()

    return peer


def talk(peer: Peer, method: str = "GET", path: str = "/", **options: object) -> Response:
    """One call of the client against this peer."""
    options = {"connect_s": 10, "total_s": 20, **options}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await peer(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def main() -> Response:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await request(f"http://127.0.0.1:{port}", method, path, **options)  # type: ignore[arg-type]
        finally:
            server.close()
            while len(asyncio.all_tasks()) > 1:
                await asyncio.sleep(0.001)

    return asyncio.run(main())


def ask_endpoint(endpoint: str, **options: object) -> Response:
    options = {"connect_s": 10, "total_s": 20, **options}
    return asyncio.run(request(endpoint, "GET", "/", **options))  # type: ignore[arg-type]
