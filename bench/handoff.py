"""How long a hand-off takes beyond the agent's own time.

Rules kept here: the same command is run three ways in turns, so that drift falls on all: handed from node to node through
the control socket, by the runner alone, and as a plain child process; the agent's own time is the plain run's median.

Left to others: the table.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.processes import BenchError, say
from bench.table import Figure, Goal, Row, median, percentile
from outlast.core.ids import new_unit
from outlast.net.client import request
from outlast.work.runner import AgentLimits, run_agent
from tests.support.live import LiveNode, pair

__all__ = ["hand_offs"]

_AGENT = "#!/bin/sh\ncat >task.json\necho done >report.md\n"
_LIMITS = AgentLimits(timeout_s=60, stdout_bytes=1 << 20, artifact_bytes=1 << 20)


def hand_offs(root: Path, times: int, typed: int) -> list[Row]:
    """Hand over ``times`` tasks through the control socket, and ``typed`` ones by the command line. Raises BenchError."""
    say(f"hand-off: {times} round trips, each beside a plain run of the same agent; {typed} typed ones")
    agent = root / "agent"
    agent.write_text(_AGENT)
    agent.chmod(0o700)
    plain: list[float] = []
    alone: list[float] = []
    whole: list[float] = []
    with pair(root, axiom={"agent": {"command": [str(agent)]}}) as (coz, axiom):
        axiom.start()
        coz.start()
        _hand(coz)  # the first one opens files and connections
        for _ in range(times):
            plain.append(_plain(agent, root / "plain"))
            alone.append(_alone(agent, root / "alone"))
            whole.append(_hand(coz))
        by_hand = [_type(coz) for _ in range(typed)]
        disk = _fsyncs(axiom.home.root / "probe", times)
    own, runner = median(plain), median(alone)
    beside = [_ms(own, "plain run of the agent"), _ms(disk, "one fsync")]
    return [
        *_beyond(whole, own, runner),
        Row("hand-off, whole round trip, p50", "ms", _ms(median(whole)), beside),
        Row(f"`outlast handoff` typed, median of {typed}", "ms", _ms(median(by_hand))),
    ]


def _beyond(whole: Sequence[float], own: float, runner: float) -> list[Row]:
    return [
        Row(
            f"hand-off beyond the agent's own time, p{percent} of {len(whole)}",
            "ms",
            _ms(percentile(whole, percent) - own),
            [_ms(runner - own, "of which runner, median")] if percent == 50 else [],
            Goal(20.0),
        )
        for percent in (50, 99)
    ]


def _ms(seconds: float, who: str = "") -> Figure:
    return Figure(seconds * 1000, who)


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    work = folder / "work"
    work.mkdir(parents=True)
    return work


def _plain(agent: Path, folder: Path) -> float:
    work = _fresh(folder)
    began = time.perf_counter()
    subprocess.run([str(agent)], cwd=work, input=b"{}", capture_output=True, check=True)
    return time.perf_counter() - began


def _alone(agent: Path, folder: Path) -> float:
    work = _fresh(folder)

    async def timed() -> float:
        began = time.perf_counter()
        outcome = await run_agent([str(agent)], {"unit": "bench"}, work, _LIMITS, {})
        if outcome.verdict != "done":
            raise BenchError(f"the runner: {outcome.reason}")
        return time.perf_counter() - began

    return asyncio.run(timed())


def _fsyncs(path: Path, times: int) -> float:
    """The median time of an append and its fsync, in seconds: what the disk itself takes, some 30 times a hand-off."""
    taken = []
    with path.open("ab", buffering=0) as file:
        for _ in range(times):
            began = time.perf_counter()
            file.write(b"." * 200)
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return median(taken)


def _hand(node: LiveNode) -> float:
    """One hand-off from ``node`` to axiom and its signed confirmation, in seconds."""
    unit = new_unit(node.name, time.time(), secrets.randbits(18))

    async def timed() -> float:
        began = time.perf_counter()
        await _order(node, "/handoff", {"unit": unit, "peer": "axiom", "task": "leave a report"})
        ended = await _order(node, "/wait", {"unit": unit, "seconds": 30})
        seconds = time.perf_counter() - began
        if ended.get("status") != "done":
            raise BenchError(f"the hand-off ended otherwise: {ended}")
        return seconds

    return asyncio.run(timed())


async def _order(node: LiveNode, path: str, body: dict[str, object]) -> dict[str, Any]:
    answer = await request(
        f"unix:{node.home.socket}", "POST", path, body=msgspec.json.encode(body), connect_s=5, total_s=60
    )
    decoded: dict[str, Any] = msgspec.json.decode(answer.body)
    if answer.status != 200:
        raise BenchError(f"{path} was answered with {answer.status}: {decoded}")
    return decoded


def _type(node: LiveNode) -> float:
    began = time.perf_counter()
    done = node.cli("handoff", "axiom", "leave a report")
    if done.returncode:
        raise BenchError(f"outlast handoff exited with {done.returncode}: {done.stderr.strip()}")
    return time.perf_counter() - began
