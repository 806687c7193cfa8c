"""``outlast verify``: the node checked from the outside in, as one report. Nothing is changed."""

from __future__ import annotations

import asyncio
from typing import Any

from outlast.cli.talk import order
from outlast.config import Config
from outlast.errors import HttpError, OutlastError, PeerError
from outlast.home import Home
from outlast.net import client
from outlast.net.http import Response
from outlast.quantity import duration

__all__ = ["check"]


def check(home: Home, config: Config) -> dict[str, Any]:
    """Its own status, /readyz over the network, and a signed ping to every peer. Raises NotRunning."""
    status = order(home, "status")
    findings: list[dict[str, str]] = []

    def find(field: str, wrong: str, mend: str) -> None:
        findings.append({"field": field, "wrong": wrong, "mend": mend})

    try:
        ready = asyncio.run(_readyz(config))
        if ready.status != 200:
            find("/readyz", f"not ready: {', '.join(status['reasons']) or ready.status}", "see `outlast status`")
    except (PeerError, HttpError) as error:
        find("listen", f"the node's own port does not answer: {error}", "see `outlast tail`")
    pings: dict[str, Any] = {}
    for peer in sorted(config.peers):
        try:
            pings[peer] = order(home, "ping", {"peer": peer})
            if abs(skew := pings[peer]["skew_s"]) > duration(config.health.clock_skew):
                find("clock", f"{peer}'s clock is {skew:+.0f} s from ours", "switch time synchronisation on, on both")
        except OutlastError as error:
            pings[peer] = {"peer": peer, "ok": False, "error": str(error)}
            find(
                f"peers.{peer}",
                str(error),
                f"see that {peer} runs and has room on its disk, and what `outlast status` says of {config.node}; "
                "then run ansible-playbook site.yml: it brings keys and addresses up to date",
            )
    # Once more, so that the pings are in it.
    return {
        "node": config.node,
        "ok": not findings,
        "findings": findings,
        "status": order(home, "status"),
        "pings": pings,
    }


async def _readyz(config: Config) -> Response:
    host = config.listen.host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)
    address = f"[{host}]" if ":" in host else host
    return await client.request(f"http://{address}:{config.listen.port}", "GET", "/readyz", connect_s=5.0, total_s=10.0)
