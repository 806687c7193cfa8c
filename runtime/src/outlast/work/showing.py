"""What the dashboard shows, as one document: how the node and its peers are, and what its files tell of before.

Rules kept here: files are only read, a bounded part of each, in a thread, and only when they changed; git is asked at most once
in ``_GIT_S``; a part that cannot be read is left out, and the rest is shown; moments are told, never ages, so that what did not
change reads the same.

Left to others: who may see it (net.dashboard), the curves and the timeline themselves (core.sparks, core.timeline).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from outlast.clock import iso
from outlast.core.overview import overview
from outlast.core.queuefile import entries
from outlast.core.sparks import WINDOW_S, curves
from outlast.net.neighbours import Neighbours
from outlast.store import git, regular

if TYPE_CHECKING:
    from outlast.upkeep import Around

__all__ = ["Showing"]

_GIT_S, _GIT_TIMEOUT_S = 60.0, 10.0
# New lines come all the time on a busy node.
_LOGS_S = 5.0
# Two days, of which each may be packed and go on.
_NEWEST = 4
_QUEUE_BYTES, _QUEUE_SHOWN = 256 << 10, 40
_DAY_S, _TIMELINE_SHOWN, _RECOVERED_SHOWN = 86_400.0, 60, 10
_OWN_BYTES, _LOG_BYTES = 64 << 10, 512 << 10

# What alerts of such a name are about stands in the timeline itself.
_TWICE = re.compile(r"(mode|service|probe|job|external|peer|feature|subagent)\b")

_T = TypeVar("_T")


class Showing:
    """The document of one node."""

    def __init__(self, around: Around, neighbours: Neighbours) -> None:
        self._around = around
        self._neighbours = neighbours
        self._kept: dict[str, tuple[object, float, Any]] = {}
        self._backup: dict[str, Any] | None = None
        self._backup_due = 0.0
        self._backup_task: asyncio.Task[None] | None = None

    async def document(self) -> dict[str, Any]:
        """All that is shown, as plain values. Raises DurabilityError where the ledger cannot be read."""
        around, home = self._around, self._around.home
        status = around.status()
        self._look_for_backup()
        incidents = await self._of_logs("timeline", "", _LOGS_S, self._timeline)
        metrics = await self._of_logs("metrics", "metrics-", _LOGS_S, self._curves)
        queue = await self._of_file("queue", home.queue_file, self._queue)
        return {
            "node": around.config.node,
            "self": msgspec.to_builtins(overview(status, _OWN_BYTES)),
            "channels": {peer: _still(channel) for peer, channel in status["channels"].items()},
            "refused": status["refused"],
            "open": status["open"],
            "recovered": status["recovered"][-_RECOVERED_SHOWN:],
            "peers": {
                peer: {
                    "state": told.state,
                    "why": told.why,
                    "overview": msgspec.to_builtins(told.overview),
                    "sleeps": peer in around.config.alerts.sleeps,
                }
                for peer, told in self._neighbours.told.items()
            },
            "queue": queue or {"entries": [], "more": 0},
            "timeline": incidents or [],
            "metrics": metrics or [],
            "backup": self._backup,
        }

    def close(self) -> None:
        """Nobody looks any more."""
        if self._backup_task is not None:
            self._backup_task.cancel()

    async def _of_file(self, name: str, path: Path, read: Callable[[], _T]) -> _T | None:
        try:
            found = path.stat()
        except OSError:
            return None
        return await self._keep(name, (found.st_ino, found.st_size, found.st_mtime_ns), 0.0, read)

    async def _of_logs(self, name: str, prefix: str, least_s: float, read: Callable[[], _T]) -> _T | None:
        """What is read from logs of one kind, again when one of them changed, and not more often than in ``least_s``."""
        try:
            logs = sorted(self._around.home.logs.glob(f"{prefix}[0-9]*.jsonl*"))[-_NEWEST:]
            mark = tuple((path.name, path.stat().st_size) for path in logs)
        except OSError:
            return None
        return await self._keep(name, mark, least_s, read)

    async def _keep(self, name: str, mark: object, least_s: float, read: Callable[[], _T]) -> _T | None:
        now = self._around.clock.monotonic()
        if name in self._kept:
            held, at, value = self._kept[name]
            if held == mark or now - at < least_s:
                kept: _T | None = value
                return kept
        try:
            found = await asyncio.to_thread(read)
        except OSError:
            return None
        self._kept[name] = (mark, now, found)
        return found

    def _timeline(self) -> list[Any]:
        from outlast.core.timeline import timeline
        from outlast.store.history import events

        since = self._around.clock.time() - _DAY_S
        found = timeline(events(self._around.home.logs, since, _LOG_BYTES))
        incidents = [one for one in found if not (one.kind == "alert" and _TWICE.match(one.name))]
        told: list[Any] = msgspec.to_builtins(incidents[-_TIMELINE_SHOWN:])
        return told[::-1]

    def _curves(self) -> list[dict[str, Any]]:
        from outlast.store.history import metrics

        now = self._around.clock.time()
        return curves(metrics(self._around.home.logs, now - WINDOW_S, _LOG_BYTES), now)

    def _queue(self) -> dict[str, Any]:
        with regular.opened(self._around.home.queue_file) as file:
            lines = file.read(_QUEUE_BYTES).decode("utf-8", "replace").splitlines()
        found = list(entries(lines))
        return {"entries": msgspec.to_builtins(found[:_QUEUE_SHOWN]), "more": max(0, len(found) - _QUEUE_SHOWN)}

    def _look_for_backup(self) -> None:
        now = self._around.clock.monotonic()
        if now >= self._backup_due and (self._around.home.workspace / ".git").exists():
            self._backup_due = now + _GIT_S
            self._backup_task = asyncio.create_task(self._ask_git())

    async def _ask_git(self) -> None:
        workspace = self._around.home.workspace
        found, elsewhere = await asyncio.to_thread(git.newest, workspace, _GIT_TIMEOUT_S, elsewhere=True), True
        if found is None:
            found, elsewhere = await asyncio.to_thread(git.newest, workspace, _GIT_TIMEOUT_S, elsewhere=False), False
        self._backup = found and {"commit": found[0], "at": iso(found[1]), "elsewhere": elsewhere}


def _still(channel: dict[str, Any]) -> dict[str, Any]:
    """Without the figure that grows every second."""
    return {**channel, "hour": {name: value for name, value in channel["hour"].items() if name != "watched_s"}}
