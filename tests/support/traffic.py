"""Hand-offs between nodes, both ways and all the time, and whether any of them was refused or lost.

Rules kept here: what a node was handed is known by its name, so that nothing is forgotten where the runtime is killed in
between; whoever starts the traffic ends it.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from outlast.cli.talk import NotRunning, order
from outlast.core.ids import new_unit
from outlast.errors import OutlastError
from outlast.home import Home

__all__ = ["Traffic"]

_PAUSE_S = 0.2


@dataclass
class Traffic:
    """Every node hands tasks to every other, until it is left; ``trouble`` is what the channels complained of meanwhile."""

    homes: dict[str, Path]
    units: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, dict[str, int]] = field(default_factory=dict)
    trouble: set[str] = field(default_factory=set)
    _before: dict[str, dict[str, int]] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Traffic:
        """Start it."""
        for name in self.homes:
            self.units[name] = []
            self._before[name] = self._ended(name) or {}
            thread = threading.Thread(target=self._hand_on, args=(name,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """End it."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _hand_on(self, name: str) -> None:
        home = Home(self.homes[name])
        peers = itertools.cycle([peer for peer in self.homes if peer != name])
        while not self._over.wait(_PAUSE_S):
            unit, peer = new_unit(name, time.time(), secrets.randbits(18)), next(peers)
            try:
                order(home, "handoff", {"unit": unit, "peer": peer, "task": "anything"})
                self.units[name].append(unit)
                status = order(home, "status")
            except NotRunning:
                # Killed by the test; whether the last one was taken is not known, so it is not waited for.
                continue
            except OutlastError as error:
                self.trouble.add(f"{name}: {error}")
                continue
            # A runtime that is started anew counts from nothing: what was counted before stays.
            self.refused[f"{name} {status['pid']}"] = status["refused"]
            said = {one["last_error"] for one in status["channels"].values()} - {""}
            # A runtime that is being started is no reason to worry.
            self.trouble |= {f"{name}: {error}" for error in said if "cannot be reached" not in error}

    def handed(self) -> int:
        """How many there were."""
        return sum(map(len, self.units.values()))

    def arrived(self, limit_s: float = 120.0) -> dict[str, int]:
        """Wait until none is open; how many have ended since the start, by verdict. One more may have ended than were counted
        as handed on: what a runtime took as it was killed."""
        deadline = time.monotonic() + limit_s
        while any(counts is None or counts["open"] for counts in map(self._ended, self.homes)):
            assert time.monotonic() < deadline, "hand-offs are open still"
            time.sleep(0.1)
        ended: dict[str, int] = {}
        for name in self.homes:
            for verdict, number in (self._ended(name) or {}).items():
                ended[verdict] = ended.get(verdict, 0) + number - self._before[name].get(verdict, 0)
        return {verdict: number for verdict, number in ended.items() if number}

    def _ended(self, name: str) -> dict[str, int] | None:
        try:
            return dict(order(Home(self.homes[name]), "status")["handoffs"])
        except NotRunning:
            return None
