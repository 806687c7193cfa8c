"""Where the HTTP server listens, TCP and Unix sockets, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live import until
from support.served import GET, LAST, LIMITS, App, Served, answers, rest, served

from outlast.errors import BadInput
from outlast.net.http import HttpLimits
from outlast.net.server import HttpServer


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def host(app: App) -> Iterator[Served]:
    with served(app) as running:
        yield running


# Stopping


def test_close_lets_requests_finish(host: Served, app: App) -> None:
    """A stop closes idle connections, accepts none, answers what has begun, and says that the connection ends."""
    with host.dial() as idle, host.dial() as busy, host.dial() as partial:
        idle.sendall(GET)
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")
        partial.sendall(GET[:10])
        busy.sendall(GET.replace(b"/ok", b"/wait") + GET)
        until(lambda: len(app.seen) == 2)
        until(lambda: any(c._reader.begun for c in host.server._connections))
        closing = host.start(host.server.close(20))
        assert rest(idle) == b""
        with pytest.raises(ConnectionError):
            host.dial()
        partial.sendall(GET[10:])
        app.gate.set()
        for wire in (busy, partial):
            found = rest(wire)
            assert answers(found) == [200] and b"connection: close" in found
        closing.result(20)


def test_close_cuts_off_after_the_grace(host: Served, app: App) -> None:
    """What does not finish within the grace is cancelled, and the stop is over."""
    with host.dial() as wire:
        wire.sendall(GET.replace(b"/ok", b"/wait"))
        until(lambda: app.seen)
        host.call(host.server.close(0.05))
        assert rest(wire) == b""
    assert app.cancelled == ["/wait"] and not host.server._connections


def test_close_without_start_and_twice() -> None:
    """Stopping what never started, or has stopped, is no error."""

    async def main() -> None:
        server = HttpServer(App(), LIMITS)
        await server.close()
        await server.start_tcp("127.0.0.1", 0)
        await server.close()
        await server.close()

    asyncio.run(main())


# Where it listens


def test_port_taken(host: Served) -> None:
    """A port in use is an error of ours that names address and mend."""
    with pytest.raises(BadInput, match=f"127.0.0.1:{host.port}: cannot listen there .*[Aa]ddress already in use"):
        host.call(host.server.start_tcp("127.0.0.1", host.port))


@pytest.mark.parametrize(
    ("address", "port"), [("192.0.2.1", 0), ("no such host", 1), ("127.0.0.1", 70000), ("a..b", 1)]
)
def test_address_not_ours(address: str, port: int) -> None:
    """An address that this machine does not have is an error of ours."""
    with pytest.raises(BadInput):
        asyncio.run(HttpServer(App(), LIMITS).start_tcp(address, port))


def ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not ipv6(), reason="no IPv6 here")
def test_ipv6(host: Served, app: App) -> None:
    """An IPv6 address is served, and named as the peer's address."""
    port = host.call(host.server.start_tcp("::1", 0))
    with contextlib.closing(http.client.HTTPConnection("::1", port, timeout=20)) as wire:
        wire.request("GET", "/ok")
        assert wire.getresponse().read() == b"/ok|"
    assert app.seen[0].remote == "::1"


def unix_ask(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(20)
        wire.connect(str(path))
        wire.sendall(LAST)
        return rest(wire)


def test_unix_socket(host: Served, app: App, tmp_path: Path) -> None:
    """A socket file is served, is its owner's alone, and is gone after the stop."""
    path = tmp_path / "s"
    host.call(host.server.start_unix(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert answers(unix_ask(path)) == [200]
    assert app.seen[0].remote == "unix"
    host.call(host.server.close())
    assert not path.exists()


def test_unix_socket_is_private_from_the_first_moment(
    host: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mode is right at the instant the file exists, and the process's own mask is put back."""
    modes = []
    bind = socket.socket.bind

    class Watching(socket.socket):
        def bind(self, address: str) -> None:  # type: ignore[override]
            bind(self, address)
            modes.append(stat.S_IMODE(os.lstat(address).st_mode))

    monkeypatch.setattr("outlast.net.server.socket.socket", Watching)
    before = os.umask(0)
    try:
        host.call(host.server.start_unix(tmp_path / "s"))
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert modes == [0o600]


def test_stale_socket_is_replaced(host: Served, tmp_path: Path) -> None:
    """What a killed daemon left behind is no obstacle."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    host.call(host.server.start_unix(path))
    assert answers(unix_ask(path)) == [200]


def test_live_socket_is_refused(host: Served, tmp_path: Path) -> None:
    """A second daemon on the same socket is refused, and the first goes on."""
    path = tmp_path / "s"
    host.call(host.server.start_unix(path))
    with pytest.raises(BadInput, match="a process that is running"):
        host.call(host.server.start_unix(path))
    assert answers(unix_ask(path)) == [200]


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not tell a full queue from nobody there")
def test_busy_socket_is_refused(host: Served, tmp_path: Path) -> None:
    """A daemon that is too busy to accept is alive: its socket is not taken from it."""
    full = tmp_path / "full"
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(str(full))
        listener.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(str(full))
        with pytest.raises(BadInput, match="a process that is running"):
            host.call(host.server.start_unix(full))
        assert full.exists()


def test_other_files_are_left_alone(host: Served, tmp_path: Path) -> None:
    """A file that is no socket is never removed, and a missing directory never made."""
    file = tmp_path / "file"
    file.write_text("precious")
    link = tmp_path / "link"
    link.symlink_to(file)
    for path in (file, link, tmp_path):
        with pytest.raises(BadInput, match="is not a socket"):
            host.call(host.server.start_unix(path))
    with pytest.raises(BadInput, match="check the directory"):
        host.call(host.server.start_unix(tmp_path / "none" / "s"))
    assert file.read_text() == "precious" and link.is_symlink()


def test_path_too_long(host: Served, tmp_path: Path) -> None:
    """A path that no socket can have is said to be too long, with the mend."""
    with pytest.raises(BadInput, match="a socket's path has at most 10[37].*shorter"):
        host.call(host.server.start_unix(tmp_path / ("x" * 100)))


def test_stop_does_not_remove_a_successors_socket(host: Served, tmp_path: Path) -> None:
    """If another daemon has put its own socket in the place, that one stays."""
    path = tmp_path / "s"
    host.call(host.server.start_unix(path))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        host.call(host.server.close())
        assert path.exists()


def test_limits_have_defaults() -> None:
    """Only the body's limit must be named."""
    limits = HttpLimits(1)
    assert (limits.header_bytes, limits.header_count, limits.read_seconds, limits.connections) == (16384, 64, 10, 64)
