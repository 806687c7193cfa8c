"""A wire between two nodes of one machine that can be cut without being root: TCP, forwarded by threads.

Keeps: what comes in while it is cut is taken and goes nowhere, so that who sends it waits, as before a packet filter that
drops; what was under way stands still and goes on when the wire is whole again. Leaves to others: when it is cut.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from urllib.parse import SplitResult

__all__ = ["Wire"]

_LOOK_S = 0.02
_MOST_BYTES = 65_536


class Wire:
    """Forwards connections to a free port of this machine to where a URL leads."""

    def __init__(self, to: SplitResult) -> None:
        """Raises OSError where no port is free."""
        self.whole = True
        self._to = (to.hostname or "127.0.0.1", to.port or 80)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])

    def start(self) -> None:
        """Begin, in threads that end with the process."""
        self._beside(self._accept)

    def _beside(self, work: object, *words: object) -> None:
        threading.Thread(target=work, args=words, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        while True:
            near, _ = self._listening.accept()
            self._beside(self._carry, near)

    def _carry(self, near: socket.socket) -> None:
        self._wait()
        try:
            far = socket.create_connection(self._to)
        except OSError:
            near.close()
            return
        self._beside(self._pump, far, near)
        self._pump(near, far)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_MOST_BYTES):
                self._wait()
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _wait(self) -> None:
        while not self.whole:
            time.sleep(_LOOK_S)
