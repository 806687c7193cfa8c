"""What sub-agents left that nobody needs any more: out of the way at once, and deleted beside all else.

Rules kept here: nobody waits for files to be deleted, however many they are: a folder is renamed, and a thread deletes it;
what a stop cut off is carried on with by the next start, once it runs.

Left to others: what is no longer needed (work.spawned, work.cell), and how it is deleted (work.trees).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
from pathlib import Path

from outlast.work.trees import remove

__all__ = ["GONE", "Leavings"]

GONE = ".gone-"
"""What the names begin with of what is to be deleted."""


class Leavings:
    """What lies in ``place`` to be deleted. What is put there must be on the same file system."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._wake = asyncio.Event()
        self._stopped = threading.Event()

    def put(self, folder: Path) -> None:
        """Take a folder out of the way, to be deleted. What resists stays where it is: no error."""
        with contextlib.suppress(OSError):
            # Who moves a folder needs the right to write to it.
            if not folder.is_symlink():
                folder.chmod(0o700)
        with contextlib.suppress(OSError):
            os.rename(folder, self._place / f"{GONE}{secrets.token_hex(8)}")
            self._wake.set()

    async def run(self) -> None:
        """Delete what is there and what comes, until cancelled."""
        try:
            while True:
                self._wake.clear()
                if self._waiting():
                    await asyncio.to_thread(self._delete)
                await self._wake.wait()
        finally:
            # The thread is not waited for longer than one file takes.
            self._stopped.set()

    def _delete(self) -> None:
        for path in self._waiting():
            remove(path, lambda: not self._stopped.is_set())

    def _waiting(self) -> list[Path]:
        with contextlib.suppress(OSError):
            return [self._place / name for name in os.listdir(self._place) if name.startswith(GONE)]
        return []
