"""What a running node answers about itself: ``outlast status --json`` and ``outlast channel --json``.

Rules kept here: it is read from what the parts know, costs no write, and holds no secret.

Left to others: how people see it (cli.show, cli.channel, the dashboard).
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from outlast import __version__
from outlast.clock import iso

if TYPE_CHECKING:
    from outlast.node import Node

__all__ = ["channels", "status"]

_SHOWN = 20
_VERDICTS = ("done", "failed", "in doubt", "returned")


def status(node: Node) -> dict[str, Any]:
    """How the node is. Raises DurabilityError."""
    reasons, standing = node.reasons(), node.health.standing
    return {
        "node": node.config.node,
        "alive": True,
        "ready": not reasons,
        "reasons": reasons,
        "mode": standing.mode,
        "mode_reasons": list(standing.reasons),
        "shed": [asdict(one) for one in node.health.shed],
        "since": iso(node.since),
        "pid": os.getpid(),
        "version": __version__,
        "port": node.config.listen.port,
        "services": node.services(),
        "channels": {peer: _channel(node, peer) for peer in node.config.peers},
        "tasks": _units(node, "task"),
        "handoffs": _units(node, "handoff"),
        "refused": node.ingress.refused,
        "open": [
            {"unit": name, "kind": unit.kind, "peer": unit.peer, "what": unit.what, "since": unit.since}
            for name, unit in node.state.units.items()
            if unit.status == "open"
        ][:_SHOWN],
        "skew_s": node.courier.skew,
        "disk_percent": node.health.disk,
        "alerts": msgspec.to_builtins(node.health.alerts),
        "recovered": msgspec.to_builtins(node.state.recovered),
        **node.upkeep.report(),
    }


def channels(node: Node) -> dict[str, Any]:
    """How the channel to each peer is. Raises DurabilityError."""
    return {
        "node": node.config.node,
        "channels": {
            peer: {**_channel(node, peer), **outbox.report(), "skew_s": node.courier.skew[peer]}
            for peer, outbox in node.outboxes.items()
        },
    }


def _units(node: Node, kind: Literal["task", "handoff"]) -> dict[str, int]:
    closed = node.state.closed
    return {
        "open": len(node.state.open(kind)),
        **{verdict: closed.get(f"{kind} {verdict}", 0) for verdict in _VERDICTS},
    }


def _channel(node: Node, peer: str) -> dict[str, Any]:
    outbox = node.outboxes[peer]
    trouble = outbox if outbox.last_error else node.exchanges[peer]
    return {
        **node.ledger.channel(peer).report(),
        "breaker": outbox.breaker.status,
        "queued": node.ledger.queued(peer),
        "hour": outbox.hour(),
        "last_error": trouble.last_error,
        "last_error_at": trouble.last_error and iso(trouble.error_at),
    }
