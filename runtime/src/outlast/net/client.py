"""One HTTP/1.1 request to a peer, over TCP or TLS, or to a node's own control socket: one connection, one answer.

Rules kept here: it ends within its time limits; the answer is bounded; no redirect is followed and no proxy asked;
every failure is a PeerError (an UnreachableError where nobody was there) or an HttpError (an answer that we refuse); the
socket is closed when the call ends, however it ends; being cancelled is passed on.

Left to others: trying again (the outbox), and whether the answer is to be believed (core/webhook.py).
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from outlast.errors import HttpError, PeerError, UnreachableError
from outlast.net.http import Response, ResponseReader, render_request

if TYPE_CHECKING:
    from outlast.net.tls import Pinned

__all__ = ["request"]

_ENDPOINT = re.compile(
    r"http(?P<tls>s?)://(?P<host>[A-Za-z0-9._-]{1,253}|\[(?P<v6>[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9._-]{1,32})?)\])"
    r":(?P<port>[1-9][0-9]{0,4})/?"
)
_HEADER_BYTES = 16384
_HEADER_COUNT = 64


async def request(
    endpoint: str,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    connect_s: float,
    total_s: float,
    response_bytes: int = 1 << 20,
    until_close: bool = False,
    pinned: Pinned | None = None,
) -> Response:
    """Ask ``endpoint`` (``http://host:port``, ``http://[v6]:port`` or ``unix:/path``) and return its whole answer.

    With ``https://`` ``pinned`` says which certificates may be shown there; it is for nothing else.
    ``connect_s`` limits the connecting alone, ``total_s`` the whole call, both in seconds; ``response_bytes`` limits
    the answer's body; ``until_close`` takes one that ends with its connection, of which nobody can say that it is whole: not
    for peers. Any final status is an answer, not an error. Raises PeerError or HttpError.
    """
    host, port, socket_path, tls = _parse(endpoint)
    if tls != (pinned is not None):
        raise PeerError("the endpoint is https:// without a pinned certificate, or has one without TLS")
    payload = render_request(method, _host_header(host, port), path, headers or {}, body)
    head = method == "HEAD"
    reader = ResponseReader(response_bytes, _HEADER_BYTES, _HEADER_COUNT, head=head, until_close=until_close)
    try:
        async with asyncio.timeout(total_s):
            exchange = await _connect(endpoint, host, port, socket_path, reader, connect_s, pinned)
            return await exchange.run(payload)
    except TimeoutError:
        raise UnreachableError(f"{endpoint} did not answer within {total_s:g} s", lost=True) from None
    finally:
        reader.release()


class _Exchange(asyncio.Protocol):
    """The asyncio protocol of one request's connection."""

    def __init__(self, endpoint: str, reader: ResponseReader) -> None:
        self._endpoint = endpoint
        self._reader = reader
        loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Response] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()

    async def run(self, payload: bytes) -> Response:
        """Send ``payload``, wait for the answer, and close."""
        try:
            self._transport.write(payload)
            return await self._answer
        finally:
            self._transport.abort()
            await self._closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._answer.done():
            return
        try:
            self._reader.feed(data)
        except HttpError as error:
            self._answer.set_exception(HttpError(f"{self._endpoint}: {error}"))
            return
        if self._reader.response is not None:
            self._answer.set_result(self._reader.response)

    def connection_lost(self, error: Exception | None) -> None:
        if error is None and not self._answer.done():
            self._reader.end()
            if self._reader.response is not None:
                self._answer.set_result(self._reader.response)
        if not self._answer.done():
            when = "in the middle of its answer" if self._reader.begun else "without an answer"
            self._answer.set_exception(UnreachableError(f"{self._endpoint} closed the connection {when}"))
        # Nobody may be waiting any more, and that is not worth a word on the console.
        if not self._answer.cancelled():
            self._answer.exception()
        if not self._closed.done():
            self._closed.set_result(None)


async def _connect(
    endpoint: str,
    host: str,
    port: int,
    socket_path: str | None,
    reader: ResponseReader,
    connect_s: float,
    pinned: Pinned | None,
) -> _Exchange:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(connect_s):
            if socket_path is not None:
                _, exchange = await loop.create_unix_connection(lambda: _Exchange(endpoint, reader), socket_path)
            elif pinned is None:
                _, exchange = await loop.create_connection(lambda: _Exchange(endpoint, reader), host, port)
            else:
                exchange = await _connect_tls(endpoint, host, port, reader, pinned)
    except TimeoutError:
        raise UnreachableError(f"{endpoint} did not accept a connection within {connect_s:g} s", lost=True) from None
    except (OSError, UnicodeError, ValueError) as error:
        raise UnreachableError(f"{endpoint} cannot be reached: {_reason(error)}", lost=_cut_off(error)) from None
    return exchange


async def _connect_tls(endpoint: str, host: str, port: int, reader: ResponseReader, pinned: Pinned) -> _Exchange:
    """Connected, and the certificate is the right one: only now may anything be sent. Raises OSError, PeerError."""
    from outlast.net import tls

    loop, context = asyncio.get_running_loop(), tls.client_context()
    try:
        transport, exchange = await loop.create_connection(
            lambda: _Exchange(endpoint, reader), host, port, ssl=context, ssl_shutdown_timeout=1
        )
    except OSError as error:
        if said := tls.why(error):
            raise PeerError(f"{endpoint} cannot be reached: {said}") from None
        raise
    try:
        tls.believe(endpoint, transport.get_extra_info("ssl_object"), pinned)
    except PeerError:
        transport.abort()
        raise
    return exchange


def _cut_off(error: Exception) -> bool:
    """Is it we who have no network, or none that resolves names?"""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    return isinstance(error, OSError) and error.errno in {errno.ENETUNREACH, errno.ENETDOWN, errno.ETIMEDOUT}


def _reason(error: Exception) -> str:
    if isinstance(error, socket.gaierror):
        return "its name does not resolve"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    # A path too long, a label that no name may have, or several addresses that failed in several ways.
    return "no address of it works"


def _parse(endpoint: str) -> tuple[str, int, str | None, bool]:
    """Host, port, the path of a Unix socket, and whether it is TLS. Raises PeerError."""
    if endpoint.startswith("unix:/"):
        return "localhost", 0, endpoint.removeprefix("unix:"), False
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None or int(match["port"]) > 65535:
        # Not repeated: it may hold a password.
        raise PeerError("the endpoint is not http(s)://host:port, http(s)://[address]:port or unix:/path")
    return match["v6"] or match["host"], int(match["port"]), None, bool(match["tls"])


def _host_header(host: str, port: int) -> str:
    if not port:
        return host
    # A zone (fe80::1%eth0) means something to this machine only.
    return f"[{host.partition('%')[0]}]:{port}" if ":" in host else f"{host}:{port}"
