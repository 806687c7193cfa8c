"""One connection of the HTTP server: when to read, when to answer, when to hang up.

Rules kept here: one phase at a time, each with its time limit (only how long a handler may think is not ours to say);
what is read ahead is at most one slice of requests and two reads of the socket; an answer is handed to the kernel in
full before the next request is looked at; after a last answer we half-close and wait for the peer to hang up, because
closing on unread input would reset the connection and take the answer with it.

Left to others: the grammar and its limits (net/http.py), who is let in (net/server.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from enum import Enum
from http import HTTPStatus
from typing import Protocol, cast

from outlast.net.http import HttpLimits, Request, RequestReader, Response, render_response

__all__ = ["Connection", "Owner"]

# So few bytes cannot hold many requests: a pipeline cannot make us keep thousands of them.
_SLICE = 4096


class Owner(Protocol):
    """What a connection needs of its server."""

    handler: Callable[[Request], Awaitable[Response]]
    limits: HttpLimits
    closing: bool

    def admit(self, connection: Connection) -> bool: ...
    def forget(self, connection: Connection) -> None: ...
    def set_idle(self, connection: Connection, idle: bool) -> None: ...
    def report(self, error: Exception) -> None: ...


class _Phase(Enum):
    NEW = "new"
    IDLE = "idle"
    READING = "reading"
    ANSWERING = "answering"
    LINGERING = "lingering"
    LOST = "lost"


class Connection(asyncio.Protocol):
    """The asyncio protocol of one accepted socket."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._phase = _Phase.NEW
        self._unread = memoryview(b"")
        self._eof = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._flushed: asyncio.Future[None] | None = None

    def abort(self, *, cancel: bool = False) -> None:
        """Cut the connection at once; ``cancel`` ends its handler too."""
        self._transport.abort()
        if cancel and self._task is not None:
            self._task.cancel()

    # What follows is called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Above zero means "not all is with the kernel yet", which is what we wait for.
        self._transport.set_write_buffer_limits(high=0)
        peer = self._transport.get_extra_info("peername")
        self._reader = RequestReader(self._owner.limits, str(peer[0]) if isinstance(peer, tuple) else "unix")
        if self._owner.admit(self):
            self._wait()
            return
        self._phase = _Phase.LINGERING
        self._transport.write(render_response(_refusal(503), keep_alive=False))
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._phase is _Phase.LINGERING:
            return
        self._unread = memoryview(bytes(self._unread) + data) if self._unread else memoryview(data)
        if self._task is None:
            self._go_on()
        else:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """A peer that has sent all may still wait for its answers."""
        self._eof = True
        return self._task is not None and self._phase is _Phase.ANSWERING

    def pause_writing(self) -> None:
        self._flushed = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._flushed is not None and not self._flushed.done():
            self._flushed.set_result(None)
        self._flushed = None

    def connection_lost(self, error: Exception | None) -> None:
        self._phase = _Phase.LOST
        self._disarm()
        self.resume_writing()
        if self._task is None:
            self._over()

    # Phases.

    def _wait(self) -> None:
        """Nothing to answer: wait for the rest of a request, or for the next one."""
        if self._eof:
            self._transport.abort()
        elif self._reader.begun:
            if self._phase is not _Phase.READING:
                self._enter(_Phase.READING, self._owner.limits.read_seconds, self._too_slow)
        elif self._phase is _Phase.NEW:
            self._enter(_Phase.IDLE, self._owner.limits.read_seconds, self.abort)
        elif self._owner.closing:
            self._transport.abort()
        elif self._phase is not _Phase.IDLE:
            self._enter(_Phase.IDLE, self._owner.limits.idle_seconds, self.abort)

    def _enter(self, phase: _Phase, seconds: float, then: Callable[[], None]) -> None:
        self._phase = phase
        self._owner.set_idle(self, phase in (_Phase.IDLE, _Phase.LINGERING))
        self._disarm()
        self._timer = self._loop.call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._reader.refused = 408
        self._answer_soon()

    def _go_on(self) -> None:
        if self._read_on():
            self._answer_soon()
        else:
            self._wait()

    def _read_on(self) -> bool:
        """Parse what has arrived until there is something to answer; true if there is."""
        reader = self._reader
        while self._unread and not reader.arrived and reader.refused is None:
            piece, self._unread = self._unread[:_SLICE], self._unread[_SLICE:]
            reader.feed(piece)
        if reader.arrived or reader.refused is not None:
            return True
        if reader.expects:
            reader.expects = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return False

    def _answer_soon(self) -> None:
        self._disarm()
        self._phase = _Phase.ANSWERING
        self._owner.set_idle(self, False)
        self._task = self._loop.create_task(self._answer_all())

    async def _answer_all(self) -> None:
        """Answer what has arrived, in order, then go back to waiting or hang up."""
        try:
            if await self._answer_in_turn():
                self._hang_up()
        except Exception as error:  # noqa: BLE001 - a fault of ours: the peer sees the end, the callback what it was
            self._owner.report(error)
            self._transport.abort()
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        finally:
            self._task = None
            if self._phase is _Phase.LOST:
                self._over()
        if self._phase is _Phase.ANSWERING and not self._transport.is_closing():
            self._transport.resume_reading()
            self._wait()

    async def _answer_in_turn(self) -> bool:
        """Answer until there is nothing to answer; true if that was the last answer of this connection."""
        reader = self._reader
        while self._read_on():
            while reader.arrived:
                request, keep_alive = reader.arrived.popleft()
                if not await self._send(await self._respond(request, keep_alive)):
                    return False
                if not keep_alive or self._owner.closing:
                    return True
            if reader.refused is not None:
                await self._send(render_response(_refusal(reader.refused), keep_alive=False))
                return True
        return False

    async def _respond(self, request: Request, keep_alive: bool) -> bytes:
        head = request.method == "HEAD"
        try:
            response = await self._owner.handler(request)
            return render_response(response, keep_alive=keep_alive and not self._owner.closing, head=head)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is its fault, not the peer's
            self._owner.report(error)
            return render_response(_refusal(500), keep_alive=keep_alive and not self._owner.closing, head=head)

    async def _send(self, data: bytes) -> bool:
        """Hand an answer to the kernel; false if the peer is gone or does not take it in time."""
        if self._transport.is_closing():
            return False
        self._transport.write(data)
        if self._flushed is not None:
            try:
                async with asyncio.timeout(self._owner.limits.write_seconds):
                    await self._flushed
            except TimeoutError:
                self._transport.abort()
        return not self._transport.is_closing()

    def _hang_up(self) -> None:
        polite = self._reader.refused is None and (self._eof or self._owner.closing)
        if polite or self._transport.is_closing():
            self._transport.abort()
            return
        self._unread = memoryview(b"")
        self._enter(_Phase.LINGERING, self._owner.limits.linger_seconds, self.abort)
        # The peer may have reset the connection already.
        with contextlib.suppress(OSError):
            self._transport.write_eof()
        self._transport.resume_reading()

    def _over(self) -> None:
        self._owner.forget(self)
        self._reader.release()


def _refusal(status: int) -> Response:
    headers = {"content-type": "text/plain; charset=utf-8"}
    if status == 503:
        headers["retry-after"] = "1"
    return Response(status, f"{HTTPStatus(status).phrase}\n".encode("ascii"), headers)
