"""The HTTP server against bytes that no client should send, and against clients that take their time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from support.live import until
from support.served import GET, LAST, QUICK, App, Served, answers, ask, exchange, rest, served

REASONS = {400: b"Bad Request", 413: b"Entity Too Large", 431: b"Fields Too Large", 501: b"Not Implemented"}


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def host(app: App) -> Iterator[Served]:
    with served(app) as running:
        yield running


@pytest.fixture
def quick(app: App) -> Iterator[Served]:
    with served(app, QUICK) as running:
        yield running


# Refusals


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (400, b"nonsense\r\n\r\n"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (400, b"GET ok HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"GET http://x/ok HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"GET /ok HTTP/1.1\r\n\r\n"),
        (400, b"GET /ok HTTP/1.1\nHost: x\n\n"),
        (400, b"GET /ok HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
        (400, b"GET /ok HTTP/1.1\r\nHost: x\r\nWebhook-Id: a\r\nwebhook-id: a\r\n\r\n"),
        (400, b"GET /ok HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n"),
        (400, b"GET /ok HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"),
        (400, b"GET /ok HTTP/1.1\r\nHost: x\r\nA: \xe9\r\n\r\n"),
        (400, b"GET /ok HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n"),
        (400, b"POST /ok HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"),
        (400, b"POST /ok HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na"),
        (400, b"POST /ok HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
        (400, b"POST /ok HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na"),
        (400, b"POST /ok HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        (400, b"POST /ok HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, b"POST /ok HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        (400, b"POST /ok HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        (400, b"POST /ok HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n"),
        (400, b"POST /ok HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        (400, b"POST /ok HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, b"POST /ok HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        (400, b"POST /ok HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"),
        (400, b"POST /ok HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: y\r\n\r\n"),
        (413, b"POST /ok HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n"),
        (413, b"POST /ok HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 100001\r\n\r\n"),
        (413, b"POST /ok HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n186a1\r\n" + b"x" * 100_001),
        (417, b"POST /ok HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\n"),
        (431, b"GET /" + b"p" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        (431, b"GET /ok HTTP/1.1\r\nHost: x\r\nA: " + b"v" * 5000 + b"\r\n\r\n"),
        (431, b"GET /ok HTTP/1.1\r\nHost: x\r\nA: " + b"v" * 5000),
        (431, b"GET /ok HTTP/1.1\r\nHost: x\r\n" + b"N" * 5000),
        (431, b"GET /ok HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(21)) + b"\r\n"),
        (431, b"\r\n" * 5000),
        (431, b"POST /ok HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"e" * 9000),
        (431, b"POST /ok HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 3000),
        (501, b"GET /ok HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
        (501, b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"),
        (501, b"DESCRIBE /ok RTSP/1.0\r\n\r\n"),
        (501, b"PROPFIND /ok HTTP/1.1\r\nHost: x\r\n\r\n"),
        (505, b"GET /ok HTTP/2.0\r\nHost: x\r\n\r\n"),
        (505, b"GET /ok\r\n\r\n"),
    ],
)  # fmt: skip
def test_refused(host: Served, app: App, status: int, data: bytes) -> None:
    """It is refused with a short answer that says nothing about us, the connection ends, and no handler sees it."""
    found = exchange(host, data)
    assert answers(found) == [status]
    assert b"connection: close" in found and len(found) < 200 and app.seen == []
    assert REASONS.get(status, b"") in found
    assert ask(host)[0] == 200


def test_smuggled_request_is_not_run(host: Served, app: App) -> None:
    """What follows an ambiguous or last request on its connection is never taken as a request."""
    inner = b"GET /inner HTTP/1.1\r\nHost: x\r\n\r\n"
    both = b"POST /outer HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert answers(exchange(host, both + inner)) == [400]
    assert answers(exchange(host, LAST + inner)) == [200]
    assert [request.path for request in app.seen] == ["/ok"]


def test_refusal_comes_after_earlier_answers(host: Served) -> None:
    """A good request before a bad one is still answered, first."""
    assert answers(exchange(host, GET + GET + b"nonsense\r\n\r\n" + GET)) == [200, 200, 400]


def test_refusal_reaches_a_client_that_is_still_sending(host: Served) -> None:
    """A standard client that sends far too much reads the 413 instead of a broken connection."""
    assert ask(host, method="POST", body=b"x" * 5_000_000)[0] == 413


def test_body_limit_is_inclusive(host: Served) -> None:
    """The last byte that fits is taken."""
    assert ask(host, method="POST", body=b"x" * 100_000)[0] == 200


def test_headers_that_come_slowly_are_bounded(host: Served) -> None:
    """One header that never ends is refused, in however small pieces it comes."""
    with host.dial() as wire:
        wire.sendall(b"GET /ok HTTP/1.1\r\nA: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                wire.sendall(b"v" * 50)
        assert answers(rest(wire)) == [431]


# Time


@pytest.mark.parametrize(
    "part", [b"G", b"GET /ok HTTP/1.1\r\nHost", LAST[:-1], b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1"]
)
def test_slow_sender(quick: Served, app: App, part: bytes) -> None:
    """A request that does not arrive whole in time ends with a 408."""
    assert answers(exchange(quick, part)) == [408]
    assert app.seen == []


def test_trickle_does_not_extend_the_time(quick: Served) -> None:
    """A byte now and then does not keep a request's time from running out."""
    with quick.dial() as wire:
        wire.settimeout(0.02)
        wire.sendall(b"GET /ok HTTP/1.1\r\nHost: x\r\nA: ")

        def refused() -> bool:
            wire.sendall(b"v")
            try:
                return wire.recv(100).startswith(b"HTTP/1.1 408")
            except TimeoutError:
                return False

        until(refused, limit=10, what="a 408")


def test_silent_connections_are_closed(quick: Served) -> None:
    """A connection that asks nothing, from the beginning or any more, is closed without a word."""
    assert exchange(quick, b"") == b""
    assert exchange(quick, b"\r\n") == b""
    assert answers(exchange(quick, GET)) == [200]


def test_client_that_does_not_hang_up(quick: Served) -> None:
    """After the last answer, a peer that keeps its side open and keeps on sending is cut off."""
    with quick.dial() as wire, contextlib.suppress(ConnectionError):
        wire.sendall(b"nonsense\r\n\r\n")
        until(lambda: wire.recv(1000) == b"")
        while True:
            wire.sendall(b"x" * 1000)
    until(lambda: not quick.server._connections)
