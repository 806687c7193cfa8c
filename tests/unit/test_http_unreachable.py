"""The HTTP client against peers that are not there or go away, and what it does not even send."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live import free_port, until
from support.peers import OK, ask_endpoint, says, talk

from outlast.errors import HttpError, PeerError
from outlast.net.client import request


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No call of the client leaves a socket open, nor an unhandled error."""
    before = len(os.listdir("/dev/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()
    until(lambda: len(os.listdir("/dev/fd")) <= before)


# Peers that are not there, or go away


@pytest.mark.parametrize(
    ("answer", "when"),
    [(b"", "without an answer"), (b"HTTP/1.1 2", "in the middle"), (OK[:-1], "in the middle"),
     (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n", "in the middle"),
     (b"HTTP/1.1 100 Continue\r\n\r\n", "without an answer")],
)  # fmt: skip
def test_peer_hangs_up(answer: bytes, when: str) -> None:
    """An answer that breaks off is no answer."""
    with pytest.raises(PeerError, match=when):
        talk(says(answer))


def test_peer_resets() -> None:
    """A connection that is reset is a peer that went away."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    with pytest.raises(PeerError, match="closed the connection"):
        talk(reset, "POST", body=b"x" * 5_000_000)


def test_nobody_listens(tmp_path: Path) -> None:
    """A refused connection, a missing socket, and one that nobody serves any more are unreachable peers."""
    with pytest.raises(PeerError, match="cannot be reached: Connection refused"):
        ask_endpoint(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(PeerError, match="cannot be reached: No such file"):
        ask_endpoint(f"unix:{tmp_path / 'none'}")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(PeerError, match="cannot be reached: Connection refused"):
        ask_endpoint(f"unix:{tmp_path / 'dead'}")
    with pytest.raises(PeerError, match="cannot be reached"):
        ask_endpoint(f"unix:/{'x' * 200}")


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a..b", "x" * 70])
def test_name_without_address(name: str) -> None:
    """A name that does not resolve, or cannot be one, is an unreachable peer."""
    with pytest.raises(PeerError, match="cannot be reached"):
        ask_endpoint(f"http://{name}:80")


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\n", OK[:-1]])
def test_total_time(sent: bytes) -> None:
    """A peer that says nothing, or too little, does not hold us longer than was agreed."""
    with pytest.raises(PeerError, match="did not answer within 0.1 s"):
        talk(says(sent, stay=True), total_s=0.1)


def test_peer_that_does_not_read() -> None:
    """A peer that never takes our request does not hold us either."""

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.3)

    with pytest.raises(PeerError, match="did not answer within"):
        talk(deaf, "POST", body=b"x" * 20_000_000, total_s=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels refuse when a queue is full, instead of dropping")
@pytest.mark.parametrize(
    ("connect_s", "total_s", "said"), [(0.1, 20, "accept a connection"), (20, 0.1, "answer within")]
)
def test_connect_time(connect_s: float, total_s: float, said: str) -> None:
    """A machine that drops our packets is given up after the connect time, or the total if that is shorter."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Once the queue is full, the kernel drops what comes.
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(full.getsockname())
        with pytest.raises(PeerError, match=said):
            ask_endpoint(f"http://127.0.0.1:{full.getsockname()[1]}", connect_s=connect_s, total_s=total_s)


def test_cancelling_is_passed_on() -> None:
    """Who cancels a request sees it cancelled, and the peer sees the connection end."""
    ended = []

    async def main() -> None:
        started = asyncio.Event()

        async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            started.set()
            with contextlib.suppress(ConnectionError):
                await reader.read()
            ended.append(True)
            writer.close()

        server = await asyncio.start_server(waits, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        task = asyncio.create_task(request(f"http://127.0.0.1:{port}", "GET", "/", connect_s=9, total_s=9))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.close()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.001)

    asyncio.run(main())
    assert ended == [True]


# What we do not even send


@pytest.mark.parametrize(
    "endpoint",
    ["", "127.0.0.1:80", "https://a", "http://a", "http://a:0", "http://a:65536", "http://a:80/path", "http://a:x",
     "http://user:sesame@a:80", "http://::1:80", "http://[::1]", "http://[::1:80", "http://a b:80", "http://a\r\n:80",
     "http://ü:80", "unix:", "unix:relative", "file:///etc/passwd", "HTTP://a:80", "http://a:\u0661"],
)  # fmt: skip
def test_endpoint_has_one_form(endpoint: str) -> None:
    """Anything but the few forms is refused before a connection, and is not repeated: it may hold a password."""
    with pytest.raises(PeerError, match="the endpoint is not") as caught:
        ask_endpoint(endpoint)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "", {}), ("GET", "x", {}), ("GET", "/ x", {}), ("GET", "/\r\nx", {}), ("GET", "/ü", {}),
        ("G T", "/", {}), ("", "/", {}), ("GET", "/", {"a": "b\r\nc: d"}), ("GET", "/", {"a\r\nb": "c"}),
        ("GET", "/", {"a": "ü"}), ("GET", "/", {"": "x"}), ("GET", "/", {"Content-Length": "5"}),
        ("GET", "/", {"transfer-encoding": "chunked"}), ("GET", "/", {"a": "x\x00"}),
    ],
)  # fmt: skip
def test_request_cannot_be_split(method: str, path: str, headers: dict[str, str]) -> None:
    """Nothing that could be read as another request or header is sent."""
    with pytest.raises(HttpError):
        talk(says(OK), method, path, headers=headers)


def test_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxies are not for peers."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert talk(says(OK)).body == b"ok"
