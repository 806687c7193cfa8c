"""TLS between nodes: the exact certificate is pinned; no authority is asked, and no name in a certificate counts.

Rules kept here: TLS 1.3 and nothing older; nothing is sent before the certificate that the peer showed was looked at; a
connection counts against the server's limits from its first byte on, and has as long for its handshake as for a request.
``ssl`` is imported only where a node is configured to use it.

Left to others: who may speak (signatures, as without TLS), making certificates (store.certificates).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from outlast.core.certificate import fingerprint, not_after
from outlast.errors import KeyFileError, PeerError
from outlast.net.connection import remote
from outlast.settings import Peer, Tls

if TYPE_CHECKING:
    import ssl

    from outlast.net.connection import Connection
    from outlast.net.http import HttpLimits

__all__ = ["Handshake", "Pinned", "believe", "client_context", "pinned", "server_context", "why"]

_MEND = "run ansible-playbook site.yml: it brings the certificates' pins up to date"


@dataclass(frozen=True, slots=True)
class Pinned:
    """Which certificates a peer may show, by fingerprint, and what time it is, in Unix seconds."""

    pins: tuple[str, ...]
    now: float


def pinned(name: str, peer: Peer, folder: Path, now: float) -> Pinned | None:
    """What a peer may show; None for one that is reached without TLS. ``folder`` holds ``NAME.pin`` where it is in a file.

    Raises PeerError where that file is not there yet.
    """
    if peer.pin is None:
        return None
    found: list[str] = []
    for pin in [peer.pin] if isinstance(peer.pin, str) else peer.pin:
        if pin != "file":
            found.append(pin)
            continue
        try:
            # Read each time: what Ansible brings counts at once.
            found += (folder / f"{name}.pin").read_text(encoding="ascii", errors="replace").split()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise PeerError(f"the pin of {name} cannot be read: {error.strerror}; {_MEND}") from error
    if not found:
        raise PeerError(f"no certificate of {name} is pinned yet, so nothing is sent; {_MEND}")
    return Pinned(tuple(found), now)


@functools.cache
def client_context() -> ssl.SSLContext:
    """For calling a peer. That the certificate is the right one is asked by ``believe``, not by the library."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def believe(endpoint: str, shown: ssl.SSLObject, expected: Pinned) -> None:
    """Raises PeerError unless the certificate that was shown is pinned and has not ended."""
    certificate = shown.getpeercert(binary_form=True) or b""
    if fingerprint(certificate) not in expected.pins:
        raise PeerError(
            f"{endpoint} shows another certificate than the one that is pinned, so nothing was sent; {_MEND}"
        )
    if not_after(certificate) < expected.now:
        raise PeerError(f"{endpoint} shows a certificate that has expired, so nothing was sent; {_MEND}")


def why(error: OSError) -> str:
    """What a failed handshake means, in a few words; empty for an error that is not one of TLS."""
    import ssl

    if isinstance(error, ssl.SSLError):
        if error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
            return "what listens there does not speak TLS"
        if error.reason in {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"}:
            return "what listens there does not speak TLS 1.3"
        return f"TLS failed ({(error.reason or 'no reason is given').lower().replace('_', ' ')})"
    # Asyncio's own word for an end in the middle of a handshake; what the kernel says has a number.
    if isinstance(error, ConnectionError) and error.errno is None:
        return "what listens there hung up on the handshake, so it does not take TLS 1.3"
    return ""


def server_context(folder: Path, tls: Tls | None) -> ssl.SSLContext | None:
    """For listening, with the certificate and the key in ``folder``; None without TLS. Raises KeyFileError."""
    if tls is None:
        return None
    import ssl

    certificate, key = folder / tls.certificate, folder / tls.key
    for path in (certificate, key):
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise KeyFileError(
                str(path), f"it cannot be read ({error.strerror})", "make it: outlast keys tls"
            ) from error
        if path == key and mode & 0o077:
            raise KeyFileError(str(path), f"others may use it (mode {mode & 0o777:04o})", f"chmod 600 {path}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Connections are made anew for each request, by peers that ask for the certificate each time.
    context.num_tickets = 0
    try:
        # A key that wants a password would ask whoever starts the node.
        context.load_cert_chain(certificate, key, password="")  # noqa: S106
    except (OSError, ValueError):
        mend = "move both away, then: outlast keys tls"
        raise KeyFileError(str(certificate), f"it and {key.name} are not a certificate and its key", mend) from None
    return context


class Server(Protocol):
    """What a handshake needs of the server."""

    limits: HttpLimits

    def admit(self, connection: Handshake) -> bool: ...
    def forget(self, connection: Handshake) -> None: ...
    def set_idle(self, connection: Handshake, idle: bool) -> None: ...


class Handshake(asyncio.Protocol):
    """The asyncio protocol of an accepted socket until its handshake is over; then ``make()`` is told the rest."""

    def __init__(self, server: Server, context: ssl.SSLContext, make: Callable[[], Connection]) -> None:
        self._server = server
        self._context = context
        self._make = make
        self._early = b""
        self._ended = False
        self._task: asyncio.Task[None] | None = None

    def abort(self, *, cancel: bool = False) -> None:
        """Cut it off."""
        self._transport.abort()
        if self._task is not None:
            self._task.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._task is not None:
            return
        self._transport = cast(asyncio.Transport, transport)
        self.remote = remote(self._transport)
        # Not a byte is taken that the handshake does not see.
        self._transport.pause_reading()
        if not self._server.admit(self):
            self._transport.abort()
            return
        # Nothing is lost if it is cut.
        self._server.set_idle(self, True)
        self._task = asyncio.get_running_loop().create_task(self._shake())

    def data_received(self, data: bytes) -> None:
        """What comes with the end of the handshake, before we know that it is over."""
        self._early += data

    def eof_received(self) -> None:
        self._ended = True

    async def _shake(self) -> None:
        limits = self._server.limits
        try:
            secured = await asyncio.get_running_loop().start_tls(
                self._transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=limits.read_seconds,
                ssl_shutdown_timeout=limits.linger_seconds,
            )
        except OSError:
            # What a stranger sends that is no handshake is worth no word.
            secured = None
        finally:
            self._server.forget(self)
        if secured is None or secured.is_closing():
            self._transport.abort()
            return
        connection = self._make()
        secured.set_protocol(connection)
        connection.connection_made(secured)
        if self._early:
            connection.data_received(self._early)
        if self._ended:
            connection.eof_received()
