"""A node without the network: what it remembers, and everything that works on it.

Rules kept here: the running node and the command that works in its place have the same parts and the same orders, so that
whatever needs no peer can be done with the runtime dead; one process at a time holds a home (outlast.lock).

Left to others: the network, tasks and agents (node), each part's own rules.
"""

from __future__ import annotations

from outlast.clock import Clock
from outlast.config import Config
from outlast.control import Order
from outlast.home import Home
from outlast.store import durable
from outlast.store.events import EventLog
from outlast.store.ledger import Ledger
from outlast.store.memory import Memory

__all__ = ["Local"]


class Local:
    """The parts of one node that need no peer."""

    def __init__(self, config: Config, home: Home, clock: Clock) -> None:
        """Open what is on the disk. Raises DurabilityError; ConfigError for another node's home."""
        for folder in (home.workspace, home.logs, home.artifacts):
            durable.make_dir(folder, mode=durable.SHARED_FOLDER)
        for folder in (home.tasks, home.trash, home.agents):
            durable.make_dir(folder)
        self.events = EventLog(home.logs, config.node, clock)
        self.ledger = Ledger(home.ledger, home.trash, clock, begun=home.state_file.exists())
        self.memory = Memory(home, config.node, clock)
        self.orders: dict[str, Order] = {}

    def close(self) -> None:
        """Let go of the files."""
        self.memory.close()
        self.ledger.close()
