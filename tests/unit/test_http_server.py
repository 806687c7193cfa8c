"""The HTTP server, over real sockets, with clients that we did not write: order, faults of ours, numbers."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.live import until
from support.served import GET, LAST, LIMITS, QUICK, App, Served, answers, ask, exchange, rest, served

from outlast.net.http import Request, Response
from outlast.net.server import HttpServer


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


# Clients that we did not write


def test_many_requests_on_one_connection(host: Served, app: App) -> None:
    """A standard client keeps its connection; method, path, query, headers, body and peer arrive as they were sent."""
    wire = http.client.HTTPConnection("127.0.0.1", host.port, timeout=20)
    with contextlib.closing(wire):
        for number in range(5):
            wire.request("POST", f"/a%20b?n={number}", b"body", {"X-Thing": "Value"})
            answer = wire.getresponse()
            assert (answer.status, answer.read()) == (200, f"/a%20b?n={number}|body".encode())
            assert answer.getheader("connection") == "keep-alive"
            assert answer.getheader("server") is None
    request = app.seen[0]
    assert (request.method, request.body, request.headers["x-thing"], request.remote) == (
        "POST", b"body", "Value", "127.0.0.1",
    )  # fmt: skip


def test_chunked_body(host: Served) -> None:
    """A body without a known length is put together again."""
    wire = http.client.HTTPConnection("127.0.0.1", host.port, timeout=20)
    with contextlib.closing(wire):
        wire.request("POST", "/ok", iter([b"one", b"two", b"x" * 60_000]), encode_chunked=True)
        assert wire.getresponse().read() == b"/ok|onetwo" + b"x" * 60_000


def test_head_tells_the_length_only(host: Served) -> None:
    """HEAD gets the headers of GET and no body, and the connection goes on."""
    found = exchange(host, GET.replace(b"GET", b"HEAD") + LAST)
    first, second, last = found.split(b"\r\n\r\n")
    assert b"content-length: 4" in first and second.startswith(b"HTTP/1.1 200") and last == b"/ok|"


def test_no_content_has_no_length(host: Served) -> None:
    """A 204 carries neither body nor Content-Length, as HTTP demands."""
    found = exchange(host, LAST.replace(b"/ok", b"/empty"))
    assert found.startswith(b"HTTP/1.1 204 ") and b"content-length" not in found and found.endswith(b"\r\n\r\n")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@pytest.mark.parametrize(
    "options", [[], ["-H", "Expect: 100-continue"], ["--http1.0"], ["-H", "Transfer-Encoding: chunked"]]
)
def test_curl(host: Served, options: list[str], tmp_path: Path) -> None:
    """curl is understood in all its ways of sending a body, and need not wait out its patience for a 100."""
    (tmp_path / "body").write_bytes(b"b" * 90_000)
    url = f"http://127.0.0.1:{host.port}/ok"
    run = subprocess.run(
        ["curl", "-sS", "-v", "--noproxy", "*", "--expect100-timeout", "20", "-m", "10", *options]
        + ["--data-binary", f"@{tmp_path / 'body'}", url],
        capture_output=True,
        check=True,
    )
    assert run.stdout == b"/ok|" + b"b" * 90_000
    assert (b"100 Continue" in run.stderr) == ("Expect: 100-continue" in options)


def test_http_1_0_connection_ends(host: Served) -> None:
    """An HTTP/1.0 client reads until the end, and the end comes."""
    assert answers(exchange(host, b"GET /ok HTTP/1.0\r\n\r\n")) == [200]


# Order and back-pressure


def test_pipelined_requests_are_answered_in_order(host: Served, app: App) -> None:
    """Many requests in one packet get their answers in their order."""
    count = 3000
    sent = b"".join(GET.replace(b"/ok", b"/%d" % number) for number in range(count)) + LAST
    with host.dial() as wire:
        threading.Thread(target=wire.sendall, args=(sent,)).start()
        found = rest(wire)
    assert answers(found) == [200] * (count + 1)
    assert app.done == [f"/{number}" for number in range(count)] + ["/ok"]


def test_one_request_at_a_time(host: Served, app: App) -> None:
    """While one request is handled, the next of that connection waits; other connections do not."""
    with host.dial() as wire:
        wire.sendall(GET.replace(b"/ok", b"/wait") + LAST)
        until(lambda: app.seen)
        assert ask(host)[0] == 200
        assert [request.path for request in app.seen] == ["/wait", "/ok"]
        app.gate.set()
        assert answers(rest(wire)) == [200, 200]


def test_no_more_is_read_while_a_handler_runs(host: Served, app: App) -> None:
    """A sender is held back by the network, not by our memory, while its first request is handled."""
    with host.dial() as wire:
        wire.sendall(GET.replace(b"/ok", b"/wait"))
        until(lambda: app.seen)
        wire.settimeout(0.5)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 64_000_000:
                sent += wire.send(GET * 1000)
        app.gate.set()


def test_half_closed_client_gets_its_answer(host: Served, app: App) -> None:
    """A client that has sent all and closed that direction still gets its answers."""
    assert answers(exchange(host, GET + GET, end=True)) == [200, 200]
    with host.dial() as wire:
        wire.sendall(GET.replace(b"/ok", b"/wait"))
        wire.shutdown(socket.SHUT_WR)
        until(lambda: app.seen[2:])
        app.gate.set()
        assert answers(rest(wire)) == [200]


def test_request_is_handled_to_its_end_if_the_client_leaves(host: Served, app: App) -> None:
    """What arrived whole is done, though nobody waits for the answer; then its place is free."""
    with host.dial() as wire:
        wire.sendall(GET.replace(b"/ok", b"/wait"))
        until(lambda: app.seen)
    app.gate.set()
    until(lambda: app.done == ["/wait"])
    until(lambda: not host.server._connections)


def test_peer_that_does_not_take_its_answer(quick: Served) -> None:
    """A peer that asks and never reads is cut off, which is no fault of ours."""
    with quick.dial() as wire:
        wire.sendall(GET.replace(b"/ok", b"/large"))
        until(lambda: quick.server._connections)
        until(lambda: not quick.server._connections)
    assert quick.errors == []


# Faults of ours


@pytest.mark.parametrize("path", [b"/fail", b"/split", b"/framing", b"/nothing"])
def test_handler_fault(host: Served, path: bytes) -> None:
    """A handler's exception, or an answer that must not be sent, is a plain 500; the details go to on_error alone."""
    found = exchange(host, GET.replace(b"/ok", path) + LAST)
    assert answers(found) == [500, 200]
    assert b"secret" not in found and b"injected" not in found and b"Error\n" in found
    assert len(host.errors) == 1


