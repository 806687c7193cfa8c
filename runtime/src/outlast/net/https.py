"""One request to a service of somebody else's over https, for its status and its headers.

Rules kept here: its certificate is verified against the authorities that this machine believes, and for its name; no redirect
is followed and no proxy asked; it ends within its time, and what still waits then (a resolver, a handshake) holds up nobody,
not even a stop.

Left to others: what the answer says (core.external). Imported only where an https URL is declared: ssl alone is megabytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping

from outlast.errors import PeerError
from outlast.net.http import Response

__all__ = ["ask"]


async def ask(host: str, port: int, method: str, target: str, headers: Mapping[str, str], total_s: float) -> Response:
    """Ask ``https://host:port`` and return status and headers (lower-case) of its answer. Raises PeerError.

    ``total_s`` limits all of it, in seconds.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Response] = loop.create_future()
    connection = http.client.HTTPSConnection(host.strip("[]"), port, timeout=total_s, context=_context())

    def tell(response: Response | None, error: PeerError | None) -> None:
        if answer.done():
            return
        if response is not None:
            answer.set_result(response)
        elif error is not None:
            answer.set_exception(error)

    def work() -> None:
        response, error = None, None
        try:
            connection.request(method, target, headers=dict(headers))
            got = connection.getresponse()
            response = Response(got.status, headers={name.lower(): value for name, value in got.getheaders()})
        except (OSError, http.client.HTTPException, UnicodeError, ValueError, AttributeError) as wrong:
            error = PeerError(f"https://{host}:{port} {_why(wrong)}")
        finally:
            connection.close()
            # The loop may be over by now.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, response, error)

    # Not one of asyncio's own threads: a stop would wait for those.
    threading.Thread(target=work, name="outlast-https", daemon=True).start()
    try:
        async with asyncio.timeout(total_s):
            return await answer
    except TimeoutError:
        raise PeerError(f"https://{host}:{port} did not answer within {total_s:g} s") from None
    finally:
        if (wire := connection.sock) is not None:
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:
        # Python from python.org on a Mac knows no authorities.
        with contextlib.suppress(ImportError, OSError):
            import certifi

            context.load_verify_locations(certifi.where())
    return context


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"shows a certificate that is not believed: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"does not speak TLS as it should: {error.reason or 'the handshake failed'}"
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    if isinstance(error, socket.gaierror):
        return "cannot be reached: its name does not resolve"
    if isinstance(error, OSError):
        return f"cannot be reached: {error.strerror or 'the connection was closed'}"
    return "gave an answer that is no HTTP"
