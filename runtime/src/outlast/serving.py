"""The part of a node's process that lives on the event loop; the daemon imports it when it knows what the node needs.

Rules kept here: SIGTERM and SIGINT stop the node in order; a node whose memory cannot be read is there all the same, and
says so; a defect that ends it is kept as an event, for whoever mends it.

Left to others: the process, its lock and its exit code (daemon), the node (node).
"""

from __future__ import annotations

import asyncio
import signal
import traceback

from outlast.clock import SystemClock
from outlast.errors import UnreadableError
from outlast.home import Home
from outlast.node import Node
from outlast.notify import Manager
from outlast.settings import Config
from outlast.store.keyring import Keyring
from outlast.stranded import Stranded
from outlast.work.descent import may_adopt

__all__ = ["serve"]


def serve(config: Config, home: Home, keyring: Keyring, manager: Manager) -> None:
    """Run the node until a signal stops it. Raises OutlastError, OSError, or whatever a defect of ours raises."""
    node: Node | Stranded
    may_adopt()
    try:
        node = Node(config, home, keyring, SystemClock())
    except UnreadableError as error:
        # Ending would not tell anybody, and a start a moment later finds the same.
        node = Stranded(config, home, str(error), SystemClock())
    try:
        asyncio.run(_until_signal(node, manager))
    except Exception as error:
        # What we did not foresee is kept for whoever mends it; the log of the service shows one line.
        node.events.emit("node.crashed", error=repr(error), trace=traceback.format_exc())
        raise


async def _until_signal(node: Node | Stranded, manager: Manager) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await node.run(stop, manager)
