"""A node whose memory cannot be read: it is there, says so, and takes nothing (spec.md, sections 1 and 6: F4, emergency).

Rules kept here: nothing but the reason is written: the mark for the next start, our part of HEARTBEAT.md, and that a person was
told; a peer is told to keep its messages, and nothing is confirmed; what people ask is answered with the reason and the mend.

Left to others: reading the memory (store.memory), rebuilding it (work.rebuild), ending the emergency (health).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from typing import Any

import msgspec

from outlast import __version__
from outlast.alerts import Alerts
from outlast.clock import Clock, iso
from outlast.errors import DurabilityError
from outlast.home import Home
from outlast.net.http import HttpLimits, Request, Response
from outlast.net.server import HttpServer
from outlast.net.tls import server_context
from outlast.notify import Manager
from outlast.quantity import size
from outlast.settings import Config
from outlast.store import durable, heartbeat
from outlast.store.events import EventLog
from outlast.work.notifier import Notifier

__all__ = ["Stranded"]

_MEND = "mend that, then ansible-playbook playbooks/recover-state.yml, then outlast resume --reason WHY"
_LATER = {"retry-after": "60"}


class Stranded:
    """What runs in the place of a node, until somebody stops it."""

    def __init__(self, config: Config, home: Home, why: str, clock: Clock) -> None:
        """Say why, where people look."""
        self.events = EventLog(home.logs, config.node, clock)
        self._config = config
        self._home = home
        self._why = why
        self._since = iso(clock.time())
        alerts = Alerts(self.events, clock)
        # What was raised before is not looked at here, and not over because of that.
        self._notifier = Notifier(config, home, self.events, clock, alerts, settles_s=math.inf)
        alerts.found("memory", "now", f"{why}; {_MEND}")
        with contextlib.suppress(DurabilityError, OSError):
            if not home.emergency.exists():
                durable.replace(home.emergency, f"{why}\n".encode())
            heartbeat.show(home.heartbeat, f"Outlast: emergency, {why}; {_MEND}")

    async def run(self, stop: asyncio.Event, manager: Manager | None = None) -> None:
        """Answer until ``stop`` is set. Raises OSError or OutlastError when it cannot listen."""
        manager = manager or Manager()
        outside = HttpServer(self._outside, HttpLimits(body_bytes=size(self._config.messages.body_limit)))
        inside = HttpServer(self._inside, HttpLimits(body_bytes=256 << 10))
        telling = asyncio.create_task(self._notifier.run())
        try:
            listen = self._config.listen
            await outside.start_tcp(listen.host, listen.port, server_context(self._home.tls, listen.tls))
            await inside.start_unix(str(self._home.socket))
            manager.ready("emergency: the memory cannot be read")
            waiting = asyncio.create_task(stop.wait())
            while not waiting.done():
                await asyncio.wait({waiting}, timeout=manager.beat_s or None)
                manager.alive("emergency: the memory cannot be read")
            manager.stopping("stopping")
        finally:
            telling.cancel()
            await inside.close()
            await outside.close()

    async def _outside(self, request: Request) -> Response:
        if request.path == "/healthz":
            return _json(200, {"status": "alive", "node": self._config.node})
        return _json(503, {"ready": False, "reasons": ["emergency"]}, _LATER)

    async def _inside(self, request: Request) -> Response:
        if request.path == "/status":
            return _json(200, self.status())
        return _json(503, {"error": f"{self._why}; {_MEND}"})

    def status(self) -> dict[str, Any]:
        """What ``outlast status --json`` prints, as far as it is known."""
        return {
            "node": self._config.node,
            "alive": True,
            "ready": False,
            "reasons": ["emergency"],
            "mode": "emergency",
            "mode_reasons": [self._why],
            "since": self._since,
            "pid": os.getpid(),
            "version": __version__,
            "port": self._config.listen.port,
            "services": {},
            "channels": {},
            "tasks": {"open": 0},
            "handoffs": {"open": 0},
            "refused": {},
            "open": [],
            "skew_s": {},
            "disk_percent": 0.0,
            "alerts": [{"name": "memory", "urgency": "now", "text": f"{self._why}; {_MEND}", "since": self._since}],
            "recovered": [],
        }


def _json(status: int, value: object, headers: dict[str, str] | None = None) -> Response:
    return Response(status, msgspec.json.encode(value), {"content-type": "application/json", **(headers or {})})
