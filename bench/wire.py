"""A wire between two nodes that counts every byte, both ways, and can be cut.

Rules kept here: it binds to loopback; bytes count as they are passed on; a wire that is cut passes nothing, closes what
was open, and refuses what comes.

Left to others: what the nodes say over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from bench.processes import BenchError

__all__ = ["Wire", "wire"]

_START_S = 10.0


class Wire:
    """Passes on what comes to its ``port`` to the port ``target``. ``passed``: bytes since it was laid, both ways."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.passed = 0
        self.cut = False
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, ready: threading.Event, over: asyncio.Event) -> None:
        """Pass on until ``over``. Raises OSError where it cannot listen."""
        server = await asyncio.start_server(self._one, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(writer.transport.abort)
            if self.cut:
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            stack.callback(far_writer.transport.abort)
            ends = {writer, far_writer}
            self._open |= ends
            stack.callback(self._open.difference_update, ends)
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if self.cut:
                raise ConnectionAbortedError
            self.passed += len(data)
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@contextlib.contextmanager
def wire(target: int) -> Iterator[Wire]:
    """A wire to the port ``target``, for as long as the block lasts. Raises BenchError."""
    laid, ready = Wire(target), threading.Event()
    loop, over = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(laid.serve(ready, over),), daemon=True)
    thread.start()
    try:
        if not ready.wait(_START_S):
            raise BenchError("the wire between the nodes could not be laid")
        yield laid
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(_START_S)
        loop.close()
