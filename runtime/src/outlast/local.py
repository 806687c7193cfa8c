"""A node without the network: what it remembers, and everything that works on it.

Rules kept here: the running node and the command that works in its place have the same parts and the same orders, so that
whatever needs no peer can be done with the runtime dead; one process at a time holds a home (outlast.lock).

Left to others: the network, tasks and agents (node), each part's own rules.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from outlast.clock import Clock
from outlast.control import Emergency, Maintenance, Order
from outlast.core.findings import Finding
from outlast.core.record import one_line
from outlast.core.retention import share_of
from outlast.core.state import EMERGENCY, MODE
from outlast.errors import BadInput
from outlast.home import Home
from outlast.messages import UnitName
from outlast.quantity import size
from outlast.settings import Config, Name
from outlast.store import durable, heartbeat
from outlast.store.events import EventLog
from outlast.store.keyring import Keyring
from outlast.store.ledger import Ledger
from outlast.store.memory import Memory
from outlast.work.cleaning import Cleaner
from outlast.work.doctor import Doctor
from outlast.work.keys import Keys
from outlast.work.shared import Shared
from outlast.work.steps import Steps

__all__ = ["Local"]


class _Fetched(msgspec.Struct, forbid_unknown_fields=True):
    unit: UnitName
    peer: Name


class Local:
    """The parts of one node that need no peer."""

    def __init__(self, config: Config, home: Home, clock: Clock, keyring: Keyring | None = None) -> None:
        """Open what is on the disk. Raises DurabilityError; ConfigError for another node's home.

        Without ``keyring`` the keys are read by the first order that needs them.
        """
        for folder in (home.workspace, home.logs, home.artifacts):
            durable.make_dir(folder, mode=durable.SHARED_FOLDER)
        for folder in (home.tasks, home.trash, home.agents):
            durable.make_dir(folder)
        self._home = home
        self._node = config.node
        self._daily_limit = size(config.memory.daily_limit)
        self.events = EventLog(home.logs, config.node, clock, share_of(size(config.observe.budget), "events"))
        self.ledger = Ledger(home.ledger, home.trash, clock, begun=home.owner.exists() or home.state_file.exists())
        self.memory = Memory(home, config.node, clock)
        self.cleaner = Cleaner(home, config, self.memory, self.events, clock)
        self.shared = Shared(home, config, clock, self.memory.note, self.events)
        self.steps = Steps(home, config, self.memory, self.events, clock)
        self.keys = Keys(home, config, self.events, clock, keyring)
        self.doctor = Doctor(home, config, self.memory, self.ledger, self.events, clock, self._findings)
        self.orders: dict[str, Order] = {
            **self.cleaner.orders(),
            **self.shared.orders(),
            **self.steps.orders(),
            **self.doctor.orders(),
            **self.keys.orders(),
            "emergency": self._emergency,
            "maintenance": self._maintenance,
            "fetched": self._fetched,
        }
        self.doctor.at_start()
        self.doctor.take(self.steps.recover())

    def _findings(self) -> Iterable[Finding]:
        yield from self.shared.check()
        yield from self.keys.check()

    def _emergency(self, body: bytes) -> object:
        """With the runtime dead: its next start is one into an emergency."""
        reason = msgspec.json.decode(body, type=Emergency).reason
        self.memory.note(MODE, f"{EMERGENCY}{one_line(reason)}")
        return {"node": self._node, "mode": "emergency"}

    def _maintenance(self, body: bytes) -> object:
        """With the runtime dead: HEARTBEAT.md holds the order until its next start."""
        order = msgspec.json.decode(body, type=Maintenance)
        done = heartbeat.order_maintenance(self._home.heartbeat, on=order.on, dry=order.dry_run)
        return {"node": self._node, **done._asdict(), "running": False, "mode": "", "shed": []}

    def _fetched(self, body: bytes) -> object:
        """An artifact of a peer's came in beside us (outlast.files): STATE counts it, and a start does not take it for ours."""
        order = msgspec.json.decode(body, type=_Fetched)
        if not (self._home.artifacts / order.unit).is_dir():
            raise BadInput("UNIT", f"artifacts/{order.unit} is not there", "fetch it first")
        self.memory.note(order.unit, f"fetched from {order.peer}")
        self.memory.artifacts_changed(added=(order.unit,))
        return {}

    def tend(self, *, compact: bool) -> None:
        """Look after the files that others write to as well; ``compact``: also sum up long ones. Raises DurabilityError.

        Costs a few system calls, and no write, where nobody changed anything.
        """
        if back := self.memory.journal.mend():
            self.events.emit("journal.mended", records=back)
        self.shared.look()
        if compact:
            for finding in self.memory.journal.compact(self._daily_limit, self._home.memory_file):
                self.events.emit("journal.compacted" if finding.ok else "journal.long", finding=finding.line())

    def close(self) -> None:
        """Let go of the files."""
        self.shared.close()
        self.memory.close()
        self.ledger.close()
