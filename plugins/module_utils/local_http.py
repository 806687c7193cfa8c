"""One GET over TCP, TLS or a Unix socket, and XML-RPC over a Unix socket.

Keeps: standard library only; no proxies, no redirects, an answer is read up to a bound; over TLS any certificate will do,
as nothing is told and the answer is not believed any more than one without TLS. Leaves to others: what the answer means.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import xmlrpc.client
from urllib.parse import SplitResult, urlsplit

MOST_BYTES = 1 << 20


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Connect to the socket's path; raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._timeout_s)
        self.sock.connect(self._path)


class UnixTransport(xmlrpc.client.Transport):
    """Carries XML-RPC calls to a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__()
        self._path = path
        self._timeout_s = timeout_s

    def make_connection(self, host: object) -> UnixConnection:
        """Return a new connection: the far end closes after each answer."""
        return UnixConnection(self._path, self._timeout_s)


def _connection(parts: SplitResult, timeout_s: float) -> http.client.HTTPConnection:
    if parts.scheme != "https":
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout_s, context=context)


def get(url: str, timeout_s: float) -> tuple[int, bytes]:
    """GET `http(s)://host:port/path` or `unix:/socket:/path`. Return status and body; raises OSError."""
    connection: http.client.HTTPConnection
    if url.startswith("unix:"):
        path, _, target = url[len("unix:") :].partition(":")
        connection = UnixConnection(path, timeout_s)
    else:
        parts = urlsplit(url)
        connection = _connection(parts, timeout_s)
        target = parts.path
    try:
        connection.request("GET", target or "/")
        answer = connection.getresponse()
        return answer.status, answer.read(MOST_BYTES)
    except http.client.HTTPException as error:
        raise OSError(f"not an HTTP answer: {error!r}") from error
    finally:
        connection.close()
