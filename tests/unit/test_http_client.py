"""The HTTP client: the answers that it takes, from servers that we did not write, and those that it refuses."""

from __future__ import annotations

import asyncio
import gc
import http.server
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import ANY

import pytest
from support.live import until
from support.peers import OK, says, talk
from support.served import LIMITS

from outlast.errors import HttpError, UnreachableError
from outlast.net.client import request
from outlast.net.http import Request, Response
from outlast.net.server import HttpServer


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No call of the client leaves a socket open, nor an unhandled error."""
    before = len(os.listdir("/dev/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()
    until(lambda: len(os.listdir("/dev/fd")) <= before)


# Answers


class Library(http.server.BaseHTTPRequestHandler):
    """The standard library's server, which sends back what it got."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Path", self.path)
        self.send_header("X-Sent", self.headers["X-Sent"])
        self.send_header("X-Host", self.headers["Host"])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_a_server_that_we_did_not_write() -> None:
    """Method, path, headers and body reach the standard library's server, and its answer comes back whole."""
    with http.server.HTTPServer(("127.0.0.1", 0), Library) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            found = asyncio.run(
                request(
                    endpoint, "POST", "/a?b=c", headers={"X-Sent": "yes"}, body=b"b" * 300_000, connect_s=5, total_s=20
                )
            )
        finally:
            server.shutdown()
            thread.join()
    assert (found.status, found.body) == (201, b"b" * 300_000)
    assert found.headers["x-path"] == "/a?b=c" and found.headers["x-sent"] == "yes"
    assert found.headers["x-host"] == endpoint.removeprefix("http://")


@pytest.mark.parametrize("scheme", ["http://127.0.0.1", "http://localhost", "http://[::1]", "unix"])
def test_our_own_server_over_every_kind_of_endpoint(scheme: str, tmp_path: Path) -> None:
    """IPv4, a name, IPv6 and a Unix socket; the Host header is what it should be for each."""

    async def handler(asked: Request) -> Response:
        return Response(200, asked.headers["host"].encode())

    async def main() -> None:
        server = HttpServer(handler, LIMITS)
        try:
            if scheme == "unix":
                await server.start_unix(tmp_path / "s")
                endpoint, expected = f"unix:{tmp_path / 's'}", "localhost"
            else:
                port = await server.start_tcp(scheme.removeprefix("http://").strip("[]"), 0)
                endpoint, expected = f"{scheme}:{port}", f"{scheme.removeprefix('http://')}:{port}"
            found = await request(endpoint, "GET", "/", connect_s=10, total_s=20)
            assert found == Response(200, expected.encode(), found.headers)
        finally:
            await server.close()

    try:
        asyncio.run(main())
    except Exception as error:
        if "::1" in scheme and "not available" in str(error) or "Cannot assign" in str(error):
            pytest.skip("no IPv6 here")
        raise


@pytest.mark.parametrize("status", [200, 301, 302, 404, 500, 503])
def test_every_final_status_is_an_answer(status: int) -> None:
    """Errors and redirects are the caller's to judge; nothing is followed."""
    answer = b"HTTP/1.1 %d X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n" % status
    assert talk(says(answer)).status == status


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        OK + b"junk behind the end",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_answers_in_pieces(answer: bytes, step: int) -> None:
    """However an answer is cut up and framed, it is read to its end and not beyond, though the peer stays."""
    pieces = [answer[at : at + step] for at in range(0, len(answer), step)]
    assert talk(says(*pieces, stay=True)).body == b"ok"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 204 No\r\n\r\n", b"HTTP/1.1 304 Not\r\nContent-Length: 7\r\n\r\n"])
def test_answers_without_a_body(answer: bytes) -> None:
    """Where no body can be, none is waited for."""
    assert talk(says(answer, stay=True)).body == b""


def test_head() -> None:
    """The answer to a HEAD tells a length and has no body."""
    found = talk(says(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", stay=True), "HEAD")
    assert (found.body, found.headers["content-length"]) == (b"", "999")


def test_repeated_headers_are_joined() -> None:
    """Two values of one header come as one with a comma between, which no signature's field can hold."""
    found = talk(says(OK.replace(b"\r\nC", b"\r\nWebhook-Id: a\r\nwebhook-id: b\r\nC")))
    assert found.headers["webhook-id"] == "a, b"


def test_early_answer_while_we_send() -> None:
    """A peer that answers before it has read all is heard."""

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK.replace(b"200", b"413"))
        await reader.read()

    assert talk(early, "POST", body=b"x" * 20_000_000).status == 413


@pytest.mark.parametrize("head", ["HTTP/1.0 200 OK", "HTTP/1.1 200 OK\r\nConnection: close", "HTTP/1.1 200 OK"])
@pytest.mark.parametrize("body", [b"", b"up and well", b"x" * 1000])
def test_answers_that_end_with_their_connection(head: str, body: bytes) -> None:
    """Taken where it is asked for (RFC 9112, section 6.3), whatever the pieces, up to the limit; else refused."""
    pieces = [head.encode() + b"\r\nServer: x\r\n\r\n" + body[:3], body[3:]]
    assert talk(says(*pieces), until_close=True, response_bytes=1000) == Response(200, body, ANY)
    with pytest.raises(HttpError, match="how long"):
        talk(says(*pieces), response_bytes=1000)
    with pytest.raises(HttpError, match="larger than 1000"):
        talk(says(*pieces, b"x" * (1001 - len(body))), until_close=True, response_bytes=1000)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.0 200", OK[:-1], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok"]
)
def test_answers_that_are_cut_short_stay_so(answer: bytes) -> None:
    """An answer that says how long it is, or whose head has no end, is not made whole by its connection's end."""
    with pytest.raises(UnreachableError, match="in the middle"):
        talk(says(answer), until_close=True)


def test_answers_that_never_end() -> None:
    """Nor does one last for longer than the whole call may."""
    with pytest.raises(UnreachableError, match="within 0.2 s"):
        talk(says(b"HTTP/1.0 200 OK\r\n\r\nok", stay=True), until_close=True, total_s=0.2)


# Answers that we refuse


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", "how long"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "protocol"),
        (OK.replace(b"2\r\n\r\n", b"2\r\nTransfer-Encoding: chunked\r\n\r\n"), "not HTTP"),
        (OK.replace(b"2\r\n\r\n", b"2\r\nContent-Length: 3\r\n\r\n"), "not HTTP"),
        (OK.replace(b": 2", b": two"), "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", "larger than 1000"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001, "larger than 1000"),
        (OK.replace(b"\r\nC", b"\r\nA: " + b"v" * 20_000 + b"\r\nC"), "headers are larger"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"v" * 20_000, "headers are larger"),
        (OK.replace(b"\r\nC", b"\r\nA: b" * 65 + b"\r\nC"), "too many"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 2000, "headers are larger"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"e" * 20_000, "headers are larger"),
    ],
)
@pytest.mark.parametrize("stay", [True, False])
def test_refused_answers(answer: bytes, wrong: str, stay: bool) -> None:
    """What is not HTTP, has no certain end, or is too large, is an HttpError at once, whether the peer stays or not."""
    with pytest.raises(HttpError, match=wrong):
        talk(says(answer, stay=stay), response_bytes=1000)


def test_answer_of_just_the_limit() -> None:
    """The last byte that fits is taken."""
    body = b"x" * 1000
    assert talk(says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + body), response_bytes=1000).body == body
