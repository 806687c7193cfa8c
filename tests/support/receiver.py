"""Somebody who is told: an HTTP receiver of apprise's ``json://``, that can go away, come back, refuse, and hang.

Rules kept here: it listens on loopback, on one port for as long as it lives, and whoever starts it ends it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from support.live import free_port

__all__ = ["Receiver"]


class Receiver:
    """The phone, as it were. ``got``: every message that was taken, oldest first, and ``asked`` those that were not as well."""

    def __init__(self) -> None:
        self.port = free_port()
        self.got: list[dict[str, Any]] = []
        self.asked = 0
        self.status = 200
        # Seconds before an answer.
        self.slow = 0.0
        self._server: ThreadingHTTPServer | None = None

    def url(self, secret: str = "") -> str:
        """Where it is, as apprise knows it; ``secret`` is its password."""
        return f"json://{f'person:{secret}@' if secret else ''}127.0.0.1:{self.port}/inbox"

    def texts(self) -> str:
        """All that was taken, title and text."""
        return "\n".join(f"{one['title']}\n{one['message']}" for one in list(self.got))

    def up(self) -> None:
        """Be there."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802 - as its base has it
                message = json.loads(self.rfile.read(int(self.headers["content-length"])))
                receiver.asked += 1
                time.sleep(receiver.slow)
                if receiver.status == 200:
                    receiver.got.append(message)
                with contextlib.suppress(OSError):
                    self.send_response(receiver.status)
                    self.end_headers()

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
        self.down()
