"""kill -9 at every single system call that writes, during one hand-off, on either side (issue 2, promise 6).

A dry run learns how often each call occurs from the hand-off to its end; then the daemon is killed as it enters each one of
them, which is after whatever came before it. Without OUTLAST_FAULT_FULL=1 every call is tried at evenly spread places.
"""

from __future__ import annotations

import os
import random
import re
import time
from pathlib import Path

import pytest
from fault.scenes import (
    CountingAgent,
    assert_once,
    attached,
    closed_on,
    injected,
    running_pair,
    settled,
    trace_or_skip,
    traceable,
)
from support.live import LiveNode, until

from outlast.core.ids import new_unit
from outlast.errors import OutlastError

_CALLS = "openat,mkdir,write,pwrite64,fsync,fdatasync,rename,unlink,sendto"
_READS_ONLY = re.compile(r"openat\((?!.*O_CREAT)")
_POINTS = 60


def _points(log: Path) -> list[tuple[str, int]]:
    """Every occurrence of every call in strace's log, but openings that create nothing, as (call, which one)."""
    found: list[tuple[str, int]] = []
    seen: dict[str, int] = {}
    for line in log.read_text().splitlines():
        if match := re.match(r"(\w+)\(", line):
            seen[match[1]] = seen.get(match[1], 0) + 1
            if not _READS_ONLY.match(line):
                found.append((match[1], seen[match[1]]))
    return found


def _hand_over(coz: LiveNode, axiom: LiveNode, victim: LiveNode) -> tuple[str, bool]:
    """One hand-off, until it is closed on both sides and told, or the victim is dead. The unit, and was it acknowledged?"""
    unit = new_unit("coz", time.time(), random.SystemRandom().getrandbits(18))
    acknowledged = True
    try:
        coz.order("handoff", {"unit": unit, "peer": "axiom", "task": "host report"})
    except OutlastError:
        acknowledged = False
    both = [coz, axiom]
    until(
        lambda: victim.ended() or (closed_on(coz, unit) and all(_left(node) == 0 for node in both)),
        what=f"{unit} is closed",
    )
    return unit, acknowledged


def _left(node: LiveNode) -> int:
    """What waits in the outbox; -1 where the node does not answer."""
    return sum(channel["queued"] for channel in node.status().get("channels", {"": {"queued": -1}}).values())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("which", ["axiom", "coz"])
def test_killed_at_any_system_call_the_task_is_done_once(tmp_path: Path, which: str) -> None:
    """Whichever write, fsync, rename, mkdir, unlink, file or answer of a hand-off the daemon is killed before: after a plain
    start the acknowledged task is done once, with one record of each step on both sides; one that was not acknowledged is
    closed too, and told alike."""
    trace_or_skip()
    agent = CountingAgent(tmp_path / "agent")
    with running_pair(tmp_path, agent.path, agent={"after_crash": "rerun", "attempts": 10}) as (coz, axiom):
        victim = {"coz": coz, "axiom": axiom}[which]
        victim.kill()
        victim.start(wrapper=traceable())
        log = tmp_path / "calls"
        _hand_over(coz, axiom, victim)  # the first one makes files and folders that later ones find
        with attached(victim, f"trace={_CALLS}", output=log):
            unit, _ = _hand_over(coz, axiom, victim)
        assert_once(coz, axiom, [unit])
        points = _points(log)
        assert len(points) > 20, points
        if not os.environ.get("OUTLAST_FAULT_FULL"):
            points = points[:: max(1, -(-len(points) // _POINTS))]
        hits = 0
        for call, number in points:
            with attached(victim, *injected(call, f"signal=KILL:when={number}")):
                unit, acknowledged = _hand_over(coz, axiom, victim)
            hits += victim.ended()
            victim.kill()
            victim.start(wrapper=traceable())
            settled(coz, axiom)
            try:
                _assert_told_alike(coz, axiom, unit, acknowledged)
            except AssertionError as error:
                raise AssertionError(f"killed at {call} number {number}: {error}") from error
        assert hits > len(points) // 2, f"only {hits} of {len(points)} kills came before the end"
        assert axiom.json("status")["recovered"] or which == "coz"


def _assert_told_alike(coz: LiveNode, axiom: LiveNode, unit: str, acknowledged: bool) -> None:
    if acknowledged or axiom.records("INTENT", unit):
        assert_once(coz, axiom, [unit])
    elif coz.records("INTENT", unit):
        assert closed_on(coz, unit) == "in doubt"
        assert len(coz.records("CONFIRM", unit)) == 1
    else:
        assert not closed_on(coz, unit)
