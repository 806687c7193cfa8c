"""Keeps a defect of one part from ending the others: what looks after the node must not be what ends it.

Rules kept here: a part that fails is one event (a burst of them counts as one) and an alert, and is run again after a backoff
that doubles from ``FIRST_S`` to ``MOST_S``; one that then runs for ``WELL_S`` is well again, and its alert over. A part that
cannot even be made is left out, with the same alert, until the next start. A part that never fails costs nothing.

Left to others: what a part does (each part), and what must end the node when it fails (node: tasks and health).
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from outlast.alerts import Alerts
from outlast.core.record import one_line
from outlast.store.events import EventLog

__all__ = ["FIRST_S", "MOST_S", "WELL_S", "Isolation", "reported"]

FIRST_S, MOST_S, WELL_S = 1.0, 60.0, 60.0
_WORDS = 200
_MEND = "mend: the event part.failed has the details; where it stays so, go back to the release before"


class Isolation:
    """What becomes of parts that fail, on one node."""

    def __init__(
        self, events: EventLog, alerts: Alerts, first_s: float = FIRST_S, most_s: float = MOST_S, well_s: float = WELL_S
    ) -> None:
        """Times in seconds: the first and the longest backoff, and how long is well."""
        self._events = events
        self._alerts = alerts
        self._first, self._most, self._well = first_s, most_s, well_s

    async def run(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run it for ever, again whenever it ends by itself, until cancelled."""
        loop = asyncio.get_running_loop()
        wait = 0.0
        while True:
            began = loop.time()
            well = loop.call_later(self._well, self._over, name) if wait else None
            try:
                await run()
                error: BaseException = RuntimeError("it ended by itself")
            except Exception as failed:  # noqa: BLE001 (a defect of one is not the end of all)
                error = failed
            except asyncio.CancelledError as failed:
                # What it waited for was cancelled, and not we.
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                error = failed
            finally:
                if well is not None:
                    well.cancel()
            wait = self._first if not wait or loop.time() - began >= self._well else min(2 * wait, self._most)
            self.failed(name, error, f"it is run again within {self._most:g} s")
            await asyncio.sleep(wait)

    def failed(self, name: str, error: BaseException, then: str) -> None:
        """Say that a part failed, and what follows. Raises nothing."""
        # The part that failed may be one that hears of events and alerts.
        with contextlib.suppress(Exception):
            trace = "".join(traceback.format_exception(error))
            self._events.burst("part.failed", f"part {name}", error=repr(error), trace=trace)
        with contextlib.suppress(Exception):
            why = one_line(repr(error), _WORDS)
            self._alerts.found(f"part {name}", "now", f"the part {name} of this node failed ({why}); {then}; {_MEND}")

    def _over(self, name: str) -> None:
        self._alerts.over(f"part {name}")


def reported(report: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a part says of itself, or why it cannot. Raises nothing."""
    try:
        return report()
    except Exception as error:  # noqa: BLE001 (the others have to say something as well)
        return {"error": one_line(repr(error), _WORDS)}
