"""How long it takes to change every key of two nodes at work, what is refused meanwhile, and how soon a node that was away is
told what it missed.

Rules kept here: the rotation is the playbook that people type, in a copy of this checkout, while both nodes hand tasks to each
other; a hand-off that does not end well is an error, not a figure. Who was away comes back while its sibling's breaker, with
the defaults of node.yml, is open for minutes.

Left to others: the copy (play.py), the traffic (tests.support.traffic), the wire that is cut (wire.py).
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from bench.play import clone
from bench.processes import BenchError, say
from bench.table import Figure, Goal, Row, median
from bench.wire import wire
from outlast.core.ids import new_unit
from outlast.home import Home
from tests.support.live import LiveNode, pair, until
from tests.support.traffic import Traffic

__all__ = ["returned", "rotated"]

_CHECKOUT = Path(__file__).resolve().parent.parent
_NODES = ("coz", "axiom")
# More than the traffic, which the default would hold back; and an agent that is quick.
_SETTINGS = {
    "outlast_messages": {"rate": 100_000},
    "outlast_agent": {"command": ["/bin/sh", "-c", "echo done > done.txt"], "after_crash": "rerun"},
}
_DEFAULTS = ("node", "listen", "peers", "agent")
# Three attempts with full jitter open the breaker; a look at the peer every 30 s closes it.
_LIMIT_S = 60.0


def rotated(folder: Path, times: int) -> list[Row]:
    """Change the keys ``times`` times under traffic both ways. Raises BenchError, AssertionError."""
    with clone(_CHECKOUT, folder / "c", _SETTINGS) as copy:
        say(f"rotation: rotate-keys.yml {times} times, under traffic both ways")
        with Traffic({node: copy.home(node) for node in _NODES}) as flow:
            until(lambda: all(flow.units.values()), what="a hand-off each way")
            before = sum(_messages(copy.home(node)) for node in _NODES)
            seconds = [copy.play("rotate-keys.yml") for _ in range(times)]
            messages = sum(_messages(copy.home(node)) for node in _NODES) - before
        ended = flow.arrived()
    if set(ended) != {"done"} or ended["done"] < flow.handed():
        raise BenchError(f"of {flow.handed()} hand-offs that were made meanwhile became: {ended}")
    if flow.trouble:
        raise BenchError(f"the channels complained meanwhile: {'; '.join(sorted(flow.trouble))}")
    refused = sum(sum(counts.values()) for counts in flow.refused.values())
    return [
        Row(f"rotation of two nodes, start to end, median of {times}", "s", Figure(median(seconds)), goal=Goal(20.0)),
        Row(f"refused meanwhile, of {messages} messages", "refused", Figure(refused), goal=Goal(0, strict=False)),
    ]


def _messages(home: Path) -> int:
    return sum(log.read_bytes().count(b'.accepted"') for log in Home(home).logs.glob("*.jsonl"))


def returned(folder: Path, times: int, *, network: bool = True) -> list[Row]:
    """Let axiom be away until coz's breaker is open, and see when it knows what it missed, ``times`` times: after a restart,
    and where only the network had gone (``network``). Raises BenchError, AssertionError.
    """
    with pair(folder) as (coz, axiom), wire(axiom.port) as there, wire(coz.port) as back:
        for node, other, towards in ((coz, axiom, there), (axiom, coz, back)):
            node.config = {name: node.config[name] for name in _DEFAULTS}
            node.config["peers"] = {other.name: {"url": f"http://127.0.0.1:{towards.port}"}}
            node.configure()
            node.start()

        def cut(now: bool) -> None:
            there.cut = back.cut = now

        say(f"return: axiom is stopped until coz's breaker is open, {times} times")
        restart = [_away(coz, axiom, axiom.kill, lambda: axiom.start(wait=False)) for _ in range(times)]
        goal = Goal(2.0)
        rows = [
            Row(f"first message after the sibling's start, median of {times}", "s", Figure(median(restart)), goal=goal)
        ]
        if network:
            say(f"return: the network is cut until coz's breaker is open, {times} times")
            mended = [_away(coz, axiom, lambda: cut(True), lambda: cut(False)) for _ in range(times)]
            what = f"first message after the network's return, median of {times}"
            rows.append(Row(what, "s", Figure(median(mended)), goal=goal))
    return rows


def _away(coz: LiveNode, axiom: LiveNode, leave: Callable[[], object], come: Callable[[], object]) -> float:
    """Seconds from the moment when axiom comes back until its journal has what coz told it meanwhile."""
    until(
        lambda: _channel(coz)["queued"] == 0 and _channel(coz)["breaker"] == "closed",
        limit=_LIMIT_S,
        what="a whole channel",
    )
    leave()
    unit = new_unit("coz", time.time(), secrets.randbits(18))
    coz.order("note", {"unit": unit, "peer": "axiom", "text": "while you were away"})
    until(lambda: _channel(coz)["breaker"] == "open", limit=_LIMIT_S, what="coz's breaker, open")
    began = time.perf_counter()
    come()
    until(lambda: axiom.records("NOTE", unit), limit=_LIMIT_S, what="the note in axiom's journal")
    return time.perf_counter() - began


def _channel(node: LiveNode) -> dict[str, object]:
    with contextlib.suppress(KeyError):
        return dict(node.status()["channels"]["axiom"])
    raise BenchError(f"{node.name} does not answer: {node.log()[-500:]}")
