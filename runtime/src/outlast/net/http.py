"""HTTP/1.1 messages: what one is, how it is written, and how one is read under strict bounds. No sockets here.

Rules kept here: bytes are only ever kept up to the limits; a message that two readers could understand in two ways
(repeated header, length given twice, folded or non-ASCII header, trailers) is refused; everything that is not body
counts as header bytes, chunk framing included, so that no part of a message is unbounded; nothing that we write can be
split by a line break in a header. The grammar itself is llhttp's, in its strict mode.

Left to others: sockets, time and order (net/server.py, net/client.py), routing, and what a message means.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import httptools

from outlast.errors import HttpError

__all__ = ["HttpLimits", "Request", "RequestReader", "Response", "ResponseReader", "render_request", "render_response"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_TARGET = re.compile(r"/[\x21-\x7e]*")
_DIGITS = re.compile(r"[0-9]{1,18}")
# These say where a message ends: only this module sets them.
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding"})
# The parser also knows other protocols' verbs.
_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
_BODILESS = frozenset({204, 304})
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What a server spends on strangers. Sizes in bytes, times in seconds.

    ``body_bytes``      one request's body
    ``header_bytes``    everything else of one request: request line, headers, chunk framing
    ``header_count``    headers of one request
    ``read_seconds``    from a request's first byte to its last
    ``connections``     at once; idle ones are dropped first to make room, then who has been sending longest
    ``idle_seconds``    a connection that asks nothing
    ``write_seconds``   the peer takes one answer
    ``linger_seconds``  after a last answer, wait so long for the peer to hang up, so that it can read that answer
    """

    body_bytes: int
    header_bytes: int = 16384
    header_count: int = 64
    read_seconds: float = 10
    connections: int = 64
    idle_seconds: float = 30
    write_seconds: float = 10
    linger_seconds: float = 2


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request. ``path`` is the target as sent (query included, not decoded); header names are lower-case.

    ``remote`` is the peer's address without its port, or ``unix``.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    remote: str


@dataclass(frozen=True, slots=True)
class Response:
    """One whole response. As read by the client, header names are lower-case."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def render_response(response: Response, *, keep_alive: bool, head: bool = False) -> bytes:
    """Write a response; ``head`` leaves the body out but tells its length. Raises HttpError if it cannot be sent."""
    if not 200 <= response.status <= 599:
        raise HttpError(f"{response.status} is not a final status")
    lines = [f"HTTP/1.1 {response.status} {_PHRASES.get(response.status, 'Unknown')}", *_lines(response.headers)]
    body = response.body
    if response.status in _BODILESS:
        if body:
            raise HttpError(f"a {response.status} has no body")
    else:
        lines.append(f"content-length: {len(body)}")
    lines.append("connection: keep-alive" if keep_alive else "connection: close")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (b"" if head else body)


def render_request(method: str, host: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Write a request that is the only one on its connection. Raises HttpError if it cannot be sent."""
    if _TOKEN.fullmatch(method) is None or _TARGET.fullmatch(path) is None:
        raise HttpError("a request needs a method and a path that starts with / and is plain ASCII")
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *_lines(headers)]
    if body or method not in ("GET", "HEAD"):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "connection: close", "", ""]).encode("ascii") + body


def _lines(headers: Mapping[str, str]) -> list[str]:
    for name, value in headers.items():
        if not _sound(name, value) or name.lower() in _FRAMING:
            raise HttpError(f"header {name!r} cannot be sent: not plain ASCII, or not ours to set")
    return [f"{name}: {value}" for name, value in headers.items()]


def _sound(name: str, value: str) -> bool:
    """Is this a header as RFC 9110 has it, in plain ASCII? Most are seen by their characters alone, without a search."""
    named = name.replace("-", "").isalnum() and name.isascii()
    plain = value.isascii() and value.isprintable()
    return (named or _TOKEN.fullmatch(name) is not None) and (plain or _VALUE.fullmatch(value) is not None)


class _MessageReader:
    """What reading requests and responses have in common: collecting one message's parts under bounds."""

    def __init__(self, body_bytes: int, header_bytes: int, header_count: int) -> None:
        self._body_bytes = body_bytes
        self._header_bytes = header_bytes
        self._header_count = header_count
        self._framing = 0
        self.begun = False
        self._clear()

    def _clear(self) -> None:
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._head = 0
        self._count = 0
        self._head_done = False

    def _one_too_many(self, name: bytes, value: bytes) -> bool:
        """Count one more header; true if that is over a limit."""
        self._count += 1
        self._head += len(name) + len(value) + 4
        return self._head > self._header_bytes or self._count > self._header_count

    # What follows is called by the parser.

    def on_message_begin(self) -> None:
        self._clear()
        self.begun = True

    def on_body(self, data: bytes) -> None:
        self._framing -= len(data)
        self._body += data


