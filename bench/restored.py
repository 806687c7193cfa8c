"""How long it takes until an agent answers again whose machine is gone, from a backup's file and an empty directory.

Rules kept here: the way that people type, `outlast backup now` and playbooks/restore.yml; it counts when the agent takes a turn
in the session of before, and its model is shown what was said there. Warm is with a wheelhouse and npm's cache at hand, cold
as it is where nobody names these, and with pip's cache off; what comes over the network meanwhile is counted.

Left to others: the node (openclaw.py).
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil

from bench.openclaw import Beside, turn
from bench.processes import BenchError, say
from bench.table import Figure, Goal, Row

__all__ = ["restored"]

_WORD = "mulberry"
_NO_CACHE = {"PIP_NO_CACHE_DIR": "1"}
_WARM_S, _COLD_S = 120.0, 600.0


def restored(folder: Path, beside: Beside, *, cold: bool) -> list[Row]:
    """Put it back; ``cold``: with nothing at hand that it takes. Raises BenchError."""
    kept, node = beside.kept, beside.kept.home.root
    turn(kept.place, f"the word is {_WORD}")
    file = json.loads(kept.type("backup", "now", "--to", str(folder), "--json"))["file"]
    beside.copy.play("playbooks/down.yml", "-l", node.name)
    # The host is empty: no node, no release of it, no OpenClaw.
    node.rename(folder / "lost")
    (node.parent / "openclaw").rename(folder / "lost-openclaw")
    words = ["-l", node.name, "-e", f"from={file}", "-e", "sure=yes"]
    if cold:
        beside.forget_caches()
    say(f"openclaw: restoring onto an empty host, {'without caches' if cold else 'with caches'}")
    before, began = _received(), time.monotonic()
    played = beside.copy.play("playbooks/restore.yml", *words, environment=_NO_CACHE if cold else None)
    turn(kept.place, "which word was it?")
    seconds, received = time.monotonic() - began, (_received() - before) / 1e6
    if not any(_WORD in json.dumps(message) for message in beside.provider.asked[-1]["messages"]):
        raise BenchError("the agent answers, and does not know what was said before")
    say(f"openclaw: restore.yml {played:.1f} s, agent answers {seconds:.1f} s, received {received:.0f} MB")
    what = f"restored onto an empty host, {'no caches' if cold else 'warm caches'}"
    return [
        Row(f"{what}, agent answers", "s", Figure(seconds), goal=Goal(_COLD_S if cold else _WARM_S)),
        Row(f"{what}, received over the network", "MB", Figure(received)),
    ]


def _received() -> int:
    """Bytes that came over the network to this machine."""
    counts = psutil.net_io_counters(pernic=True)
    # What bridges and tunnels hand on came in by one of these.
    real = [name for name in counts if Path(f"/sys/class/net/{name}/device").exists()]
    return sum(
        count.bytes_recv for name, count in counts.items() if name in real or not (real or name.startswith("lo"))
    )
