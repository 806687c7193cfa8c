"""What a drill asks of one node: orders over its control socket, its events, its journal; and waiting with a limit.

Keeps: runs in the Python of the node's release, as the node's user, through the doors that agents and people use; what does
not come true in time is one line; moments are those of the node's own events where there is one. Leaves to others: what a
drill does (drill_acts.py, drill_memory.py, drill_harm.py).
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from hashlib import blake2s
from pathlib import Path
from typing import Any

from outlast.cli.talk import order
from outlast.core.ids import new_unit
from outlast.core.record import Record, parse_day
from outlast.errors import OutlastError
from outlast.home import Home

__all__ = ["DrillTrouble", "Node", "moment"]

_LOOK_S = 0.05
_TAIL_BYTES = 1 << 20


class DrillTrouble(Exception):
    """One line: what did not come true."""


def moment(text: str) -> float:
    """Unix seconds of an ISO time; 0 where there is none."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0


class Node:
    """The node of a home, in one drill that began at ``since`` (Unix seconds, by this node's clock)."""

    def __init__(self, home: Path, scenario: str, run: float, since: float) -> None:
        self.home = Home(home)
        self.name = self.home.node
        self.scenario = scenario
        self.run = run
        self.since = since

    def units(self, label: str, count: int, by: str = "") -> list[str]:
        """What pieces of a drill's work are called, on both nodes; ``by``: who gave them, this node where it is empty."""
        names = [f"{self.scenario} {label} {number}" for number in range(count)]
        salts = [int.from_bytes(blake2s(name.encode(), digest_size=4).digest()) for name in names]
        return [new_unit(by or self.name, self.run, salt) for salt in salts]

    def order(self, name: str, body: object = None, *, seconds: float = 90.0) -> dict[str, Any]:
        """Give an order to the running node. Raises DrillTrouble."""
        try:
            return order(self.home, name, body, seconds=seconds)
        except OutlastError as error:
            raise DrillTrouble(f"{name}: {error}") from error

    def status(self) -> dict[str, Any]:
        """What ``outlast status --json`` says; empty while the node does not answer."""
        try:
            return order(self.home, "status", seconds=10.0)
        except OutlastError:
            return {}

    def cli(self, *words: str, reads: str = "", limit_s: float = 120.0) -> dict[str, Any]:
        """Type ``outlast … --json``, and take its answer. Raises DrillTrouble."""
        command = [str(self.home.root / "current/bin/outlast"), "--home", str(self.home.root), *words]
        command += [] if "--json" in words else ["--json"]
        try:
            done = subprocess.run(command, input=reads, capture_output=True, text=True, check=False, timeout=limit_s)
            answer = dict(json.loads(done.stdout))
        except subprocess.TimeoutExpired:
            raise DrillTrouble(f"outlast {words[0]}: no answer within {limit_s:.0f} s") from None
        except ValueError:
            said = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()[-1]
            raise DrillTrouble(f"outlast {' '.join(words[:2])}: {said}") from None
        if "error" in answer:
            raise DrillTrouble(f"outlast {' '.join(words[:2])}: {answer['error']}")
        return answer

    def until(self, true: Callable[[], Any], limit_s: float, what: str) -> Any:
        """Wait until something is true, and return it. Raises DrillTrouble."""
        deadline = time.monotonic() + limit_s
        while not (value := true()):
            if time.monotonic() > deadline:
                raise DrillTrouble(f"{what}: not within {limit_s:.0f} s")
            time.sleep(_LOOK_S)
        return value

    def events(self, name: str, /, **fields: object) -> Iterator[Mapping[str, Any]]:
        """The events of this name since the drill began, with these fields; a text need only be in the field."""
        for path in sorted(self.home.logs.glob("????-??-??.jsonl"))[-2:]:
            with open(path, "rb") as file:
                file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
                lines = file.read().splitlines()
            for line in lines:
                if f'"{name}"'.encode() not in line:
                    continue
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if event.get("event") == name and moment(event["at"]) >= self.since and _fits(event, fields):
                    yield event

    def event(self, name: str, limit_s: float, /, **fields: object) -> Mapping[str, Any]:
        """Wait for the first such event. Raises DrillTrouble."""
        said = ", ".join(str(value) for value in fields.values())
        found: Mapping[str, Any] = self.until(
            lambda: next(self.events(name, **fields), None), limit_s, f"event {name} ({said})"
        )
        return found

    def records(self) -> list[Record]:
        """What the journal says since the run began, in the order of its files."""
        day = datetime.fromtimestamp(self.run).date().isoformat()
        found = []
        for path in sorted(self.home.memory.glob("????-??-??.md")):
            if path.stem >= day:
                parsed = parse_day(path.stem, path.read_text(encoding="utf-8", errors="replace"))
                found += [one for one in parsed if isinstance(one, Record) and one.agent == self.name]
        return found


def _fits(event: Mapping[str, Any], fields: Mapping[str, object]) -> bool:
    return all(
        value in event.get(name, "") if isinstance(value, str) else event.get(name) == value
        for name, value in fields.items()
    )
