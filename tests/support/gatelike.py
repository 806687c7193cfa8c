"""Something like OpenClaw's gateway: its hooks and its protocol on one port of loopback, and a memory that a restart empties.

It is for what the real one cannot be made to do in a moment: to refuse in a certain way, to lose a session, to die between two
words. What it says was seen of the real one (tests/support/openclaw.py), which the slow tests ask.

Rules kept here: it listens on loopback, on one port for as long as it lives, and whoever starts it ends it; it takes the tokens
that lie in the node's home, and no others.
"""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from outlast.home import Home
from outlast.openclaw import tokens
from outlast.openclaw.place import Place
from outlast.openclaw.settings import OpenClaw

from .live import free_port

__all__ = ["Gatelike"]


class Gatelike:
    """The gateway, as it were. ``posted``: path, headers and body of every message that was taken, or refused.

    ``sessions`` outlive a restart; ``refuse``: status, body and headers of the next answers to messages. ``ends_as``: the status
    of a turn as soon as it is taken. ``said``: the agent's words. ``called``: the calls of its protocol. ``delay``: seconds until
    a message that came has a session and an answer. ``hangs_up``: how often it closes a connection as it lets it in, once it
    has a session.
    """

    def __init__(self, root: Path, agent: str = "axiom", **settings: Any) -> None:
        self.home = Home(root)
        self.place = Place(self.home, OpenClaw(release=str(root / "rel"), port=free_port(), agent=agent, **settings))
        self.posted: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.refuse: list[tuple[int, Any, dict[str, str]]] = []
        self.sessions: dict[str, dict[str, Any]] = {}
        self.ends_as, self.said = "done", "all is well"
        self.called: list[tuple[str, dict[str, Any]]] = []
        self.broken = ""
        self.delay, self.hangs_up = 0.0, 0
        self._keys: dict[str, str] = {}
        self._starts, self._began = 0, 0.0
        self._server: socketserver.ThreadingTCPServer | None = None
        tokens.ensure(self.place)

    def up(self) -> None:
        """Be there, as a process that was started half a minute after the one before it."""
        self._starts += 1
        self._keys, self._began = {}, time.monotonic() - 600.0 + 30.0 * self._starts
        gate = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    gate._converse(self.request)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", self.place.settings.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Be gone: connections are refused."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _converse(self, sock: Any) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := sock.recv(65536)):
                return
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "upgrade" in headers:
            self._talk(sock, data)
            return
        while len(body) < int(headers.get("content-length", 0)):
            body += sock.recv(65536)
        status, answer, more_headers = self._http(first.split()[1], headers, body)
        text = json.dumps(answer).encode() if not isinstance(answer, bytes) else answer
        fields = {"content-length": str(len(text)), "connection": "close", **more_headers}
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        sock.sendall("\r\n".join(lines).encode() + text)

    def _http(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        if path == "/startupz":
            uptime = int((time.monotonic() - self._began) * 1000)
            return 200, {"ok": True, "status": "started", "uptimeMs": uptime}, {}
        message = json.loads(body)
        self.posted.append((path, headers, message))
        if self.refuse:
            return self.refuse.pop(0)
        time.sleep(self.delay)
        if headers.get("authorization") != f"Bearer {tokens.hooks(self.place)}":
            return 401, b"Unauthorized", {}
        if path == "/hooks/wake":
            return 200, {"ok": True, "mode": "now", "eventOutcome": "queued"}, {}
        if path != f"/hooks/outlast/{self.place.settings.agent}":
            return 404, b"Not Found", {}
        key = f"{headers['idempotency-key']} {body!r}"
        if key not in self._keys:
            self._keys[key] = f"run-{len(self.posted)}"
            name = f"agent:{self.place.settings.agent}:hook:outlast:{message['session']}"
            self.sessions[name] = {"sessionId": "s-1", "status": self.ends_as, "startedAt": time.time() * 1000}
        return 200, {"ok": True, "runId": self._keys[key]}, {}

    def _talk(self, sock: Any, data: bytes) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Request):
                protocol.send_response(protocol.accept(event))
        protocol.send_text(json.dumps({"type": "event", "event": "connect.challenge", "payload": {}}).encode())
        if self.hangs_up and self.sessions:
            self.hangs_up -= 1
            protocol.send_close(1012, "service restart")
        for frame in _frames(sock, protocol):
            answer: dict[str, Any] = {"type": "res", "id": frame["id"], "ok": True}
            if frame["method"] == "connect":
                if frame["params"]["auth"]["token"] != tokens.gateway(self.place):
                    answer |= {
                        "ok": False,
                        "error": {"code": "INVALID_REQUEST", "details": {"code": "AUTH_TOKEN_MISMATCH"}},
                    }
            elif self.broken:
                answer |= {"ok": False, "error": {"code": "UNAVAILABLE", "message": self.broken}}
            else:
                answer["payload"] = self._call(frame["method"], frame["params"])
            protocol.send_text(json.dumps(answer).encode())

    def _call(self, method: str, params: dict[str, Any]) -> Any:
        self.called.append((method, params))
        session = self.sessions.get(params.get("key", ""))
        if method == "sessions.describe":
            return {"session": session}
        if method == "sessions.patch" and session is not None:
            session["archived"] = params["archived"]
            return {"ok": True}
        said = {"role": "assistant", "content": [{"type": "text", "text": self.said}], "__openclaw": {"id": "m-1"}}
        return {"messages": [said] if self.said else []} if method == "chat.history" else {"message": said}

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()


def _frames(sock: Any, protocol: ServerProtocol) -> Iterator[dict[str, Any]]:
    """The requests of one connection, as they come, until it ends."""
    while True:
        for data in protocol.data_to_send():
            sock.sendall(data)
        if not (data := sock.recv(65536)):
            return
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                yield json.loads(bytes(event.data))
