"""A model provider's double: it speaks the HTTP API of OpenAI's chat completions, as an agent's gateway asks it.

What the "model" answers is decided by the text it is given, so that a test can say in a task what the agent does:

* ``RUN: COMMAND`` in the newest message of the user is answered by a call of the tool ``exec`` with that command;
* a request that ends with a tool's result is answered ``DONE NAME: RESULT``;
* anything else is answered ``ECHO NAME: TEXT``.

Rules kept here: it listens on loopback, on one port for as long as it lives, and whoever starts it ends it; every request is
kept, whole, in ``asked``. It can hold its answers back (``hold``), refuse the key (``status`` 401), and go away. It stands on
Python alone, so that a test host can have it on its own loopback: ``python3 provider.py NAME PORT``.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

__all__ = ["MODEL", "Provider"]

MODEL = "fake-1"
_ECHO_CHARS, _RESULT_CHARS = 200, 400
# OpenClaw puts a message of its own behind the user's, also behind a tool's result.
_CONTEXT = re.compile(r"<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>.*?<<<END_OPENCLAW_INTERNAL_CONTEXT>>>", re.DOTALL)


class Provider:
    """One provider. ``asked``: the bodies of all completions that were asked for, oldest first; ``keys``: with which key."""

    def __init__(self, name: str = "one", port: int = 0) -> None:
        self.name = name
        # The port is named in configurations before anybody listens on it.
        with socket.create_server(("127.0.0.1", port)) as probe:
            self.port = probe.getsockname()[1]
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        # What is answered in place of an answer, and whether answers wait.
        self.status = 200
        self.go = threading.Event()
        self.go.set()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Its base URL, for ``models.providers.NAME.baseUrl``."""
        return f"http://127.0.0.1:{self.port}/v1"

    def settings(self, key: str = "sk-double") -> dict[str, Any]:
        """What OpenClaw's configuration says of it."""
        model = {
            "id": MODEL, "name": MODEL, "reasoning": False, "input": ["text"], "contextWindow": 128_000, "maxTokens": 4096,
            "cost": {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0},
        }  # fmt: skip
        return {"baseUrl": self.url, "api": "openai-completions", "apiKey": key, "models": [model]}

    def turns(self, text: str) -> int:
        """How many turns began with ``text`` in what the user said: their first requests, not those after a tool's result."""
        return sum(text in _said(body) and not _after_tool(body) for body in list(self.asked))

    def hold(self) -> None:
        """Answer nobody until ``go`` is set."""
        self.go.clear()

    def up(self) -> None:
        """Be there."""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # noqa: N802 - as its base has it
                self._json(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "double"}]})

            def do_POST(self) -> None:  # noqa: N802 - as its base has it
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                provider.keys.append(self.headers.get("authorization", "").removeprefix("Bearer "))
                provider.asked.append(body)
                provider.go.wait(120)
                with contextlib.suppress(OSError):
                    if provider.status != 200:
                        self._json(provider.status, {"error": {"message": "refused", "type": "invalid_request_error"}})
                    elif body.get("stream"):
                        self._stream(body)
                    else:
                        self._json(200, _whole(body, provider.name))

            def _json(self, status: int, document: object) -> None:
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _stream(self, body: dict[str, Any]) -> None:
                self.close_connection = True
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                for chunk in [*_chunks(body, provider.name), "[DONE]"]:
                    data = chunk if isinstance(chunk, str) else json.dumps(chunk)
                    self.wfile.write(f"data: {data}\n\n".encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Be gone: connections are refused."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go.set()
        self.down()


def _text(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    parts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return _CONTEXT.sub("", "\n".join(parts))


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in body.get("messages", []) if one.get("role") != "user" or _text(one).strip()]


def _after_tool(body: dict[str, Any]) -> bool:
    return bool((said := _messages(body)) and said[-1].get("role") == "tool")


def _said(body: dict[str, Any]) -> str:
    """The newest that the user said."""
    return next((_text(one) for one in reversed(_messages(body)) if one.get("role") == "user"), "")


def _decide(body: dict[str, Any], name: str) -> tuple[str, dict[str, Any] | None]:
    """The text of an answer, or the call of a tool."""
    if _after_tool(body):
        return f"DONE {name}: {_text(_messages(body)[-1]).strip()[:_RESULT_CHARS]}", None
    tools = {tool["function"]["name"] for tool in body.get("tools") or ()}
    if (command := re.search(r"RUN: (.+)", _said(body))) and "exec" in tools:
        return "", {"name": "exec", "arguments": json.dumps({"command": command[1].strip()})}
    return f"ECHO {name}: {_said(body).strip()[-_ECHO_CHARS:]}", None


def _parts(body: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    text, call = _decide(body, name)
    at = time.time_ns()
    base = {"id": f"chatcmpl-{at}", "created": at // 10**9, "model": body.get("model")}
    if call is None:
        return base, {"content": text}, "stop"
    return base, {"tool_calls": [{"index": 0, "id": f"call_{at}", "type": "function", "function": call}]}, "tool_calls"


_USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


def _whole(body: dict[str, Any], name: str) -> dict[str, Any]:
    base, message, finish = _parts(body, name)
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}
    return {**base, "object": "chat.completion", "usage": _USAGE, "choices": [choice]}


def _chunks(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    base, message, finish = _parts(body, name)
    base["object"] = "chat.completion.chunk"
    steps: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": ""}, None),
        (message, None),
        ({}, finish),
    ]
    chunks = [{**base, "choices": [{"index": 0, "delta": delta, "finish_reason": end}]} for delta, end in steps]
    return [*chunks, {**base, "choices": [], "usage": _USAGE}]


if __name__ == "__main__":
    with Provider(sys.argv[1], int(sys.argv[2])):
        threading.Event().wait()
