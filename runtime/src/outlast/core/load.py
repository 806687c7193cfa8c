"""How a node is, for programs: what LOAD_STATUS.json says, and when it has to say something else.

Rules kept here: a word that changes is told at once; figures, which change all the time, only when they have changed much and
were not told for a while: an idle node writes nothing.

Left to others: what the parts know (account.status), and writing it (work.observer).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["in_short", "is_news", "stopped"]

_AGAIN_S = 900.0
# By how much a figure has changed much: at least so much, and so large a share of what it was.
_MUCH = {"cpu_percent": (10.0, 0.5), "load_1m": (1.0, 0.5), "rss_bytes": (1 << 20, 0.1), "disk_percent": (1.0, 0.0)}


def in_short(status: Mapping[str, Any], figures: Mapping[str, float]) -> dict[str, Any]:
    """What a program wants to know of ``outlast status --json``; ``figures`` are those of ``_MUCH`` but for the disk."""
    services = dict(status.get("services", {}))
    services |= {name: one["state"] for name, one in status.get("supervised", {}).items()}
    channels = status.get("channels", {})
    return {
        **{key: status[key] for key in ("node", "version", "pid", "since", "ready", "reasons", "mode")},
        "mode_reasons": status["mode_reasons"],
        "services": services,
        "jobs": _states(status.get("jobs", {})),
        "external": _states(status.get("external", {})),
        "channels": {peer: one["breaker"] for peer, one in channels.items()},
        "queue": {
            "tasks": status["tasks"]["open"],
            "handoffs": status["handoffs"]["open"],
            "messages": sum(one["queued"] for one in channels.values()),
        },
        "alerts": [{"name": one["name"], "urgency": one["urgency"]} for one in status["alerts"]],
        "load": {key: figures[key] for key in ("cpu_percent", "load_1m", "cpus")},
        "memory": {"rss_bytes": figures["rss_bytes"]},
        "disk_percent": status["disk_percent"],
    }


def _states(part: Mapping[str, Any]) -> dict[str, str]:
    """The state of each that a part looks after; of a part that failed there is a text instead."""
    return {name: one["state"] for name, one in part.items() if isinstance(one, Mapping)}


def stopped(told: Mapping[str, Any]) -> dict[str, Any]:
    """What is said last, of what was told before."""
    return {**told, "ready": False, "reasons": ["stopped"], "services": dict.fromkeys(told["services"], "stopped")}


def is_news(told: Mapping[str, Any], now: Mapping[str, Any], age: float) -> bool:
    """Is there to be said something else than was told ``age`` seconds ago? Empty where nothing was told."""
    if not told or _words(told) != _words(now):
        return True
    before, after = _figures(told), _figures(now)
    return age >= _AGAIN_S and any(
        abs(after[name] - before[name]) >= max(least, share * abs(before[name]))
        for name, (least, share) in _MUCH.items()
    )


def _words(told: Mapping[str, Any]) -> dict[str, Any]:
    words = {key: value for key, value in told.items() if key not in ("at", "load", "memory", "disk_percent")}
    # Why a node is degraded may have figures in it that never stand still.
    return {**words, "mode_reasons": len(told["mode_reasons"])}


def _figures(told: Mapping[str, Any]) -> dict[str, float]:
    return {**told["load"], **told["memory"], "disk_percent": told["disk_percent"]}
