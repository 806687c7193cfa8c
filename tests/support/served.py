"""The HTTP server on an event loop in a thread of its own, so that blocking clients can be pointed at it.

Rules kept here: it stands on 127.0.0.1 and a free port, and is stopped by who started it; what it says on the console
and what its handlers raise is kept for the test to look at.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from outlast.net.http import HttpLimits, Request, Response
from outlast.net.server import HttpServer

__all__ = ["GET", "LAST", "LIMITS", "QUICK", "App", "Served", "answers", "ask", "exchange", "rest", "served"]

LIMITS = HttpLimits(body_bytes=100_000, header_bytes=4096, header_count=20)
QUICK = replace(LIMITS, read_seconds=0.3, idle_seconds=0.3, write_seconds=0.3, linger_seconds=0.3)
GET = b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class App:
    """A handler that remembers, and that can be told to wait or to fail by the path."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.done: list[str] = []
        self.cancelled: list[str] = []
        self.gate = threading.Event()

    async def __call__(self, request: Request) -> Response:
        self.seen.append(request)
        try:
            return await self._answer(request)
        except asyncio.CancelledError:
            self.cancelled.append(request.path)
            raise

    async def _answer(self, request: Request) -> Response:
        if request.path.startswith("/wait"):
            while not self.gate.is_set():
                await asyncio.sleep(0.005)
        if request.path == "/fail":
            raise RuntimeError("secret detail of ours")
        if request.path == "/cancelled":
            raise asyncio.CancelledError
        if request.path == "/split":
            return Response(200, b"", {"x-evil": "a\r\nx-injected: b"})
        if request.path == "/framing":
            return Response(200, b"four", {"Content-Length": "2"})
        if request.path == "/nothing":
            return None  # type: ignore[return-value]
        if request.path == "/empty":
            return Response(204)
        if request.path == "/large":
            return Response(200, b"l" * 30_000_000)
        self.done.append(request.path)
        return Response(200, request.path.encode() + b"|" + request.body, {"x-remote": request.remote})


@dataclass
class Served:
    """A running server. ``errors`` is what handlers raised, ``console`` every line that was logged anywhere."""

    server: HttpServer
    loop: asyncio.AbstractEventLoop
    port: int = 0
    errors: list[Exception] = field(default_factory=list)
    console: list[str] = field(default_factory=list)

    def call(self, work: Any) -> Any:
        """Run a coroutine on the server's loop and wait for it."""
        return self.start(work).result(30)

    def start(self, work: Any) -> Future[Any]:
        """Start a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def dial(self) -> socket.socket:
        """A raw connection; no read of it waits for ever."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


class _Keep(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


@contextlib.contextmanager
def served(handler: Callable[[Request], Awaitable[Response]], limits: HttpLimits = LIMITS) -> Iterator[Served]:
    """A server for the length of a ``with``; it must not have logged anything at all."""
    loop = asyncio.new_event_loop()
    errors: list[Exception] = []
    host = Served(HttpServer(handler, limits, on_error=errors.append), loop, errors=errors)
    keep = _Keep(host.console)
    logging.getLogger().addHandler(keep)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        host.port = host.call(host.server.start_tcp("127.0.0.1", 0))
        yield host
    finally:
        host.call(host.server.close(0.1))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        logging.getLogger().removeHandler(keep)
    assert host.console == []


def exchange(host: Served, data: bytes, *, end: bool = False) -> bytes:
    """Send raw bytes (and with ``end`` hang up that direction), then read until the server hangs up."""
    with host.dial() as wire:
        with contextlib.suppress(ConnectionError):
            wire.sendall(data)
            if end:
                wire.shutdown(socket.SHUT_WR)
        return rest(wire)


def rest(wire: socket.socket) -> bytes:
    """All that still comes until the peer hangs up, politely or not."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while piece := wire.recv(65536):
            found += piece
    return found


def answers(data: bytes) -> list[int]:
    """The statuses of the responses in ``data``, each of which must be whole and framed by Content-Length."""
    statuses = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        version, status, _phrase = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = dict(line.split(": ", 1) for line in lines)
        length = int(headers.get("content-length", "0"))
        assert len(data) >= length
        data = data[length:]
        statuses.append(int(status))
    return statuses


def ask(host: Served, path: str = "/ok", method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
    """One request by the standard library's client."""
    wire = http.client.HTTPConnection("127.0.0.1", host.port, timeout=20)
    with contextlib.closing(wire):
        wire.request(method, path, body)
        answer = wire.getresponse()
        return answer.status, answer.read()
