"""Properties of the HTTP parts: what holds for every sequence of bytes that a peer may send."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.served import LIMITS, Served, answers, exchange, served

from outlast.errors import HttpError
from outlast.net.http import Request, RequestReader, Response, ResponseReader, render_request, render_response

GET = b"GET /still/here HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
SMALL = replace(LIMITS, body_bytes=64, header_bytes=512, header_count=8)

# Pieces that lead deeper into the parser than plain noise does.
LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n", b"POST /a?b HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n", b"CONNECT x:1 HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n",
        b"Host: x\r\n", b"Content-Length: 5\r\n", b"Content-Length: 70\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"Expect: 100-continue\r\n",
        b"\r\n", b"\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\n", b"ffffffffffffffff\r\n", b"5;a=b\r\n", b"hello", b"X: " + b"y" * 600, b"\x00",
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 X\r\n", b"HTTP/1.0 204 X\r\n",
    ]
)  # fmt: skip
BYTES = st.one_of(
    st.binary(max_size=200), st.lists(st.one_of(LINES, LINES, st.binary(max_size=8)), max_size=14).map(b"".join)
)
TOKENS = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
VALUES = st.from_regex(r"([\x21-\x7e]([\x20-\x7e\t]{0,20}[\x21-\x7e])?)?", fullmatch=True)
FRAMING = {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade"}
HEADERS = st.dictionaries(TOKENS, VALUES, max_size=5).map(
    lambda found: {name: value for name, value in found.items() if name not in FRAMING}
)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """``data`` in pieces that end at these places."""
    marks = [0, *sorted(min(place, len(data)) for place in at), len(data)]
    return [data[one:other] for one, other in zip(marks, marks[1:], strict=False)]


def read(data: list[bytes]) -> tuple[list[tuple[Request, bool]], int | None]:
    """What a reader makes of these pieces."""
    reader = RequestReader(SMALL, "peer")
    for piece in data:
        if reader.refused is None and piece:
            reader.feed(piece)
    return list(reader.arrived), reader.refused


CUTS = st.lists(st.integers(0, 600), max_size=5)


@given(BYTES, CUTS)
def test_requests_stay_within_their_limits(data: bytes, at: list[int]) -> None:
    """No input makes the reader raise, or pass on a request that breaks a limit or could be understood in two ways."""
    arrived, refused = read(cut(data, at))
    assert refused in (None, 400, 413, 417, 431, 501, 505)
    for request, _ in arrived:
        assert len(request.body) <= 64 and len(request.headers) <= 8 and request.path.startswith("/")
        assert not {"content-length", "transfer-encoding"} <= request.headers.keys()
        assert all(name == name.lower() and (name + value).isascii() for name, value in request.headers.items())


@given(BYTES, CUTS)
def test_cutting_changes_nothing(data: bytes, at: list[int]) -> None:
    """How the network cuts a stream decides nothing about which requests are in it, as long as nothing is too large."""
    whole, refused = read([data])
    pieces, also = read(cut(data, at))
    if 431 not in (refused, also):
        assert (pieces, also) == (whole, refused)


@given(st.sampled_from(["GET", "POST", "PUT"]), HEADERS, st.binary(max_size=64), CUTS)
def test_what_the_client_writes_the_server_reads(
    method: str, headers: dict[str, str], body: bytes, at: list[int]
) -> None:
    """A request that we render is read back as it was."""
    data = render_request(method, "peer:80", "/path?query", headers, body)
    [(request, keep_alive)], refused = read(cut(data, at))
    assert refused is None and not keep_alive
    assert (request.method, request.path, request.body) == (method, "/path?query", body)
    assert {name: value for name, value in request.headers.items() if name not in FRAMING} == headers


@given(st.integers(200, 599), HEADERS, st.binary(max_size=64), CUTS)
def test_what_the_server_writes_the_client_reads(
    status: int, headers: dict[str, str], body: bytes, at: list[int]
) -> None:
    """A response that we render is read back as it was."""
    body = b"" if status in (204, 304) else body
    reader = ResponseReader(64, 2048, 20, head=False)
    for piece in cut(render_response(Response(status, body, headers), keep_alive=False), at):
        reader.feed(piece)
    assert reader.response is not None
    assert (reader.response.status, reader.response.body) == (status, body)
    assert {name: value for name, value in reader.response.headers.items() if name not in FRAMING} == headers


@given(BYTES, CUTS, st.booleans())
def test_any_answer_is_an_answer_or_an_http_error(data: bytes, at: list[int], head: bool) -> None:
    """The client's reader raises HttpError alone, and keeps no more than it may."""
    reader = ResponseReader(64, 512, 8, head=head)
    with contextlib.suppress(HttpError):
        for piece in cut(data, at):
            reader.feed(piece)
    assert reader.response is None or len(reader.response.body) <= 64


@pytest.fixture(scope="module")
def host() -> Iterator[Served]:
    async def handler(request: Request) -> Response:
        return Response(200, request.path.encode())

    with served(handler, SMALL) as running:
        yield running
        assert running.errors == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(BYTES)
@example(GET * 400)
@example(b"\xff" * 100_000)
def test_running_server_survives_anything(host: Served, data: bytes) -> None:
    """Whatever bytes come, each answer is whole, none is a 500, the connection ends, and the next client is served."""
    found = exchange(host, data, end=True).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    if b"HEAD" not in data:
        assert set(answers(found)) <= {200, 400, 413, 417, 431, 501, 505}
    assert b"HTTP/1.1 500" not in found
    assert answers(exchange(host, GET)) == [200]
