"""A wire between two nodes that a test can cut: TCP on the loopback, forwarded by a thread.

Rules kept here: what is cut is cut in the middle of whatever is on it; the thread and its sockets are gone when the block is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

__all__ = ["Wire", "wire"]


class Wire:
    """Forwards connections to ``port`` of this machine while it is ``whole``; may be switched from any thread."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self._to = port
        self._whole = True
        self._loop = asyncio.new_event_loop()
        self._live: set[asyncio.Task[None]] = set()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def cut(self) -> None:
        """Nothing gets through any more, and what is under way breaks off."""
        self._loop.call_soon_threadsafe(self._switch, False)

    def mend(self) -> None:
        """Everything gets through again."""
        self._loop.call_soon_threadsafe(self._switch, True)

    def _switch(self, whole: bool) -> None:
        self._whole = whole
        if not whole:
            for task in self._live:
                task.cancel()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._begun.set()
        await self._over.wait()
        server.close()
        self._switch(False)
        await asyncio.gather(*self._live, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._live.add(task)
        ends = [writer]
        try:
            if self._whole:
                there, back = await asyncio.open_connection("127.0.0.1", self._to)
                ends.append(back)
                both = asyncio.gather(_pump(reader, back), _pump(there, writer))
                await both
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._live.discard(task)
            for end in ends:
                end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(512):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


@contextlib.contextmanager
def wire(port: int) -> Iterator[Wire]:
    """A wire to ``port``, whole."""
    made = Wire(port)
    made._thread.start()
    made._begun.wait()
    try:
        yield made
    finally:
        made._loop.call_soon_threadsafe(made._over.set)
        made._thread.join()
