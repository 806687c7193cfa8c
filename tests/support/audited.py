"""A node's home with messages that were accepted, for tests of what reads the record; no runtime is started."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import yaml

from outlast.core.record import Record, Step, format_record
from outlast.home import Home
from outlast.store.ledger import Accepted, Keep, Ledger, Taken
from support.clock import FixedClock

__all__ = ["KEEP", "Scene"]

KEEP = Keep(ids_s=1e9, record_s=1e9, record_most=1_000_000, ahead_s=300.0)


class Scene:
    """axiom's home; ``now`` is Unix seconds."""

    def __init__(self, root: Path, now: float, peers: tuple[str, ...] = ("coz", "witness")) -> None:
        self.home = Home(root / "axiom")
        self.now = now
        for folder in (self.home.config.parent, self.home.keys, self.home.memory, self.home.logs, self.home.artifacts):
            folder.mkdir(parents=True)
        config: dict[str, Any] = {
            "node": "axiom",
            "listen": {"host": "127.0.0.1", "port": 18999},
            "peers": {peer: {"url": "http://127.0.0.1:18998"} for peer in peers},
            "agent": {"command": ["/bin/true"]},
        }
        self.home.config.write_text(yaml.safe_dump(config))
        self.ledger = Ledger(self.home.ledger, self.home.trash, FixedClock(now), begun=False)
        self._records = 0

    def accept(self, msg_id: str, at: float, **fields: Any) -> None:
        """coz sent a task that was taken at ``at``; ``fields`` replace what is recorded of it."""
        row = Accepted("coz", msg_id, at, int(at), "0123456789", "10.0.0.7", "task", 300, 0, "0" * 32, "", "")
        self.ledger.accept([Taken(row._replace(**fields), 202)], KEEP)

    def journal(self, unit: str, step: Step, what: str, at: float) -> None:
        """axiom's journal has a record."""
        local = time.localtime(at)
        day, moment = time.strftime("%Y-%m-%d", local), time.strftime("%H:%M:%S", local)
        self._records += 1
        with open(self.home.memory / f"{day}.md", "a", encoding="utf-8") as file:
            file.write(format_record(Record(day, moment, step, unit, what, "axiom", self._records)) + "\n")

    def task(self, unit: str, at: float, what: str = "host report", *, closed: bool = True, **fields: Any) -> None:
        """coz's task ``unit`` was taken, and (``closed``) done."""
        self.accept(f"task_{unit}", at, **{"about": unit, "correlation_id": unit, **fields})
        self.journal(unit, Step.INTENT, f"from {fields.get('peer', 'coz')}: {what}", at)
        if closed:
            self.journal(unit, Step.CONFIRM, "done: report.md", at + 1)
