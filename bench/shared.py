"""How long merging two diverged maps takes, beside pycrdt, and how many bytes two nodes exchange about a few changed keys.

Rules kept here: both sides merge the same changes, from bytes, into a replica in memory, in turns, and must end with all
keys; bytes are counted on the wire between two real nodes, both ways, from the moment it is mended until both have
everything and half a second brings nothing more.

Left to others: the wire (wire.py), the table.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.peers import pycrdt
from bench.processes import BenchError, say
from bench.table import Figure, Goal, Row, median
from bench.wire import Wire, wire
from outlast.clock import SystemClock
from outlast.core.crdt import Entry, Replica
from outlast.store.shared import SharedFiles
from tests.support.live import LiveNode, pair, until

__all__ = ["merges", "reconciled"]

_AT = "2026-11-21T05:09:07Z"
_WHOLE = "merge of two diverged maps, all of the other"
_LACKING = "merge of two diverged maps, what is lacking"
_CHANGED = 10
_SILENCE_S = 0.5
_Merge = Callable[[], float]


def merges(folder: Path, keys: int, times: int, *, install: bool = True) -> list[Row]:
    """Merge two diverged maps of so many keys, ``times`` times; without ``install`` there is no peer. Raises BenchError."""
    say(f"merge: two maps of {keys} keys, {times} times{', beside pycrdt' if install else ''}")
    # Each side changed half of the keys since they last met, and half of these both did.
    changes = {"coz": range(keys // 2), "axiom": range(keys // 4, keys // 4 * 3)}
    ways: dict[str, tuple[_Merge, _Merge | None]] = {}
    why = "" if install else "left out of a quick run, because it has to be installed first"
    with contextlib.ExitStack() as stack:
        mine = _ours(keys, changes)
        theirs: dict[str, _Merge] = {}
        try:
            if install:
                theirs = _yjs(stack.enter_context(pycrdt(folder / "pycrdt")), keys, changes)
        except BenchError as error:
            why = str(error)
        ways = {name: (mine[name], theirs.get(name)) for name in mine}
        return [_in_turns(f"{name}, {keys} keys", *both, times, why) for name, both in ways.items()]


def _in_turns(name: str, ours: _Merge, theirs: _Merge | None, times: int, why: str) -> Row:
    mine, peers = [], []
    for _ in range(times):
        mine.append(ours())
        if theirs is not None:
            peers.append(theirs())
    return Row(name, "s", Figure(median(mine)), [Figure(median(peers) if peers else None, "pycrdt", why)])


def _ours(keys: int, changes: Mapping[str, range]) -> dict[str, _Merge]:
    common = Replica()
    common.absorb(_sets(common, "coz", range(keys)))
    sides = {agent: common.copy() for agent in changes}
    for agent, changed in changes.items():
        sides[agent].absorb(_sets(common, agent, changed))
    mine, other = sides.values()

    def merge(entries: Iterable[Entry]) -> _Merge:
        data = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)

        def timed() -> float:
            merged = mine.copy()
            gc.collect()
            began = time.perf_counter()
            merged.absorb(msgspec.json.Decoder(Entry).decode_lines(data))
            seconds = time.perf_counter() - began
            _check(len(merged), keys)
            return seconds

        return timed

    return {_WHOLE: merge(other), _LACKING: merge(other.lacking(mine.have))}


def _yjs(module: Any, keys: int, changes: Mapping[str, range]) -> dict[str, _Merge]:
    """The same in pycrdt."""

    def document(update: bytes = b"") -> Any:
        made = module.Doc()
        made["map"] = module.Map()
        if update:
            made.apply_update(update)
        return made

    def put(into: Any, agent: str, changed: range) -> None:
        with into.transaction():
            for key in changed:
                into["map"][_key(key)] = _value(agent, key)

    common = document()
    put(common, "coz", range(keys))
    sides = {agent: document(common.get_update()) for agent in changes}
    for agent, changed in changes.items():
        put(sides[agent], agent, changed)
    mine, other = sides.values()

    def merge(update: bytes) -> _Merge:
        def timed() -> float:
            merged = document(mine.get_update())
            gc.collect()
            began = time.perf_counter()
            merged.apply_update(update)
            seconds = time.perf_counter() - began
            _check(len(merged["map"]), keys)
            return seconds

        return timed

    return {_WHOLE: merge(other.get_update()), _LACKING: merge(other.get_update(mine.get_state()))}


def _check(found: int, keys: int) -> None:
    if found != keys:
        raise BenchError(f"the merged map has {found} keys instead of {keys}")


def _sets(replica: Replica, agent: str, keys: range) -> list[Entry]:
    return [
        Entry(agent, replica.top + number, "set", _key(key), _value(agent, key), at=_AT)
        for number, key in enumerate(keys, 1)
    ]


def _key(number: int) -> str:
    return f"key-{number:06d}"


def _value(agent: str, number: int) -> str:
    return f"{agent} says {number}"


def reconciled(folder: Path, keys: int, times: int) -> list[Row]:
    """Let two nodes that hold the same ``keys`` keys change ten while they are apart, ``times`` times. Raises BenchError."""
    say(f"reconcile: {_CHANGED} changed keys of {keys} between two nodes, {times} times")
    with pair(folder) as nodes, contextlib.ExitStack() as stack:
        wires = [stack.enter_context(wire(node.port)) for node in nodes]
        for node, other, towards in zip(nodes, reversed(nodes), reversed(wires), strict=True):
            node.config["peers"] = {other.name: {"url": f"http://127.0.0.1:{towards.port}"}}
            node.configure()
            _fill(node, keys)
            node.start()
        _change(nodes, "greeting", wires)  # the first one opens files and connections
        counted = [_change(nodes, f"round {number}", wires) for number in range(times)]
    measure = f"reconcile {_CHANGED} changed of {keys} keys, both ways"
    return [Row(measure, "KB", Figure(median(counted) / 1000), goal=Goal(10.0))]


def _fill(node: LiveNode, keys: int) -> None:
    """Each of two agents wrote half of the keys."""
    files = SharedFiles(node.home.shared, node.home.trash, (), SystemClock())
    for agent, half in (("coz", range(keys // 2)), ("axiom", range(keys // 2, keys))):
        files.commit(_sets(files.replica, agent, half))
    files.close()


def _change(nodes: tuple[LiveNode, LiveNode], value: str, wires: Sequence[Wire]) -> int:
    """Bytes that pass until both nodes know what both changed while they were apart, and have no more to say of it."""
    for one in wires:
        one.cut = True
    changed = [_key(number) for number in range(_CHANGED)]
    for number, key in enumerate(changed):
        nodes[number % 2].order("state/set", {"key": key, "value": value})
    before = _passed(wires)
    for one in wires:
        one.cut = False
    until(lambda: all(_knows(node, key, value) for node in nodes for key in changed), what="the same on both nodes")
    passed = 0
    while passed != (passed := _passed(wires)):
        time.sleep(_SILENCE_S)
    return passed - before


def _passed(wires: Sequence[Wire]) -> int:
    return sum(one.passed for one in wires)


def _knows(node: LiveNode, key: str, value: str) -> bool:
    return node.order("state/get", {"key": key}).get("value") == value