def test_handler_that_is_cancelled_from_within(host: Served) -> None:
    """A handler whose own work was cancelled ends its connection, which does not hang."""
    assert exchange(host, GET.replace(b"/ok", b"/cancelled")) == b""
    assert ask(host)[0] == 200


def test_fault_in_the_callback_is_harmless(app: App) -> None:
    """If even on_error fails, the peer gets its 500."""

    def faulty(error: Exception) -> None:
        raise ZeroDivisionError

    with served(app) as host:
        host.server._on_error = faulty
        assert ask(host, "/fail")[0] == 500


def test_without_callback_one_line_is_logged(app: App, caplog: pytest.LogCaptureFixture) -> None:
    """By default the log names the kind of the fault, without its text and without a traceback."""

    async def main() -> None:
        server = HttpServer(app, LIMITS)
        port = await server.start_tcp("127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LAST.replace(b"/ok", b"/fail"))
        await _.read()
        writer.close()
        await server.close()

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records] == ["a handler raised RuntimeError"]
    assert "secret" not in caplog.text and "Traceback" not in caplog.text


# Numbers


def test_idle_connections_make_room(app: App) -> None:
    """At the limit the connection that has been idle longest is dropped, and the new one is served."""
    with served(app, replace(LIMITS, connections=3)) as host, contextlib.ExitStack() as stack:
        idle = []
        for _ in range(3):
            wire = stack.enter_context(host.dial())
            wire.sendall(GET)
            assert wire.recv(1000).startswith(b"HTTP/1.1 200")
            idle.append(wire)
            until(lambda: len(host.server._idle) == len(idle))
        assert ask(host)[0] == 200
        assert rest(idle[0]) == b""
        idle[2].sendall(LAST)
        assert answers(rest(idle[2])) == [200]


