"""One call to the gateway over its own protocol: what its command line does in seconds and 220 MB, in milliseconds.

Rules kept here: a call has a connection of its own and ends within its time; it asks for the rights that it names, and no
more; the token is read for each call and is in no message to a person; every failure is a GatewayError that says which kind it
is, so that nobody need read words to decide.

Left to others: which calls tell the truth (openclaw.alive), and what a failure means (core.gateway).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from outlast.core.record import one_line
from outlast.errors import GatewayError
from outlast.openclaw import tokens
from outlast.openclaw.place import Place

if TYPE_CHECKING:
    from websockets.client import ClientProtocol

__all__ = ["ADMIN", "READ", "call"]

READ, ADMIN = ("operator.read",), ("operator.read", "operator.admin")
_PROTOCOL = 4
_CHUNK, _MOST = 64 << 10, 32 << 20
_FIELD = "openclaw"
_MEND = "see why: outlast openclaw status"


async def call(
    place: Place,
    method: str,
    params: dict[str, Any] | None = None,
    *,
    scopes: Sequence[str] = READ,
    timeout: float = 10.0,
    token: str | None = None,
) -> Any:
    """Call ``method`` and return its payload. ``timeout``: seconds for all of it; ``token``: instead of the one in its file.

    Raises GatewayError; KeyFileError where the token cannot be read.
    """
    given = [token] if token is not None else tokens.current(place, "gateway")
    try:
        async with asyncio.timeout(timeout):
            for one in given:
                try:
                    return await _converse(place, method, params or {}, list(scopes), one)
                except GatewayError as error:
                    if error.kind != "refused":
                        raise
                    refusal = error
            raise refusal
    except TimeoutError:
        raise GatewayError("late", _FIELD, f"{method} was not answered within {timeout:g} s", _MEND) from None


async def _converse(place: Place, method: str, params: dict[str, Any], scopes: list[str], token: str) -> Any:
    port = place.settings.port
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        wrong = f"nobody listens on 127.0.0.1:{port} ({os.strerror(error.errno or 0)})"
        raise GatewayError("away", _FIELD, wrong, _MEND) from None
    from websockets.exceptions import WebSocketException

    try:
        line = _Line(port, reader, writer)
        await line.open()
        await line.until(lambda frame: frame.get("event") == "connect.challenge")
        await line.request("connect", _greeting(scopes, token))
        return await line.request(method, params)
    except OSError as error:
        raise _closed(error.strerror or str(error)) from None
    except WebSocketException as error:
        # It hung up in the same breath as it let us in.
        raise _closed(str(error)) from None
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _greeting(scopes: list[str], token: str) -> dict[str, Any]:
    client = {"id": "gateway-client", "version": "1.0.0", "platform": "linux", "mode": "backend"}
    return {
        "minProtocol": _PROTOCOL,
        "maxProtocol": _PROTOCOL,
        "role": "operator",
        "scopes": scopes,
        "client": client,
        "caps": [],
        "auth": {"token": token},
    }


class _Line:
    """A WebSocket to the gateway: the library has the protocol, and asyncio the socket, without TLS."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Only who calls needs them: they take some megabytes.
        from websockets.client import ClientProtocol
        from websockets.uri import parse_uri

        self._protocol: ClientProtocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/"), max_size=_MOST)
        self._reader = reader
        self._writer = writer
        self._parts = b""
        self._frames: list[dict[str, Any]] = []

    async def open(self) -> None:
        """Raises GatewayError, OSError."""
        self._protocol.send_request(self._protocol.connect())
        while self._protocol.state.name == "CONNECTING":
            await self._turn()

    async def request(self, method: str, params: dict[str, Any]) -> Any:
        """Ask, and wait for the answer to this very question. Raises GatewayError, OSError."""
        name = secrets.token_hex(16)
        asked = {"type": "req", "id": name, "method": method, "params": params}
        self._protocol.send_text(msgspec.json.encode(asked))
        answer = await self.until(lambda frame: frame.get("type") == "res" and frame.get("id") == name)
        if answer.get("ok") is True:
            return answer.get("payload")
        raise _refusal(method, answer.get("error"))

    async def until(self, is_meant: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next frame that is meant; events may come in between. Raises GatewayError, OSError."""
        while True:
            while self._frames:
                if is_meant(frame := self._frames.pop(0)):
                    return frame
            await self._turn()

    async def _turn(self) -> None:
        """Send what is to be sent, and take what comes."""
        self._send()
        data = await self._reader.read(_CHUNK)
        self._protocol.receive_data(data) if data else self._protocol.receive_eof()
        for event in self._protocol.events_received():
            self._take(event)
        self._send()
        if self._protocol.handshake_exc is not None:
            raise _closed(str(self._protocol.handshake_exc))
        if not self._frames and (not data or self._protocol.close_expected()):
            raise _closed(self._protocol.close_reason or "")

    def _send(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)

    def _take(self, event: Any) -> None:
        """Of all that comes only whole texts matter here."""
        from websockets.frames import Frame, Opcode

        if not isinstance(event, Frame) or event.opcode not in (Opcode.TEXT, Opcode.CONT):
            return
        self._parts += event.data
        if event.fin:
            whole, self._parts = self._parts, b""
            try:
                frame = msgspec.json.decode(whole)
            except (ValueError, RecursionError):
                frame = None
            if not isinstance(frame, dict):
                raise GatewayError("failed", _FIELD, "it does not speak its own protocol", _MEND)
            self._frames.append(frame)


def _closed(why: str) -> GatewayError:
    """It hung up: as one does that starts, or ends."""
    said = f" ({one_line(why, 200)})" if why else ""
    return GatewayError("starting", _FIELD, f"the gateway closed the connection{said}", "ask again in a moment")


def _refusal(method: str, error: object) -> GatewayError:
    """What an answer's error means."""
    found: dict[str, Any] = error if isinstance(error, dict) else {}
    details = found.get("details")
    details = details if isinstance(details, dict) else {}
    code, message = str(found.get("code") or "UNKNOWN"), one_line(str(found.get("message") or "no reason given"), 300)
    # Where its state is broken it says UNAVAILABLE as well, but for another reason, and to those that it let in.
    if code == "UNAVAILABLE" and (method == "connect" or str(details.get("reason", "")).startswith("startup")):
        reason = one_line(str(details.get("reason") or message), 100)
        return GatewayError("starting", _FIELD, f"it is not ready ({reason})", "ask again in a moment", code)
    if method == "connect" and str(details.get("code", "")).startswith("AUTH_"):
        mend = "give it the token of etc/openclaw/tokens.json: outlast openclaw restart"
        return GatewayError("refused", _FIELD, "the gateway does not take our token", mend, str(details["code"]))
    return GatewayError("failed", _FIELD, f"{method}: {message} ({code})", _MEND, code)
