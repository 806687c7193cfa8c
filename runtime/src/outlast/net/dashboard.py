"""The dashboard's listener: one page about the node and its peers, for people, and /metrics for programs.

Rules kept here: nothing can be changed through it, and no path of a request ever becomes a path on the disk; who may look is
judged before anything is read (core.onlooker); beyond loopback it speaks TLS where the node does. A port that cannot be had
keeps the page away, never the node. While nobody looks nothing is read, and no peer is asked.

Left to others: what is shown (work.showing), how peers are asked (net.neighbours), how it looks (page/).
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from outlast.control import Order
from outlast.core.onlooker import cookie_name, is_loopback, judge, port_of, speaks_tls, url_of
from outlast.core.plainjson import to_json
from outlast.errors import OutlastError
from outlast.net.http import HttpLimits, Request, Response
from outlast.net.neighbours import Neighbours
from outlast.net.server import HttpServer
from outlast.store import pagetoken

if TYPE_CHECKING:
    from outlast.net.neighbours import Carries
    from outlast.upkeep import Around
    from outlast.work.showing import Showing

__all__ = ["Dashboard"]

_LIMITS = HttpLimits(body_bytes=0, header_bytes=8192, connections=32)
_AGAIN_S = 60.0
_LOOK_S, _WAIT_S = 1.0, 25.0
# Who waits for news is cut off: a page must not hold up a stop.
_GRACE_S = 0.2
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_REFUSALS = {
    "method": (405, "Nothing can be changed here.\n"),
    "host": (421, "This page is served to this machine alone, as localhost.\n"),
    "token": (401, "The token is not right. On the node: outlast dashboard --with-token\n"),
    "no token": (401, "This page asks for a token. On the node: outlast dashboard --with-token\n"),
}
# By a page of ours, not by a redirect: a cookie that is SameSite=Strict is not sent along with one that came from elsewhere.
_ENTER = b'<!doctype html><html lang="en"><title>Outlast</title><meta http-equiv="refresh" content="0;url=/">'


class Dashboard:
    """The dashboard of one node."""

    def __init__(self, around: Around, courier: Carries) -> None:
        """Nothing is listened on before ``run``."""
        self._around = around
        self._config = around.config
        self._home = around.home
        self._neighbours = Neighbours(around.config.node, around.config.peers, courier, around.clock)
        self._showing: Showing | None = None
        self._server = HttpServer(self._answer, _LIMITS, on_error=self._broke)
        self._token = ""
        self._files: dict[str, bytes] = {}
        self._state = "starting" if self._config.dashboard.enabled else "off"
        # What was shown last, the mark that it is known by, and when it was read, in monotonic seconds.
        self._shown: tuple[str, dict[str, Any], float] | None = None
        self._looking = asyncio.Lock()

    async def run(self) -> None:
        """Serve for ever, until cancelled."""
        try:
            while self._config.dashboard.enabled and not await self._listens():
                await asyncio.sleep(_AGAIN_S)
            await asyncio.Event().wait()
        finally:
            self._neighbours.close()
            if self._showing:
                self._showing.close()
            await self._server.close(_GRACE_S)
            # One that was closed serves no more; should this run again, another does.
            self._server = HttpServer(self._answer, _LIMITS, on_error=self._broke)

    def orders(self) -> dict[str, Order]:
        """How the peers are, by their own word."""
        return {"peers": self._peers}

    def report(self) -> dict[str, Any]:
        """Where it is, and why it is not there."""
        url, port = url_of(self._config, socket.gethostname()), port_of(self._config)
        return {"state": self._state, "url": url, "host": self._config.dashboard.host, "port": port}

    async def _peers(self, _: bytes) -> object:
        self._neighbours.look()
        await self._neighbours.settle()
        return {"peers": {peer: told.plain() for peer, told in self._neighbours.told.items()}}

    async def _listens(self) -> bool:
        """Begin to listen; false, and said why, where that cannot be."""
        host, port = self._config.dashboard.host, port_of(self._config)
        try:
            tls = None
            if not is_loopback(host):
                self._token = pagetoken.made(self._home.dashboard_token)
                if speaks_tls(self._config):
                    from outlast.net.tls import server_context

                    tls = server_context(self._home.tls, self._config.listen.tls)
            await self._server.start_tcp(host, port, tls)
        except OutlastError as error:
            if self._state != str(error):
                self._around.events.emit("dashboard.failed", error=str(error))
            self._state = str(error)
            return False
        self._state = "up"
        return True

    def _answer(self, request: Request) -> Response | Awaitable[Response]:
        path, _, rest = request.path.partition("?")
        query = dict(parse_qsl(rest, max_num_fields=8)) if len(rest) < 1024 else {}
        verdict = judge(
            request.method,
            request.headers,
            query.get("token", "") if path == "/" else "",
            listens=self._config.dashboard.host,
            node=self._config.node,
            token=self._token,
        )
        if verdict == "enter":
            return self._enter()
        if verdict != "welcome":
            return self._refuse(verdict, request.remote)
        if path in _FILES:
            return _made(200, self._file(_FILES[path][0]), _FILES[path][1])
        if path == "/status.json":
            return self._whole()
        if path == "/events":
            return self._news(query.get("seen", ""), query.get("wait", ""))
        if path == "/metrics":
            return self._metrics()
        return _made(404, b"Not found.\n")

    def _enter(self) -> Response:
        """The token was right: from now on a cookie brings it, and it goes out of the address."""
        kind = f"{cookie_name(self._config.node)}={self._token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000"
        secure = "; Secure" if speaks_tls(self._config) else ""
        made = _made(200, _ENTER, "text/html; charset=utf-8")
        return Response(made.status, made.body, {**made.headers, "set-cookie": f"{kind}{secure}"})

    def _refuse(self, verdict: str, remote: str) -> Response:
        status, text = _REFUSALS[verdict]
        if verdict == "token":
            self._around.events.burst("dashboard.refused", "wrong token", remote=remote)
        more = {405: {"allow": "GET, HEAD"}, 401: {"www-authenticate": "Bearer"}}.get(status, {})
        made = _made(status, text.encode())
        return Response(status, made.body, {**made.headers, **more})

    def _file(self, name: str) -> bytes:
        """A file of the page; read when it is first asked for, and kept."""
        if name not in self._files:
            from importlib import resources

            self._files[name] = (resources.files("outlast") / "page" / name).read_bytes()
        return self._files[name]

    async def _whole(self) -> Response:
        try:
            return _json(200, self._dated(*await self._look()))
        except OutlastError as error:
            return _json(503, {"error": str(error)})

    async def _news(self, seen: str, wait: str) -> Response:
        """What is shown, as soon as it is something else than what was ``seen``; or that it is not, after ``wait`` seconds."""
        loop = asyncio.get_running_loop()
        seconds = min(float(wait), _WAIT_S) if wait.isascii() and wait.isdigit() and len(wait) < 4 else 0.0
        deadline = loop.time() + seconds
        while True:
            try:
                mark, shown = await self._look()
            except OutlastError as error:
                return _json(503, {"error": str(error)})
            left = deadline - loop.time()
            if mark != seen:
                return _json(200, self._dated(mark, shown))
            if left <= 0:
                return _json(200, self._dated(mark, {}))
            await asyncio.sleep(min(_LOOK_S, left))

    async def _look(self) -> tuple[str, dict[str, Any]]:
        """What is shown now, and its mark; read at most once in ``_LOOK_S``, however many look. Raises DurabilityError."""
        async with self._looking:
            now = self._around.clock.monotonic()
            if self._shown is None or now - self._shown[2] >= _LOOK_S:
                if self._showing is None:
                    from outlast.work.showing import Showing

                    self._showing = Showing(self._around, self._neighbours)
                self._neighbours.look()
                document = await self._showing.document()
                self._shown = (hashlib.blake2s(to_json(document), digest_size=12).hexdigest(), document, now)
            return self._shown[0], self._shown[1]

    def _dated(self, mark: str, document: dict[str, Any]) -> dict[str, Any]:
        """With the moments that change while nothing else does: now, and when each peer last told."""
        from outlast.clock import iso

        asked = {peer: iso(told.at) if told.at else "" for peer, told in self._neighbours.told.items()}
        return {"mark": mark, "now": iso(self._around.clock.time()), "asked": asked, **document}

    def _metrics(self) -> Response:
        from outlast.core.exposition import CONTENT_TYPE, metrics_text

        try:
            return _made(200, metrics_text(self._around.status()), CONTENT_TYPE)
        except OutlastError as error:
            return _made(503, f"{error}\n".encode())

    def _broke(self, error: BaseException) -> None:
        self._around.events.burst("server.error", type(error).__name__, error=str(error))


def _made(status: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> Response:
    return Response(status, body, {"content-type": kind, **_HEADERS})


def _json(status: int, value: object) -> Response:
    return _made(status, to_json(value), "application/json")