def test_no_room(app: App) -> None:
    """When every connection is at work, one more is told 503 or closed; a place that is free again is given."""
    with served(app, replace(LIMITS, connections=2)) as host, contextlib.ExitStack() as stack:
        busy = [stack.enter_context(host.dial()) for _ in range(2)]
        for wire in busy:
            wire.sendall(LAST.replace(b"/ok", b"/wait"))
        until(lambda: len(app.seen) == 2)
        assert answers(exchange(host, b"")) == [503]
        app.gate.set()
        assert [answers(rest(wire)) for wire in busy] == [[200], [200]]
        until(lambda: ask(host)[0] == 200)


def test_no_connection_is_left(host: Served) -> None:
    """However connections end, none stays in the books, nor does a file descriptor."""
    before = len(os.listdir("/dev/fd"))
    for data in (b"", b"G", GET, LAST, b"nonsense\r\n\r\n", GET.replace(b"/ok", b"/fail")):
        for end in (True, False):
            with host.dial() as wire:
                wire.sendall(data)
                if end:
                    wire.shutdown(socket.SHUT_WR)
    assert ask(host)[0] == 200  # connections are taken in order: by now, all of them have been
    until(lambda: not host.server._connections and not host.server._idle)
    until(lambda: len(os.listdir("/dev/fd")) <= before)


def test_slow_senders_make_room(app: App) -> None:
    """When all connections are taken by requests that do not come to their end, the slowest gives way to a new one."""
    with served(app, replace(LIMITS, connections=3)) as host, contextlib.ExitStack() as stack:
        slow = []
        for _ in range(3):
            wire = stack.enter_context(host.dial())
            wire.sendall(LAST[:20])
            slow.append(wire)
            until(lambda: len(host.server._waiting) == len(slow))
        assert ask(host)[0] == 200
        assert rest(slow[0]) == b""
        slow[2].sendall(LAST[20:])
        assert answers(rest(slow[2])) == [200]


def test_one_address_keeps_no_other_out(app: App) -> None:
    """However many connections it opens, and however it uses them: one from elsewhere that says nothing yet is not cut."""
    with served(app, replace(LIMITS, connections=4)) as host, contextlib.ExitStack() as stack:
        honest = stack.enter_context(host.dial())
        until(lambda: len(host.server._idle) == 1)
        for full in (2, 3, *[4] * 10):
            wire = stack.enter_context(socket.create_connection(("127.0.0.1", host.port), 5, ("127.0.0.2", 0)))
            wire.sendall(LAST[:20])
            until(lambda full=full: len(host.server._connections) == full)
        honest.sendall(LAST)
        assert answers(rest(honest)) == [200]


def test_one_address_at_work_keeps_no_other_out(app: App) -> None:
    """Connections from one address are all at work, without end: one from elsewhere is served, one more of its own is not."""
    with served(app, replace(LIMITS, connections=3)) as host, contextlib.ExitStack() as stack:
        for _ in range(3):
            wire = stack.enter_context(socket.create_connection(("127.0.0.1", host.port), 5, ("127.0.0.2", 0)))
            wire.sendall(LAST.replace(b"/ok", b"/wait"))
        until(lambda: len(app.seen) == 3)
        more = stack.enter_context(socket.create_connection(("127.0.0.1", host.port), 5, ("127.0.0.2", 0)))
        assert answers(rest(more)) == [503]
        assert ask(host)[0] == 200
        app.gate.set()


def test_who_takes_no_answers_makes_room(app: App) -> None:
    """When all connections are taken by peers that do not read what they asked for, one gives way to a new one."""
    with served(app, replace(LIMITS, connections=2)) as host, contextlib.ExitStack() as stack:
        for number in range(2):
            wire = stack.enter_context(host.dial())
            wire.sendall(GET.replace(b"/ok", b"/large"))
            until(lambda full=number + 1: len(host.server._waiting) == full)
        assert ask(host)[0] == 200


def test_who_sends_many_requests_at_once_does_not_hold_up_the_others() -> None:
    """Of a hundred requests in one packet one is answered a turn: another connection's is answered before the last of them."""
    order: list[str] = []

    def handler(request: Request) -> Response:
        order.append(request.path)
        return Response(200)

    with served(handler) as host, host.dial(), host.dial():
        until(lambda: len(host.server._idle) == 2)

        async def both() -> None:
            many, one = list(host.server._idle)
            many.data_received(GET.replace(b"/ok", b"/many") * 100)
            one.data_received(GET)

        host.call(both())
        until(lambda: len(order) == 101)
    assert order.index("/ok") < 10
