"""``outlast channel``: how the channel to each peer is, and was over the last hour."""

from __future__ import annotations

import time
from typing import Any

import click

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import ago, tell
from outlast.cli.talk import NotRunning, order
from outlast.clock import iso
from outlast.core.record import one_line
from outlast.errors import BadInput
from outlast.store.ledgerview import LedgerView

__all__ = ["channel"]


@click.command()
@click.argument("peer", required=False)
@as_json
@click.pass_obj
def channel(where: Where, peer: str | None, as_json: bool) -> int:
    """Show how the channel to each peer is, or to PEER.

    Messages sent and received, gaps and repeats in their numbers, what is queued and since when, the breaker, and how many
    requests of the last hour were taken. While the node is down, what is on its disk, and exit code 3.
    """
    running = True
    try:
        found = order(where.home, "channel")
    except NotRunning as error:
        running, found = False, _on_disk(where)
        if not as_json:
            tell(f"outlast: {error}", err=True)
    channels: dict[str, Any] = found["channels"]
    if peer is not None:
        if peer not in channels:
            known = ", ".join(sorted(channels)) or "none are configured"
            raise BadInput("PEER", f"{found['node']} has no peer {one_line(peer, 40)!r}", f"one of: {known}")
        channels = {peer: channels[peer]}
    if as_json:
        emit({"node": found["node"], "running": running, "channels": channels})
    elif not channels:
        tell(f"{found['node']} has no peers")
    else:
        now = time.time()
        tell("\n".join(line for name, one in sorted(channels.items()) for line in _lines(name, one, now)))
    return 0 if running else 3


def _on_disk(where: Where) -> dict[str, Any]:
    config = where.config
    told: dict[str, Any] = {}
    with LedgerView(where.home.ledger) as ledger:
        for peer in config.peers:
            counted, queued, oldest = ledger.channel(peer)
            told[peer] = {
                **counted.report(),
                "queued": queued,
                "oldest_queued": oldest and iso(oldest),
            }
    return {"node": config.node, "channels": told}


def _lines(peer: str, one: dict[str, Any], now: float) -> list[str]:
    lines = [
        f"{peer}: {_state(one)}",
        f"  sent {one['sent']} (last {ago(one['last_sent'], now)}), received {one['received']} "
        f"(last {ago(one['last_received'], now)}), gaps {one['gaps']}, repeats {one['repeats']}",
    ]
    if one["queued"]:
        again = f", next try in {one['next_try_s']:.0f} s" if one.get("next_try_s") else ""
        lines.append(f"  queued {one['queued']}, the oldest {ago(one['oldest_queued'], now)}{again}")
    if hour := one.get("hour"):
        lines.append(f"  {_hour(hour)}")
    if one.get("given_up"):
        lines.append(f"  given up since the start: {one['given_up']}, the last {one['given_up_last']}")
    if one.get("last_error"):
        lines.append(f"  trouble, {ago(one['last_error_at'], now)}: {one['last_error']}")
    return lines


def _state(one: dict[str, Any]) -> str:
    if "breaker" not in one:
        return "the node is not running"
    skew = one["skew_s"]
    clock = "its clock is not known" if skew is None else f"its clock is {skew:+.3f} s from ours"
    return f"breaker {one['breaker']}, {clock}"


def _hour(hour: dict[str, Any]) -> str:
    when = "last hour" if hour["watched_s"] >= 3600 else f"since the start ({hour['watched_s'] // 60} min)"
    if not hour["tried"]:
        return f"{when}: nothing was sent"
    retries = f", {hour['retries']} of them again" if hour["retries"] else ""
    return f"{when}: {hour['taken']} of {hour['tried']} requests taken ({100 * hour['success']:.0f} %){retries}"
