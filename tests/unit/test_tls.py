"""TLS between a client and a server of ours: what is pinned is taken, all else is one clear error and sends nothing."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.certificate import not_after
from outlast.errors import KeyFileError, PeerError
from outlast.net import client
from outlast.net.http import HttpLimits, Request, Response
from outlast.net.server import HttpServer
from outlast.net.tls import Pinned, pinned, server_context
from outlast.settings import Peer, Tls
from outlast.store import certificates
from tests.support.certificates import certificate

SECRET = b"what nobody else may read"


def days(number: float) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=number)


def served(
    folder: Path, ask: Callable[[int], Awaitable[None]], *, tls: bool = True, limits: HttpLimits | None = None
) -> list[Request]:
    """Have ``ask(port)`` speak to a server of ours; return the requests that came through."""
    came: list[Request] = []

    async def answer(request: Request) -> Response:
        came.append(request)
        return Response(200, b"x" * 200_000)

    async def main() -> None:
        server = HttpServer(answer, limits or HttpLimits(body_bytes=1 << 20))
        port = await server.start_tcp("127.0.0.1", 0, server_context(folder, Tls() if tls else None))
        try:
            await ask(port)
        finally:
            await server.close(1)

    asyncio.run(main())
    return came


def asking(pin: str | None, scheme: str = "https") -> Callable[[int], Awaitable[None]]:
    async def ask(port: int) -> None:
        expected = Pinned((pin,), time.time()) if pin else None
        response = await client.request(
            f"{scheme}://127.0.0.1:{port}", "POST", "/", body=SECRET, connect_s=5, total_s=10, pinned=expected
        )
        assert response.body == b"x" * 200_000

    return ask


def test_pinned_certificate(tmp_path: Path) -> None:
    """With the right pin a request and a long answer go through."""
    pin = certificate(tmp_path / "node.pem", days(30))
    assert [request.body for request in served(tmp_path, asking(pin))] == [SECRET]


def test_wrong_pin(tmp_path: Path) -> None:
    """Another certificate than the pinned one is refused before anything is sent."""
    certificate(tmp_path / "node.pem", days(30))
    with pytest.raises(PeerError, match="another certificate than the one that is pinned"):
        assert not served(tmp_path, asking("sha256:" + "0" * 64))


def test_expired(tmp_path: Path) -> None:
    """The right certificate after its end is refused before anything is sent."""
    pin = certificate(tmp_path / "node.pem", days(-1))
    with pytest.raises(PeerError, match="expired"):
        assert not served(tmp_path, asking(pin))


def test_plain_to_tls(tmp_path: Path) -> None:
    """Plain HTTP to a port with TLS gets no answer."""
    certificate(tmp_path / "node.pem", days(30))
    with pytest.raises(PeerError, match="without an answer"):
        assert not served(tmp_path, asking(None, "http"))


def test_tls_to_plain(tmp_path: Path) -> None:
    """TLS to a port without is refused in plain words."""
    with pytest.raises(PeerError, match="does not speak TLS"):
        assert not served(tmp_path, asking("sha256:" + "0" * 64), tls=False)


@pytest.mark.parametrize(("scheme", "pin"), [("https", None), ("http", "sha256:" + "0" * 64)])
def test_never_mixed(tmp_path: Path, scheme: str, pin: str | None) -> None:
    """https without a pin, and a pin without https, are refused before a connection."""
    with pytest.raises(PeerError, match="without"):
        assert not served(tmp_path, asking(pin, scheme), tls=False)


def test_nothing_in_clear(tmp_path: Path) -> None:
    """Whatever stands in the way, it sees neither what is asked nor what is sent, on a port with TLS or without."""
    pin = certificate(tmp_path / "node.pem", days(30))
    seen = bytearray()

    async def ask(port: int) -> None:
        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", port)

            async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    seen.extend(data)
                    target.write(data)
                target.close()

            await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

        between = await asyncio.start_server(relay, "127.0.0.1", 0)
        await asking(pin)(between.sockets[0].getsockname()[1])
        between.close()

    assert len(served(tmp_path, ask)) == 1
    assert SECRET not in seen and b"POST" not in seen and b"x" * 20 not in seen


@pytest.mark.parametrize("ours", ["client", "server"])
def test_no_older_tls(tmp_path: Path, ours: str) -> None:
    """TLS 1.2 is refused on both sides: nobody in between can talk the nodes down to it."""
    pin = certificate(tmp_path / "node.pem", days(30))

    async def old_server(_: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(tmp_path / "node.pem")
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        try:
            await asking(pin)(server.sockets[0].getsockname()[1])
        finally:
            server.close()

    async def old_client(port: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.maximum_version, context.check_hostname = ssl.TLSVersion.TLSv1_2, False
        context.verify_mode = ssl.CERT_NONE
        await asyncio.open_connection("127.0.0.1", port, ssl=context)

    if ours == "client":
        with pytest.raises(PeerError, match="TLS"):
            served(tmp_path, old_server)
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            served(tmp_path, old_client)


def test_silent_handshakes_are_bounded(tmp_path: Path) -> None:
    """Who connects and says nothing is counted like any other, is cut off in time, and keeps nobody out."""
    pin = certificate(tmp_path / "node.pem", days(30))
    silent: list[socket.socket] = []

    async def ask(port: int) -> None:
        for _ in range(20):
            silent.append(socket.create_connection(("127.0.0.1", port)))
            await asyncio.sleep(0.01)
        await asking(pin)(port)
        await asyncio.sleep(0.7)
        for one in silent:
            one.settimeout(2)
            assert one.recv(1) == b""
            one.close()

    limits = HttpLimits(body_bytes=1 << 20, connections=4, read_seconds=0.5)
    assert len(served(tmp_path, ask, limits=limits)) == 1


def test_key_that_others_may_read(tmp_path: Path) -> None:
    """A private key that is open to others, or is none, stops the start with one line."""
    certificate(tmp_path / "node.pem", days(30))
    (tmp_path / "node.pem").chmod(0o640)
    with pytest.raises(KeyFileError, match="others may use it"):
        server_context(tmp_path, Tls())
    (tmp_path / "node.pem").write_text("nothing")
    (tmp_path / "node.pem").chmod(0o600)
    with pytest.raises(KeyFileError, match="not a certificate"):
        server_context(tmp_path, Tls())
    with pytest.raises(KeyFileError, match="make it"):
        server_context(tmp_path, Tls(certificate="other.pem"))


def test_pin_in_a_file(tmp_path: Path) -> None:
    """`pin: file` sends nothing before the file is there, and takes each pin in it at once when it is."""
    peer = Peer(url="https://127.0.0.1:1", pin="file")
    with pytest.raises(PeerError, match="no certificate of axiom is pinned yet"):
        pinned("axiom", peer, tmp_path, 0.0)
    (tmp_path / "axiom.pin").write_text("sha256:aa\nsha256:bb\n")
    assert pinned("axiom", peer, tmp_path, 0.0) == Pinned(("sha256:aa", "sha256:bb"), 0.0)


def test_renewal(tmp_path: Path) -> None:
    """The next certificate lies beside the one that is shown until it is used; asking again changes nothing."""
    now = time.time()
    assert certificates.make(tmp_path, Tls(), "coz", now)
    assert not certificates.make(tmp_path, Tls(), "coz", now)
    (first,) = certificates.held(tmp_path, Tls())
    assert certificates.make(tmp_path, Tls(), "coz", now + 700 * 86_400)
    assert not certificates.make(tmp_path, Tls(), "coz", now, renew=True)
    shown, following = certificates.held(tmp_path, Tls())
    assert shown == first
    assert certificates.use(tmp_path, Tls(), following.pin)
    assert not certificates.use(tmp_path, Tls(), following.pin)
    assert certificates.held(tmp_path, Tls()) == [following]
    assert (tmp_path / "node.pem").stat().st_mode & 0o777 == 0o600
    server_context(tmp_path, Tls())


@given(st.datetimes(datetime.datetime(1952, 1, 1), datetime.datetime(2200, 1, 1)))
def test_end_is_read(tmp_path_factory: pytest.TempPathFactory, ends: datetime.datetime) -> None:
    """The end of a certificate is read as the library wrote it, before and after 2050."""
    ends = ends.replace(microsecond=0, tzinfo=datetime.UTC)
    path = tmp_path_factory.mktemp("pem") / "node.pem"
    certificate(path, ends)
    assert certificates.read(path).ends == ends.timestamp()


@given(st.binary(max_size=300))
def test_no_certificate(data: bytes) -> None:
    """Bytes that are no certificate are a ValueError and nothing else."""
    with pytest.raises(ValueError):
        not_after(data)
