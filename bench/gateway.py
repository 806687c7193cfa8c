"""The real OpenClaw beside a node: what it takes of memory, how soon a broken one is noticed and works again, and a restore.

Rules kept here: settings are those that a user gets who sets none; the peer is the same gateway, kept by supervisord alone.
The pieces come in this order, each with the node that the one before left well.

Left to others: the node (openclaw.py), the ways to break it (breaks.py), the restore (restored.py).
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench import breaks
from bench.openclaw import Bare, Beside, Memory, bare, memory, passed, truth, turn
from bench.processes import BenchError, say
from bench.restored import restored
from bench.table import Figure, Row

__all__ = ["pieces"]

_TURNS, _SETTLE_S = 5, 10.0
_PATIENCE_S, _QUICK_S = 180.0, 60.0
_UNKNOWN = "this system does not tell"


def pieces(folder: Path, beside: Beside, *, quick: bool) -> dict[str, Callable[[], list[Row]]]:
    """What there is to measure, by name; ``quick``: without what takes the network or minutes."""
    kept = beside.kept

    def empty(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    found = {
        "memory and database": lambda: _beside_a_bare_one(empty("p"), beside, _QUICK_S if quick else _PATIENCE_S),
        "crash loop": lambda: breaks.crash_loop(kept),
        "kill": lambda: breaks.killed(kept),
        "configuration": lambda: breaks.broken_configuration(kept),
        "stranger": lambda: breaks.stranger(kept),
        "restore": lambda: restored(empty("w"), beside, cold=False),
        "cold restore": lambda: restored(empty("n"), beside, cold=True),
        "full disk": lambda: breaks.full_disk(empty("f"), beside),
    }
    return {name: piece for name, piece in found.items() if not (quick and name == "cold restore")}


def _beside_a_bare_one(folder: Path, beside: Beside, patience_s: float) -> list[Row]:
    """Memory of both, then both their databases are broken; ours is mended, and hangs, while the other one is watched."""
    say("openclaw: memory, beside a bare gateway under supervisord")
    kept = beside.kept
    with bare(folder, kept.place) as peer:
        time.sleep(_SETTLE_S)
        rows = _memory("ready", beside, peer)
        for number in range(_TURNS):
            for place in (kept.place, peer.place):
                turn(place, f"turn {number}")
        rows += _memory(f"after {_TURNS} turns", beside, peer)
        breaks.damage(peer.place)
        began, before = time.monotonic(), peer.gateway()[0]
        # Who watches for an end, or asks for HTTP's 200, has nothing to notice all that time; a figure says for how long.
        rows += breaks.damaged(kept, Figure(patience_s, "supervisord and a look at /readyz: not within"))
        rows += breaks.hung(kept)
        passed(began, lambda: time.monotonic() - began >= patience_s, "the end of the watch", patience_s + 600)
        if peer.gateway()[:1] != [before] or not _says_ready(peer):
            raise BenchError("the bare gateway with a broken database ended, or said that it is not ready")
        if truth(peer.place):
            raise BenchError("the bare gateway works with a broken database")
    return rows


def _says_ready(peer: Bare) -> bool:
    try:
        with urllib.request.urlopen(f"{peer.place.url}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _memory(when: str, beside: Beside, peer: Bare) -> list[Row]:
    """The gateway's, ours and the other one, and that of who keeps it."""
    ours, theirs = memory(beside.gateway()), memory(peer.gateway())
    keeper, other = memory(beside.keeper()), memory(peer.keeper())
    say(f"openclaw: {when}: gateway {ours.rss:.0f} MiB resident, bare {theirs.rss:.0f} MiB, node {keeper.rss:.0f} MiB")
    return [
        *_both(f"OpenClaw's gateway, {when}", ours, theirs, "bare"),
        *_both(f"node and launcher beside it, {when}", keeper, other, "supervisord"),
    ]


def _both(what: str, ours: Memory, theirs: Memory, who: str) -> list[Row]:
    shares = Figure(ours.pss, why=_UNKNOWN), [Figure(theirs.pss, who, _UNKNOWN)]
    return [
        Row(f"{what}, resident", "MiB", Figure(ours.rss), [Figure(theirs.rss, who)]),
        Row(f"{what}, proportional", "MiB", *shares),
    ]
