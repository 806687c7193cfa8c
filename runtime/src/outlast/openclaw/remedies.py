"""OpenClaw's own programs, as the launcher runs them: the gateway, and its doctor while the gateway is stopped.

Rules kept here: the doctor mends state and never the configuration, which is the inventory's: it is given a copy of it, and
what it would have changed there is set aside. It ends within its time, and leaves no copy of a token (``sweep``).

Left to others: when it is run (core.gateway), what is printed (openclaw.launch).
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from outlast.clock import stamp
from outlast.errors import AgentError, DurabilityError
from outlast.openclaw.place import Place
from outlast.quantity import duration
from outlast.store import durable, regular
from outlast.work.guard import Guard
from outlast.work.process import Output, Process, Program, within

__all__ = ["doctor", "program", "sweep"]

_DOCTOR_S, _GRACE_S = 600.0, 10.0
_LOOK_S = 0.5


def program(place: Place, name: str, words: Sequence[str], environment: Mapping[str, str] | None = None) -> Program:
    """One of its programs. It works in /, so that what the runtime started below the home is not taken for it."""
    return Program(
        name,
        [*place.command, *words],
        Path("/"),
        {**place.environment(), **(environment or {})},
        grace_s=duration(place.settings.stop_within) if name == "gateway" else _GRACE_S,
    )


async def doctor(place: Place, guard: Guard, output: Output, stop: asyncio.Event) -> str:
    """Let OpenClaw mend its state; what came of it, in words. Ends early on ``stop``. Raises nothing."""
    scratch = _scratch(place)
    copy = scratch / place.config.name
    try:
        before = regular.read(place.config)
        sweep(place)
        durable.make_dir(scratch)
        # The one includes the other by a relative name.
        durable.replace(scratch / place.hooks.name, regular.read(place.hooks))
        durable.replace(copy, before)
        # Who may not write to its configuration refuses to mend anything.
        told = {"OPENCLAW_CONFIG_PATH": str(copy), "OPENCLAW_CONFIG_READONLY": "0"}
        words = ["doctor", "--fix", "--non-interactive", "--no-workspace-suggestions"]
        began = time.monotonic()
        process = await Process.start(program(place, "doctor", words, told), output, guard)
        while process.code is None and not stop.is_set() and time.monotonic() - began < _DOCTOR_S:
            await within(_LOOK_S, stop)
        late = process.code is None
        code = await process.end()
        aside = _put_away(place, copy, before)
    except (OSError, AgentError, DurabilityError) as error:
        return f"its doctor could not run: {error}"
    finally:
        sweep(place)
    if late:
        return f"its doctor was ended after {time.monotonic() - began:.0f} s{aside}"
    return f"its doctor ended with exit code {code}{aside}"


def sweep(place: Place) -> None:
    """Remove what a doctor was given that was killed: a token is in it. Nobody else's doctor runs. Raises nothing."""
    shutil.rmtree(_scratch(place), ignore_errors=True)


def _scratch(place: Place) -> Path:
    return place.launched.parent / "doctor"


def _put_away(place: Place, copy: Path, before: bytes) -> str:
    """The copy is kept where the doctor changed it."""
    with contextlib.suppress(OSError):
        if regular.read(copy) == before:
            return ""
    kept = durable.set_aside(copy, place.home.trash, stamp(time.time()))
    return f"; what it would change in the configuration is in {kept.name}, in the trash"
