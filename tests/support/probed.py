"""A node's probes, on a clock that stands where the test puts it and over services that are as the test says."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from outlast.alerts import Alerts
from outlast.clock import iso
from outlast.config import load_config
from outlast.core.modes import Mode, Standing
from outlast.home import Home
from outlast.local import Local
from outlast.upkeep import Around
from outlast.work.probes import Probes

from .clock import FixedClock

__all__ = ["FakeServices", "Probed", "configured"]

NOW = 1_800_000_000.0


def configured(root: Path, **sections: Any) -> Path:
    """Write a node.yml with these sections; its path."""
    path = root / "etc" / "node.yml"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    base = {"node": "coz", "listen": {"host": "127.0.0.1", "port": 1}, "agent": {"command": ["/bin/true"]}}
    path.write_text(yaml.safe_dump({**base, **sections}))
    return path


class FakeServices:
    """Services that are as the test says."""

    def __init__(self, names: list[str]) -> None:
        self.supervised = {
            name: {"state": "running", "pid": 100 + at, "last_reason": "", "last_exit": None}
            for at, name in enumerate(names)
        }
        self.restarts: list[tuple[str, str]] = []

    def report(self) -> dict[str, Any]:
        """As the real ones."""
        return {"supervised": {name: dict(one) for name, one in self.supervised.items()}}

    def restart(self, name: str, why: str) -> None:
        """Remember it, and have another process."""
        self.restarts.append((name, why))
        self.supervised[name]["pid"] += 1000


class Probed:
    """The probes of a node called coz, with their surroundings."""

    def __init__(self, root: Path, **sections: Any) -> None:
        self.home = Home(root / "coz")
        config = load_config(configured(self.home.root, **sections))
        self.home.lock.parent.mkdir(mode=0o700)
        self.clock = FixedClock(NOW)
        self.local = Local(config, self.home, self.clock)
        self.alerts = Alerts(self.local.events, self.clock)
        self.mode: Mode = "normal"
        self.services = FakeServices(list(config.services))
        self.around = Around(
            config,
            self.home,
            self.local.memory,
            self.local.ledger,
            self.local.events,
            self.clock,
            self.alerts,
            lambda: Standing(self.mode),
            dict,
            dict,
        )
        self.probes = Probes(self.around, self.services)

    def close(self) -> None:
        """Let go of the files."""
        self.local.close()

    async def go(self, seconds: float, step: float = 10.0) -> None:
        """Let time pass, and have done whatever is begun by then."""
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + step)
            self.probes.look()
            await self.settle()

    async def settle(self) -> None:
        """Wait for all that is being asked."""
        me = asyncio.current_task()
        while others := [task for task in asyncio.all_tasks() if task is not me]:
            await asyncio.wait(others)

    def passes(self, seconds: float, step: float = 10.0) -> None:
        """The same, for a test that is not asynchronous itself."""
        asyncio.run(self.go(seconds, step))

    def levels(self, subject: str) -> dict[str, Any]:
        """The levels of a subject: level to its ``ok``."""
        return {level: one["ok"] for level, one in self.probes.report()["health"].get(subject, {}).items()}

    def state(self, subject: str) -> str:
        """Does it work?"""
        return str(self.probes.report()["working"][subject]["state"])

    def skill(self, name: str, ago: float, **fields: Any) -> None:
        """Leave a skill's last status, of so many seconds ago."""
        self.home.skills.mkdir(exist_ok=True)
        status = {"at": iso(self.clock.now - ago), "ok": True, "text": "3 mails", **fields}
        (self.home.skills / f"{name}.json").write_text(json.dumps(status))

    def events(self, name: str) -> list[dict[str, Any]]:
        """What was logged under this name."""
        lines = [line for path in self.home.logs.glob("*.jsonl") for line in path.read_text().splitlines()]
        return [entry for entry in map(json.loads, lines) if entry["event"] == name]

    def journal(self) -> str:
        """What the daily files say."""
        return "".join(path.read_text() for path in self.home.memory.glob("*.md"))

    def printed(self, log: str) -> str:
        """What a log of programs has."""
        return (self.home.outputs / f"{log}.log").read_text()

    def today(self) -> str:
        """The moment of now as the journal writes it."""
        return datetime.fromtimestamp(self.clock.now).astimezone().strftime("%Y-%m-%d %H:%M:%S")
