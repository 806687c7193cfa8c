"""A workspace with one long day, for what compaction does to it."""

from __future__ import annotations

import time
from pathlib import Path

from outlast.core.record import Record, Step
from outlast.store.journal import Journal
from support.clock import FixedClock

__all__ = ["LIMIT", "NOON", "OWN", "Place"]

NOON = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))
OWN = ["Remember the milk.\n", "  indented\n", "\n", "- an agent's list\n", "- 12:00:00 NOTE torn reco\n"]
LIMIT = 2048


class Place:
    """A workspace whose journal has one long day: 40 units, some of them not well, and other people's text between them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.memory = root / "memory"
        self.daily = self.memory / "2026-11-21.md"
        self.memory_file = root / "MEMORY.md"
        self.clock = FixedClock(NOON)

    def journal(self) -> Journal:
        return Journal(self.memory, "coz", self.clock)

    def fill(self) -> None:
        self.memory.mkdir(parents=True)
        self.memory_file.write_text("# What I know\n\nThe cat is called Tom.\n")
        journal = self.journal()
        for number in range(40):
            self.clock.now = NOON + 60 * number
            unit = f"axiom-{number:04}"
            journal.append(Step.INTENT, unit, "from axiom: host report")
            if number % 10 == 5:
                self.write(OWN[number // 10])
            ending = {7: "failed: exit 1: disk full", 17: "in doubt: it was cut off", 27: "failed: exit 1: disk full"}
            if number != 39:
                journal.append(Step.CONFIRM, unit, ending.get(number, "done: report.md (healthy)"))
        journal.append(Step.NOTE, "mode", "degraded: disk 91 % full")
        journal.append(Step.RECOVER, "axiom-0017", "its agent was cut off")
        journal.append(Step.INTENT, "coz-1", "makes notes.md, list.md: study of owls")
        journal.append(Step.CONFIRM, "coz-1", "done")
        journal.append(Step.CONFIRM, "coz-of-yesterday", "done: late.md")
        self.write(OWN[4])
        journal.close()

    def write(self, text: str) -> None:
        with open(self.daily, "a") as file:
            file.write(text)

    def records(self) -> list[Record]:
        return list(self.journal().since(0))

    def settled(self) -> None:
        """Compact until nothing is left to do, and wait until nobody writes into old files any more."""
        journal = self.journal()
        journal.compact(LIMIT, self.memory_file)
        self.clock.now += 3600
        journal.mend()

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}