class RequestReader(_MessageReader):
    """Reads requests from a stream of bytes.

    Complete ones wait in ``arrived``, each with whether its connection goes on. ``refused`` is the status of the
    refusal that ends the stream, after what has arrived before it. ``begun`` is true while part of a request is here,
    ``expects`` while its sender waits for "100 Continue".
    """

    def __init__(self, limits: HttpLimits, remote: str) -> None:
        super().__init__(limits.body_bytes, limits.header_bytes, limits.header_count)
        self._remote = remote
        self._url = b""
        self.arrived: deque[tuple[Request, bool]] = deque()
        self.refused: int | None = None
        self.expects = False
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes | memoryview) -> None:
        """Read on; never raises because of what the bytes are. Not to be called once ``refused`` is set."""
        self._framing += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.refused = self.refused or 400
        if self._framing > self._header_bytes:
            # The parser holds an unfinished header to itself: what has gone in is counted as well.
            self.refused = self.refused or 431

    def release(self) -> None:
        """Undo the reference cycle with the parser. Nothing can be read afterwards."""
        del self._parser

    def _refuse(self, status: int) -> Exception:
        self.refused = status
        return HttpError(f"refused with {status}")

    # What follows is called by the parser; to raise ends its work.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._url = b""

    def on_url(self, data: bytes) -> None:
        self._head += len(data)
        if self._head > self._header_bytes:
            raise self._refuse(431)
        self._url += data

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            raise self._refuse(400)  # a trailer: nobody signs or reads them
        if self._one_too_many(name, value):
            raise self._refuse(431)
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        if key in self._headers or not _sound(key, text):
            raise self._refuse(400)
        self._headers[key] = text

    def on_headers_complete(self) -> None:
        self._head_done = True
        status = self._judge_head()
        if status is not None:
            raise self._refuse(status)

    def _judge_head(self) -> int | None:
        headers = self._headers
        version = self._parser.get_http_version()
        length, coding = headers.get("content-length"), headers.get("transfer-encoding")
        if version not in ("1.0", "1.1"):
            return 505
        if self._parser.should_upgrade() or self._parser.get_method() not in _METHODS:
            return 501
        if _TARGET.fullmatch(self._url.decode("latin-1")) is None or (version == "1.1" and "host" not in headers):
            return 400
        if length is not None and (coding is not None or _DIGITS.fullmatch(length) is None):
            return 400  # two ways to tell where the body ends are how requests are smuggled
        if coding is not None and (coding.lower() != "chunked" or version == "1.0"):
            return 400
        if length is not None and int(length) > self._body_bytes:
            return 413
        if "expect" in headers and version == "1.1":
            if headers["expect"].lower() != "100-continue":
                return 417
            self.expects = coding is not None or int(length or 0) > 0
        return None

    def on_body(self, data: bytes) -> None:
        super().on_body(data)
        if len(self._body) > self._body_bytes:
            raise self._refuse(413)

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode("ascii")
        request = Request(method, self._url.decode("ascii"), self._headers, bytes(self._body), self._remote)
        self.arrived.append((request, self._parser.should_keep_alive()))
        self.begun = self.expects = False
        self._framing = 0
        self._clear()


class ResponseReader(_MessageReader):
    """Reads the one response to a request; it is in ``response`` once it is complete.

    Repeated headers are joined with a comma, as HTTP allows. ``head`` says that the request was a HEAD; ``until_close``: an
    answer that says nothing of its length is taken; it ends with its connection (RFC 9112, section 6.3): see ``end``.
    """

    def __init__(
        self, body_bytes: int, header_bytes: int, header_count: int, *, head: bool, until_close: bool = False
    ) -> None:
        super().__init__(body_bytes, header_bytes, header_count)
        self._expects_no_body = head
        self._until_close = until_close
        self._endless = False
        self._failure: str | None = None
        self.response: Response | None = None
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Read on. Raises HttpError if this is not HTTP, too large, or has no certain end."""
        self._framing += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self.response is None:
                raise HttpError(self._failure or "the answer is not HTTP/1.1") from None
        if self.response is None and self._framing > self._header_bytes:
            raise HttpError(f"the answer's headers are larger than {self._header_bytes} bytes")

    def end(self) -> None:
        """The sender closed the connection in order: that may have been the end of its answer."""
        if self.response is None and self._endless:
            self.response = Response(self._parser.get_status_code(), bytes(self._body), self._headers)

    def release(self) -> None:
        """Undo the reference cycle with the parser. Nothing can be read afterwards."""
        del self._parser

    def _fail(self, why: str) -> Exception:
        self._failure = why
        return HttpError(why)

    # What follows is called by the parser; to raise ends its work.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._one_too_many(name, value):
            raise self._fail(f"the answer's headers are larger than {self._header_bytes} bytes or too many")
        if self._head_done:
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        self._head_done = True
        status = self._parser.get_status_code()
        if self._parser.should_upgrade() or status == 101:
            raise self._fail("the answer changes the protocol")
        if status < 200:
            return
        if self._expects_no_body or status in _BODILESS:
            self.response = Response(status, b"", self._headers)
            return
        length, chunked = self._headers.get("content-length"), "transfer-encoding" in self._headers
        self._endless = length is None and not chunked
        if self._endless and not self._until_close:
            raise self._fail("the answer does not say how long it is")
        if length is not None and _DIGITS.fullmatch(length) and int(length) > self._body_bytes:
            raise self._fail(f"the answer is larger than {self._body_bytes} bytes")

    def on_body(self, data: bytes) -> None:
        super().on_body(data)
        if len(self._body) > self._body_bytes:
            raise self._fail(f"the answer is larger than {self._body_bytes} bytes")

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if self.response is None and status >= 200:
            self.response = Response(status, bytes(self._body), self._headers)
        self.begun = False
