"""Whether a gateway that was given something new truly works, and who keeps their hands off it meanwhile.

Rules kept here: it works when calls that read its database are answered, by one that was started since; one that is held,
rests or has no port is not waited for; while a proof runs it stands in a file for how long at most, so that nobody else
restarts or mends what is on trial, and one that was cut off holds nobody up for ever.

Left to others: what is on trial, and what follows (openclaw.applying); the remedies (openclaw.watch).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time

from outlast.errors import HttpError, PeerError
from outlast.net import client
from outlast.openclaw import alive, wishes
from outlast.openclaw.place import Place
from outlast.store import durable, regular

__all__ = ["begin", "end", "is_running", "is_stopped", "truth"]

_LOOK_S, _SPARE_S, _TELL_S = 0.5, 120.0, 10.0
# In these an order is taken at once; a person's stop is left alone.
_TAKES = ("running", "waiting", "resting", "held", "blocked")


def begin(place: Place, within: float) -> None:
    """Say that what runs is on trial for so many seconds, and what follows of it. Raises DurabilityError."""
    durable.replace(place.proving, f"{time.time() + within + _SPARE_S:.0f}\n".encode())


def end(place: Place) -> None:
    """Say that it is over. Raises nothing: it ends by itself."""
    with contextlib.suppress(OSError):
        place.proving.unlink()


def is_running(place: Place, now: float) -> bool:
    """Is something on trial? What cannot be read is none."""
    try:
        until = float(regular.read(place.proving))
    except (OSError, ValueError):
        return False
    # One that a clock was put back under would hold for longer than any takes.
    return now < until < now + 24 * 3600.0


def is_stopped(place: Place) -> bool:
    """Did a person stop it?"""
    there = wishes.launched(place)
    # They start it with what is there then.
    return there is not None and there.phase == "stopped"


async def truth(place: Place, since: float, within: float) -> str:
    """Why the gateway, started after ``since``, does not work; nothing where it does, or where a person stopped it."""
    asked, first, why = False, 0, "its service does not run"
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if is_stopped(place):
            return ""
        there = wishes.launched(place)
        if there is not None and there.since < since:
            if there.phase in _TAKES and not asked:
                # A person who stops it now has their way.
                asked, why = (
                    bool(wishes.ask(place, "restart", "it gets something new", yields=True)),
                    "it has not ended",
                )
        elif there is not None and there.phase in ("held", "resting", "blocked"):
            return there.reason
        elif there is not None and there.phase == "running":
            first = first or there.starts
            # It may have been killed by somebody; it is not twice.
            if there.starts > first + 1:
                return _last_end(place)
            if not (why := (await alive.truth(place)).why):
                await _tell_runtime(place)
                return ""
        await asyncio.sleep(_LOOK_S)
    return f"not healthy in time: {why}"


async def _tell_runtime(place: Place) -> None:
    """It would see that by itself, some seconds after everybody who asks it now."""
    where = f"unix:{place.home.socket}"
    with contextlib.suppress(PeerError, HttpError):
        await client.request(where, "POST", "/openclaw/look", body=b"null", connect_s=_TELL_S, total_s=_TELL_S)


def _last_end(place: Place) -> str:
    """What its launcher said when it ended last."""
    with contextlib.suppress(OSError):
        lines = regular.read(place.printed).decode("utf-8", "replace").splitlines()
        ends = [
            line.partition("] gateway ")[2] for line in lines if line.startswith("[outlast ") and " ended with " in line
        ]
        if ends:
            return _plainly(ends[-1])
    return "it ends again and again"


def _plainly(line: str) -> str:
    """What a launcher said of an end, without what a person cannot use: moments, and where a bundle lies."""
    said, _, more = re.sub(r"; again in \d+ s$", "", line).partition(": ")
    parts = [re.sub(r"^\d{4}-\d\d-\d\dT\S+ ", "", part) for part in more.split(" | ") if "stability bundle" not in part]
    return ": ".join(part for part in (said, " | ".join(parts)) if part)
