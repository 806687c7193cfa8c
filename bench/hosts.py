"""How long ``site.yml`` takes over SSH on provisioned hosts, beside the same play under mitogen, and what a further node costs.

Rules kept here: hosts are systemd containers and a Mac's double, made for this and removed at the end; the first run starts
on clean hosts, the others change nothing, or that is said; in turns, so that both sides meet the same load.

Left to others: making hosts (tests/support/hosts.py), the nodes of ``make up`` (play.py).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.play import changed, mitogen
from bench.processes import BenchError, say
from bench.table import Figure, Goal, Row, median
from tests.support.hosts import Hosts
from tests.support.images import Trouble

__all__ = ["site"]

# Two of a kind: mitogen does not start the interpreter that makes the Mac's double a Mac.
_TWO = {"axiom": "pi-amd64", "node2": "pi-amd64"}
_MOST = 8


def site(folder: Path, times: int) -> list[Row]:
    """Provision two hosts, again ``times`` times in turns with mitogen, then with more nodes up to eight. Raises BenchError."""
    if os.geteuid() or not shutil.which("podman"):
        why = "real hosts want root, and what `make molecule` installs"
        return [Row("second site.yml over SSH", "s", Figure(None, why=why))]
    with _hosts(folder / "two", _TWO) as two:
        say("site.yml: the first one, on clean hosts")
        first, printed = _play(two)
        tasks = len(re.findall(r"^TASK \[", printed, re.MULTILINE))
        rows = [Row(f"first site.yml, 2 hosts, {tasks} tasks", "s", Figure(first))]
        ours, theirs, why = _in_turns(two, times)
        beside = Figure(None, "mitogen", why) if why else Figure(median(theirs), "mitogen")
        rows.append(
            Row(
                f"second site.yml, 2 hosts, median of {times}",
                "s",
                Figure(median(ours)),
                [beside],
                Goal(12.0, beside="mitogen"),
            )
        )
    return [*rows, *_growth(folder, times)]


def _growth(folder: Path, times: int) -> list[Row]:
    """What one more node costs a run that changes nothing, from two nodes to eight of one kind."""
    images = {"axiom": "pi-amd64", **{f"node{number}": "pi-amd64" for number in range(2, _MOST + 1)}}
    with _hosts(folder / "eight", images) as eight:
        say(f"site.yml: the first one, on {_MOST} clean hosts")
        _play(eight)
        seconds: dict[int, float] = {}
        for count in (2, 4, _MOST):
            names = ",".join(list(images)[:count])
            seconds[count] = median([_play(eight, "-l", names)[0] for _ in range(times)])
            say(f"site.yml: {count} nodes, {seconds[count]:.2f} s, {seconds[count] / count:.2f} s a node")
        each = (seconds[_MOST] - seconds[2]) / (_MOST - 2)
        return [
            Row(f"second site.yml, {_MOST} hosts, median of {times}", "s", Figure(seconds[_MOST])),
            Row("each further node, from 2 to 8", "s", Figure(each), goal=Goal(1.0)),
        ]


def _in_turns(hosts: Hosts, times: int) -> tuple[list[float], list[float], str]:
    """Seconds of ours and of mitogen's runs, and why there are none of the latter."""
    ours, theirs = [], []
    strategy, why = mitogen()
    for _ in range(times):
        seconds, printed = _play(hosts)
        ours.append(seconds)
        if again := changed(printed):
            say(f"site.yml: the second run changed {again} things")
        if not why:
            try:
                theirs.append(_play(hosts, environment=strategy)[0])
            except BenchError as error:
                why = str(error)
        say(f"site.yml: {ours[-1]:.2f} s{f', under mitogen {theirs[-1]:.2f} s' if not why else ''}")
    return ours, theirs, why


@contextlib.contextmanager
def _hosts(folder: Path, images: Mapping[str, str]) -> Iterator[Hosts]:
    say(f"hosts: making {len(images)}")
    try:
        hosts = Hosts.create(folder, images)
    except Trouble as error:
        raise BenchError(str(error)) from error
    try:
        yield hosts
    finally:
        hosts.destroy()


def _play(hosts: Hosts, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[float, str]:
    began = time.monotonic()
    done = hosts.play("site.yml", *arguments, environment=environment)
    if done.returncode:
        raise BenchError(f"site.yml ended with {done.returncode}: {' '.join(done.stdout.split())[-500:]}")
    return time.monotonic() - began, done.stdout
