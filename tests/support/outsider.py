"""A service of somebody else's, for tests: Python's own http.server, which answers as it is told, over TLS too.

Rules kept here: it listens on loopback, on a free port, and is closed when its block is left.
"""

from __future__ import annotations

import contextlib
import datetime
import http.server
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Outsider", "certified", "outsider"]


@dataclass
class Outsider:
    """What it answers: ``status`` and ``headers``, until they are set otherwise; ``asked`` has each method and target."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    head: int | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def outsider(certificate: Path | None = None) -> Iterator[Outsider]:
    """Serve until the block is left; with ``certificate`` (key and certificate in PEM) over TLS."""
    told = Outsider()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(told.status)

        def do_HEAD(self) -> None:
            self._answer(told.head or told.status)

        def _answer(self, status: int) -> None:
            told.asked.append((self.command, self.path))
            self.send_response(status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    told.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def certified(path: Path, address: str = "127.0.0.1") -> Path:
    """Write a certificate of its own authority for an address, with its key; return its path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an outsider")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    path.chmod(0o600)
    return path
