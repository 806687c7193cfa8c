"""One connection of the HTTP server: when to read, when to answer, when to hang up.

Rules kept here: one phase at a time, each with its time limit (only how long a handler may think is not ours to say);
what is read ahead is at most one slice of requests and two reads of the socket; an answer is handed to the kernel in
full before the next request is looked at; one request a turn of the event loop, so that who sends many at once does not
hold up the others; after a last answer we half-close and wait for the peer to hang up, because closing on unread input would
reset the connection and take the answer with it.

Left to others: the grammar and its limits (net/http.py), who is let in (net/server.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from enum import Enum
from http import HTTPStatus
from math import inf
from typing import Protocol, cast

from outlast.net.http import HttpLimits, Request, RequestReader, Response, render_response

__all__ = ["Connection", "Handler", "Later", "Owner", "remote"]

# So few bytes cannot hold many requests: a pipeline cannot make us keep thousands of them.
_SLICE = 4096


class Later:
    """An answer that is given soon, by whoever gathers requests to answer many at once; costs no task."""

    __slots__ = ("_given", "_then")

    def __init__(self) -> None:
        self._given: Response | Exception | None = None
        self._then: Callable[[Response | Exception], None] | None = None

    def give(self, answer: Response | Exception) -> None:
        """This is the answer, or what went wrong. Once."""
        if self._then is None:
            self._given = answer
        else:
            self._then(answer)

    def then(self, answered: Callable[[Response | Exception], None]) -> None:
        """Call this with the answer. Once."""
        if self._given is None:
            self._then = answered
        else:
            answered(self._given)


Handler = Callable[[Request], Response | Later | Awaitable[Response]]
"""What answers requests: at once, soon, or as a coroutine, for which a task is made."""


class Owner(Protocol):
    """What a connection needs of its server."""

    handler: Handler
    limits: HttpLimits
    closing: bool

    def admit(self, connection: Connection) -> bool: ...
    def forget(self, connection: Connection) -> None: ...
    def set_idle(self, connection: Connection, idle: bool) -> None: ...
    def set_waiting(self, connection: Connection) -> None: ...
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
        self._deadline = inf
        self._late: Callable[[], None] = self.abort
        # A request is with its handler; its task, where it needs one.
        self._busy = False
        self._task: asyncio.Task[None] | None = None
        # Of the request that is being answered.
        self._last = self._head = False
        self._unsent = False

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
        self.remote = remote(self._transport)
        self._reader = RequestReader(self._owner.limits, self.remote)
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
        if self._phase is _Phase.ANSWERING:
            self._transport.pause_reading()
        else:
            self._go_on()

    def eof_received(self) -> bool:
        """A peer that has sent all may still wait for its answers."""
        self._eof = True
        return self._phase is _Phase.ANSWERING

    def pause_writing(self) -> None:
        self._unsent = True

    def resume_writing(self) -> None:
        self._unsent = False
        if self._phase is _Phase.ANSWERING and not self._busy:
            self._owner.set_idle(self, False)
            self._sent()

    def connection_lost(self, error: Exception | None) -> None:
        self._phase = _Phase.LOST
        if self._timer is not None:
            self._timer.cancel()
        if not self._busy:
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
        if phase is _Phase.READING:
            self._owner.set_waiting(self)
        else:
            self._owner.set_idle(self, True)
        self._expect(seconds, then)

    def _expect(self, seconds: float, then: Callable[[], None]) -> None:
        """Unless something else is expected first, ``then`` is called in so many seconds."""
        self._deadline, self._late = self._loop.time() + seconds, then
        # A timer that rings too early is set again then: to set one for each request would cost more.
        if self._timer is None or self._timer.when() > self._deadline:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._deadline > self._loop.time():
            if self._deadline < inf:
                self._set_timer()
        else:
            self._late()

    def _too_slow(self) -> None:
        self._reader.refused = 408
        self._answer()

    def _go_on(self) -> None:
        if self._read_on():
            self._answer()
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

    def _answer(self) -> None:
        self._deadline = inf
        self._phase = _Phase.ANSWERING
        self._owner.set_idle(self, False)
        self._next()

    def _next(self) -> None:
        """Answer the next request that has arrived, or go back to waiting."""
        if self._phase is not _Phase.ANSWERING or self._transport.is_closing():
            return
        if not self._read_on():
            self._transport.resume_reading()
            self._wait()
            return
        self._busy = True
        if not self._reader.arrived:
            self._last, self._head = True, False
            self._give(_refusal(self._reader.refused or 400))
            return
        request, keep_alive = self._reader.arrived.popleft()
        self._last, self._head = not keep_alive, request.method == "HEAD"
        try:
            answer = self._owner.handler(request)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is its fault, not the peer's
            self._give(error)
            return
        if isinstance(answer, Response):
            self._give(answer)
        elif isinstance(answer, Later):
            answer.then(self._give)
        else:
            self._task = self._loop.create_task(self._await(answer))

    async def _await(self, answer: Awaitable[Response]) -> None:
        try:
            given: Response | Exception = await answer
        except Exception as error:  # noqa: BLE001 - as above
            given = error
        except asyncio.CancelledError:
            self._transport.abort()
            self._done()
            raise
        self._task = None
        self._give(given)

    def _give(self, answer: Response | Exception) -> None:
        """Hand an answer to the kernel."""
        self._last = self._last or self._owner.closing
        try:
            if isinstance(answer, Exception):
                raise answer
            data = render_response(answer, keep_alive=not self._last, head=self._head)
        except Exception as error:  # noqa: BLE001 - as above
            self._owner.report(error)
            data = render_response(_refusal(500), keep_alive=not self._last, head=self._head)
        if not self._transport.is_closing():
            self._transport.write(data)
        self._done()
        if self._phase is not _Phase.ANSWERING or self._transport.is_closing():
            return
        if self._unsent:
            self._owner.set_waiting(self)
            self._expect(self._owner.limits.write_seconds, self.abort)
        else:
            self._sent()

    def _sent(self) -> None:
        """The answer is with the kernel."""
        self._deadline = inf
        if self._last:
            self._hang_up()
        elif self._unread or self._reader.arrived or self._reader.refused is not None:
            self._loop.call_soon(self._next)
        else:
            self._next()

    def _done(self) -> None:
        """The handler is."""
        self._busy = False
        if self._phase is _Phase.LOST:
            self._over()

    def _hang_up(self) -> None:
        if not self._transport.can_write_eof():
            # TLS sends what is left, says that this was all, and waits for the other side to say so too.
            self._enter(_Phase.LINGERING, self._owner.limits.linger_seconds, self.abort)
            self._transport.close()
            return
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


def remote(transport: asyncio.BaseTransport) -> str:
    """The address that a connection came from, without its port, or ``unix``."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else "unix"


def _refusal(status: int) -> Response:
    headers = {"content-type": "text/plain; charset=utf-8"}
    if status == 503:
        headers["retry-after"] = "1"
    return Response(status, f"{HTTPStatus(status).phrase}\n".encode("ascii"), headers)
