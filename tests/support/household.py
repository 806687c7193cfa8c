"""Two nodes as somebody has them at home, for who looks at their dashboard: services, jobs, a queue, and a day behind them.

Rules kept here: what happens now is real (programs that are run, end, and are started again; a node that is killed); what lies
behind (events and metrics of the last hours) is written as the runtime writes it, because no test waits for hours.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from outlast.clock import iso
from outlast.store.disk import usage
from outlast.store.lines import append, day_of

from .live import LiveNode

__all__ = ["AXIOM", "COZ", "busy", "furnish"]

_STAYS = ["/bin/sleep", "100000"]
COZ: dict[str, Any] = {
    "health": {"interval": "1s", "sibling_silent": "4s"},
    # Where the tests run there may be nothing to shut it in with.
    "subagents": {"sandbox": "none"},
    "services": {
        "gateway": {"command": _STAYS, "priority": "P0"},
        "search": {"command": _STAYS},
        "ide": {"command": _STAYS},
    },
    "jobs": {
        "morning-mail": {"schedule": "30 7 * * *", "zone": "Europe/Berlin", "command": ["/bin/true"]},
        "study": {"schedule": "0 2 * * *", "zone": "Europe/Berlin", "command": ["/bin/true"], "priority": "P2"},
    },
}
AXIOM: dict[str, Any] = {
    "health": {"interval": "1s"},
    "services": {"scheduler": {"command": _STAYS}, "board": {"command": _STAYS}},
    "jobs": {"index": {"schedule": "15 * * * *", "zone": "UTC", "command": ["/bin/true"]}},
}
_MINUTE, _HOUR = 60.0, 3600.0


def furnish(coz: LiveNode, axiom: LiveNode) -> None:
    """Give nodes that are not running yet somebody to tell, and the first one a past, a queue, and a repository."""
    for node in (coz, axiom):
        node.home.alert_urls.write_text("json://127.0.0.1:9/\n")
        node.home.alert_urls.chmod(0o600)
    now = time.time()
    workspace: Path = coz.home.workspace
    full = usage(Path("/")).percent
    coz.home.logs.mkdir(parents=True, exist_ok=True)
    (workspace / "QUEUE.md").write_text(
        "# Queue\n"
        "[seq:142] [depends:141] [agent:code-intel] build the frontend\n"
        "[seq:143] [depends:142] [agent:coz] deploy it to the board, and tell axiom\n"
    )
    for at, event in _past(now):
        _write(coz, now - at, "", event)
    for minute in range(360, 0, -1):
        _write(coz, now - minute * _MINUTE, "metrics-", _measured(360 - minute, full))
    git = ["git", "-c", "user.name=coz", "-c", "user.email=coz@home", "-C", str(workspace)]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    moment = {
        "GIT_COMMITTER_DATE": f"@{int(now - 2.5 * _HOUR)} +0000",
        "GIT_AUTHOR_DATE": f"@{int(now - 2.5 * _HOUR)} +0000",
    }
    for words in (["init", "-q", "-b", "main"], ["add", "QUEUE.md"], ["commit", "-q", "-m", "the workspace"],
                  ["update-ref", "refs/remotes/backup/main", "HEAD"]):  # fmt: skip
        subprocess.run([*git, *words], env={**own, **moment}, check=True, stdin=subprocess.DEVNULL)


def busy(coz: LiveNode) -> None:
    """Give a node that is running something to do."""
    made = coz.cli("spawn", "--task", "read the release notes", "--", *_STAYS)
    assert made.returncode == 0, made.stderr


def _write(node: LiveNode, at: float, kind: str, what: dict[str, Any]) -> None:
    line = {"at": iso(at), "node": node.name, **what}
    assert append(node.home.logs / f"{kind}{day_of(at)}.jsonl", json.dumps(line).encode() + b"\n")


def _past(now: float) -> list[tuple[float, dict[str, Any]]]:
    """What happened, and how many seconds ago."""
    about = {"trace_id": "", "span_id": "", "correlation_id": ""}
    told: list[tuple[float, dict[str, Any]]] = [
        (9.2 * _HOUR, {"event": "node.started", "pid": 811}),
        (8.6 * _HOUR, {"event": "peer.gone", "peer": "axiom"}),
        (8.4 * _HOUR, {"event": "peer.back", "peer": "axiom"}),
        (5.1 * _HOUR, {"event": "service.exited", "name": "search", "reason": "out of memory (SIGKILL)"}),
        (5.1 * _HOUR - 0.2, {"event": "service.started", "name": "search"}),
        (2.2 * _HOUR, {"event": "mode.changed", "mode": "degraded", "before": "normal", "why": "disk 87 % full"}),
        (2.1 * _HOUR, {"event": "mode.changed", "mode": "normal", "before": "degraded", "why": "the causes are gone"}),
        (0.1 * _HOUR, {"event": "node.stopped", "pid": 811}),
    ]
    return [(ago, {"event": said["event"], **about, **said}) for ago, said in told]


def _measured(minute: int, full: float) -> dict[str, Any]:
    """The figures of one minute: a quiet node that studies for a while."""
    busy = max(0.0, math.sin((minute - 90) / 45)) if 90 < minute < 232 else 0.0
    ripple = (minute * 7919 % 13) / 13
    return {
        "seconds": 60.0,
        "kinds": {"task": {"n": round(4 * busy + ripple), "errors": int(minute == 180), "seconds": 3.0, "max": 1.0}},
        "rss": int((31 + 6 * busy + ripple) * (1 << 20)), "cpu": round(0.6 + 24 * busy + 2 * ripple, 1),
        "disk": round(full - 3 + minute / 120, 1), "lag": round(0.002 + 0.02 * busy * ripple, 3), "open": round(2 * busy),
        "queued": 3 if 40 < minute < 60 else 0, "mode": "normal",
    }  # fmt: skip
