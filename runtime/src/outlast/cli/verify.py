"""``outlast verify``: the node checked from the outside in, as one report. Nothing is changed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from outlast.cli.talk import order
from outlast.errors import HttpError, KeyFileError, OutlastError, PeerError
from outlast.home import Home
from outlast.net import client
from outlast.net.http import Response
from outlast.net.tls import Pinned
from outlast.quantity import duration
from outlast.settings import Config
from outlast.store import certificates

__all__ = ["check"]


def check(home: Home, config: Config) -> dict[str, Any]:
    """Its own status, /readyz over the network, and a signed ping to every peer. Raises NotRunning."""
    status = order(home, "status")
    findings: list[dict[str, str]] = []

    def find(field: str, wrong: str, mend: str) -> None:
        findings.append({"field": field, "wrong": wrong, "mend": mend})

    try:
        ready = asyncio.run(_readyz(config, home))
        if ready.status != 200:
            for reason in status["reasons"] or [f"answers {ready.status}"]:
                find(*_unready(reason, status, home, config))
    except (PeerError, HttpError, KeyFileError) as error:
        find("listen", f"the node's own port does not answer: {error}", "see `outlast tail`")
    pings: dict[str, Any] = {}
    # A node whose memory cannot be read has no channels, and sends nothing.
    for peer in sorted(config.peers.keys() & status["channels"].keys()):
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


def _unready(reason: str, status: dict[str, Any], home: Home, config: Config) -> tuple[str, str, str]:
    """Field, what is wrong and the mend, of a reason why the node takes no work."""
    why = "; ".join(status["mode_reasons"]) or "the reason is not known"
    told: dict[str, tuple[str, str, str]] = {
        "emergency": (
            "mode",
            f"emergency: {why}",
            "mend that (`outlast status` there tells more), then there: outlast resume --reason WHY",
        ),
        "maintenance": (
            "mode",
            "maintenance: MAINTENANCE_MODE stands in HEARTBEAT.md",
            f"when you are done: ansible-playbook playbooks/maintenance.yml -e state=off, or take it out of {home.heartbeat}",
        ),
        "agent command missing": (
            "outlast_agent.command",
            f"{config.agent.command[0]} is not there, or may not be run",
            "put it there, or correct the variable in the inventory and run site.yml",
        ),
        "workspace read-only": (
            "disk",
            f"{home.workspace} cannot be written",
            "look at dmesg, at mount, and at its owner",
        ),
        "writes fail": ("disk", "writes fail", "look at dmesg there, and at what `outlast status` says"),
    }
    return told.get(reason, ("/readyz", f"not ready: {reason}", "see `outlast status`"))


async def _readyz(config: Config, home: Home) -> Response:
    host = config.listen.host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)
    address = f"[{host}]" if ":" in host else host
    scheme, pinned = "http", None
    if tls := config.listen.tls:
        # As a peer sees it: the certificate that lies here, and no longer than it holds.
        scheme, pinned = "https", Pinned((certificates.read(home.tls / tls.certificate).pin,), time.time())
    endpoint = f"{scheme}://{address}:{config.listen.port}"
    return await client.request(endpoint, "GET", "/readyz", connect_s=5.0, total_s=10.0, pinned=pinned)
