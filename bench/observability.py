"""What it costs a node to write down what it does: hand-offs a second, and processor time of each, with and without.

Rules kept here: two pairs of nodes do the same work in turns, so that drift falls on both; in one of them events, metrics and
spans are taken out of the shipped runtime before it starts, which no setting does; nothing else differs.

Left to others: the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from bench.processes import BenchError, say
from bench.table import Figure, Goal, Row, median
from outlast.core.ids import new_unit
from outlast.net.client import request
from tests.support.live import LiveNode, pair

__all__ = ["observed"]

_AGENT = "#!/bin/sh\necho done >report.md\n"
# Python reads it before it reads anything of ours.
_BLIND = """
import outlast.store.events as events
events.EventLog.emit_all = events.EventLog.tell = events.EventLog.burst = lambda *told, **more: None
import outlast.work.observer as observer
observer.Observer._write = observer.Observer._show = lambda *told, **more: None
"""


@dataclass
class _Pair:
    """Two nodes, hand-offs a second of each turn, and seconds of processor time a hand-off."""

    coz: LiveNode
    axiom: LiveNode
    rates: list[float] = field(default_factory=list)
    used: list[float] = field(default_factory=list)

    def turn(self, number: int, at_once: int) -> None:
        before, began = self._processor(), time.perf_counter()
        asyncio.run(_hand_over(self.coz, number, at_once))
        self.rates.append(number / (time.perf_counter() - began))
        self.used.append((self._processor() - before) / number)

    def _processor(self) -> float:
        import psutil

        processes = [node.process for node in (self.coz, self.axiom)]
        times = [psutil.Process(process.pid).cpu_times() for process in processes if process]
        return sum(one.user + one.system for one in times)


def observed(root: Path, turns: int, number: int, at_once: int = 16) -> list[Row]:
    """Hand over ``number`` tasks a turn, so many at once. Raises BenchError."""
    say(f"observability: {turns} turns of {number} hand-offs, {at_once} at once, with and without it")
    agent, blind = root / "agent", root / "blind"
    agent.write_text(_AGENT)
    agent.chmod(0o700)
    blind.mkdir()
    (blind / "sitecustomize.py").write_text(_BLIND)
    with contextlib.ExitStack() as stack:
        pairs = {}
        for name, environment in (("with", {}), ("without", {"PYTHONPATH": str(blind)})):
            (root / name).mkdir()
            command = {"agent": {"command": [str(agent)]}}
            coz, axiom = stack.enter_context(pair(root / name, command, command))
            for node in (axiom, coz):
                node.start(env=environment)
            pairs[name] = _Pair(coz, axiom)
            pairs[name].turn(at_once, at_once)
            pairs[name].rates.clear()
            pairs[name].used.clear()
        for turn in range(turns):
            for one in list(pairs.values())[:: 1 if turn % 2 else -1]:
                one.turn(number, at_once)
        blindly = pairs["without"].coz.home
        if list(blindly.logs.iterdir()) or blindly.traces.exists():
            raise BenchError("what was to run without observability wrote logs")
        if not list(pairs["with"].coz.home.traces.iterdir()):
            raise BenchError("what was to run with observability wrote no spans")
    seen, unseen = pairs["with"], pairs["without"]
    cost = 100 * (1 - median(seen.rates) / median(unseen.rates))
    return [
        Row("cost of observability, hand-offs a second", "%", Figure(max(0.0, cost)), goal=Goal(10.0)),
        Row(
            f"hand-offs, {at_once} at once",
            "/s",
            Figure(median(seen.rates)),
            [Figure(median(unseen.rates), "without it")],
        ),
        Row(
            "processor time of both nodes, a hand-off",
            "ms",
            Figure(1000 * median(seen.used)),
            [Figure(1000 * median(unseen.used), "without it")],
        ),
    ]


async def _hand_over(node: LiveNode, number: int, at_once: int) -> None:
    left = [new_unit(node.name, time.time(), secrets.randbits(18)) for _ in range(number)]

    async def worker() -> None:
        while left:
            unit = left.pop()
            await _order(node, "/handoff", {"unit": unit, "peer": "axiom", "task": "leave a report"})
            ended = await _order(node, "/wait", {"unit": unit, "seconds": 60})
            if ended.get("status") != "done":
                raise BenchError(f"a hand-off ended otherwise: {ended}")

    await asyncio.gather(*(worker() for _ in range(at_once)))


async def _order(node: LiveNode, path: str, body: dict[str, object]) -> dict[str, Any]:
    answer = await request(
        f"unix:{node.home.socket}", "POST", path, body=msgspec.json.encode(body), connect_s=5, total_s=90
    )
    decoded: dict[str, Any] = msgspec.json.decode(answer.body)
    if answer.status != 200:
        raise BenchError(f"{path} was answered with {answer.status}: {decoded}")
    return decoded
