"""Runs one node's gateway: starts it, starts it again, ends it, and says how it is.

Rules kept here:

* One gateway at a time, in a process group of its own that is ended as a whole: asked, given
  ``stop_within``, killed, and proven gone with its port. What an earlier launcher left is killed by its mark, nobody else ever.
* It starts again what ended, with backoff, and rests where that does not help (core.supervision). What ended because of its
  configuration or its state (exit code 78) is not started again before one of these changed, or a person or the runtime says
  so; the lease of one that was killed is waited for. While somebody works on its state nothing is started. A port that another
  program has is waited for, and the program named. So no service manager meets a crash loop.
* What it knows lies in a file, for the runtime and for people; what the gateway prints is kept, bounded; the manager's own log
  gets one line for each thing that happens.

Left to others: whether it truly works, and what to do about it (openclaw.watch); starting this (roles/service).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import signal
import sys
import time
from typing import Any

import msgspec

from outlast.clock import iso
from outlast.core.gateway import CONFIGURATION, Launched, Phase, last_words, may_pass
from outlast.core.record import one_line
from outlast.core.supervision import Policy, Supervised, asked, begun, due_in, ended
from outlast.errors import OutlastError
from outlast.openclaw import wishes
from outlast.openclaw.place import Place
from outlast.openclaw.remedies import doctor, program, sweep
from outlast.openclaw.stranger import is_taken, who
from outlast.quantity import duration
from outlast.work.guard import Guard
from outlast.work.marks import kill_marked
from outlast.work.process import Output, Process, within

__all__ = ["Launcher"]

_PRINTED_BYTES, _TAIL_BYTES = 1 << 20, 16 << 10
_LOOK_S, _GONE_S = 2.0, 10.0
_BASE_S, _MAX_S, _LEASE_S = 1.0, 60.0, 60.0
_FROM_OUTSIDE = {-signal.SIGKILL, -signal.SIGTERM}


class _Said(Output):
    """What it prints, and the last of that once more, for the reason of its end."""

    tail = b""

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.tail = (self.tail + data)[-_TAIL_BYTES:]
        super().write(data)


class Launcher:
    """Runs one node's gateway."""

    def __init__(self, place: Place) -> None:
        self._place = place
        settings = place.settings
        self._policy = Policy(
            "always", _BASE_S, _MAX_S, settings.most, duration(settings.within), duration(settings.rest)
        )
        self._guard = Guard()
        self._output = _Said(place.printed, _PRINTED_BYTES)
        self._stands = Supervised()
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()
        self._said = wishes.launched(place, dead=True) or Launched("waiting", time.time(), os.getpid())
        self._written = False
        self._held: tuple[object, ...] | None = None
        self._done = ""
        self._next: wishes.Wish | None = None

    async def run(self) -> None:
        """Run it until a signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        bell = wishes.bell(self._place)
        loop.add_reader(bell, self._rung, bell)
        self._sweep(self._said)
        sweep(self._place)
        stopped = self._said.reason if self._said.phase == "stopped" else None
        self._said = Launched("waiting", time.time(), os.getpid(), done=self._said.done, said=self._said.said)
        if stopped is not None:
            self._note("stopped", stopped)
        while not self._stop.is_set():
            if await self._carry_out():
                continue
            if self._said.phase in ("stopped", "held") or wishes.is_kept_stopped(self._place):
                await self._pause(None)
            elif wait := due_in(self._stands, time.monotonic()):
                await self._pause(wait)
            elif is_taken(self._place.settings.port):
                await self._blocked()
            else:
                await self._once()
        if self._said.phase != "stopped":
            self._note("ended", "its service manager stopped it")
        self._output.close()

    async def _once(self) -> None:
        """Start it, and see it to its end."""
        self._stands = begun(self._stands, self._policy, time.monotonic())
        self._output.tail = b""
        began = time.time()
        try:
            (self._place.home.root / "var" / "tmp").mkdir(mode=0o700, parents=True, exist_ok=True)
            await asyncio.to_thread(_finish_restore, self._place)
            process = await Process.start(
                program(self._place, "gateway", ["gateway", "run"]), self._output, self._guard, told=self._wake.set
            )
        except (OutlastError, OSError) as error:
            self._over(None, str(error), began)
            return
        self._note("running", pid=process.pid, run=process.run, since=process.since, starts=self._said.starts + 1)
        self._finish("started")
        self._tell(f"started, pid {process.pid}")
        while process.code is None and not self._stop.is_set() and not self._is_to_end():
            await self._pause(None)
        on_demand = process.code is None
        if on_demand:
            self._note("ending", "it is being ended", pid=process.pid)
        code = await process.end()
        await self._prove_gone()
        if not on_demand:
            # Who is killed did not know, and what it said before is no reason.
            said = "" if code in _FROM_OUTSIDE else last_words(self._output.tail)
            self._over(code, said, process.since)
            return
        self._stands = asked(time.monotonic())
        self._note("waiting", "it was ended on demand", code=code)
        self._tell(f"ended on demand: {_in_words(code)}")

    def _is_to_end(self) -> bool:
        """Does anybody wish for something that its end comes before?"""
        wish = wishes.pending(self._place)
        if wish is not None and wish.action != "start":
            return True
        wish = self._take()
        if wish is not None and wish.action != "start":
            # A newer one came in between.
            self._next = wish
            return True
        self._finish("it ran already")
        return False

    def _over(self, code: int | None, said: str, began: float) -> None:
        """It ended by itself, or could not be started."""
        reason = one_line(f"{_in_words(code)} after {time.time() - began:.0f} s{said and ': '}{said}", 500)
        if code == CONFIGURATION and not may_pass(said):
            self._held = _seen(self._place)
            self._note("held", reason, code=code)
            self._tell(f"{reason}; it is started again when its configuration or state has changed, or on demand")
            return
        self._stands = ended(self._stands, self._policy, time.monotonic(), well=code == 0, uniform=random.uniform)
        if code == CONFIGURATION:
            # Sooner it finds the same.
            due = max(self._stands.due, time.monotonic() + _LEASE_S)
            self._stands = dataclasses.replace(self._stands, due=due)
        wait = due_in(self._stands, time.monotonic()) or 0.0
        phase: Phase = "resting" if self._stands.state == "resting" else "waiting"
        self._note(phase, reason, code=code, due=time.time() + wait)
        self._tell(f"{reason}; again in {wait:.0f} s")

    async def _blocked(self) -> None:
        """Somebody else has its port."""
        port = self._place.settings.port
        reason = f"port {port} is taken by {await asyncio.to_thread(who, port)}"
        if (self._said.phase, self._said.reason) != ("blocked", reason):
            self._note("blocked", reason)
            self._finish(reason)
            self._tell(f"openclaw.port: {reason}; end that program, or give the gateway another port")
        await self._pause(_LOOK_S)

    async def _carry_out(self) -> bool:
        """Do what is wished while it does not run; whether there was something."""
        wish = self._take()
        if wish is None:
            # A wish that cannot be read, or a change that may have mended what it was held for.
            if self._said.phase == "held" and self._held != _seen(self._place):
                self._stands = asked(time.monotonic())
                self._note("waiting", "its configuration or state was changed")
                return True
            return False
        if self._may_not(wish):
            self._finish(f"not done: it is stopped ({self._said.reason})")
            return True
        self._stands = asked(time.monotonic())
        if wish.action == "stop":
            self._note("stopped", wish.why)
            self._finish("stopped")
            self._tell(f"stopped: {wish.why}")
        elif wish.action == "doctor":
            self._note("mending", f"its doctor runs: {wish.why}")
            self._tell(f"its doctor runs: {wish.why}")
            said = await doctor(self._place, self._guard, self._output, self._stop)
            self._tell(said)
            self._note("waiting", said)
            self._finish(said)
        else:
            self._note("waiting", wish.why)
        return True

    def _may_not(self, wish: wishes.Wish) -> bool:
        if wish.action == "stop":
            return False
        return wish.yields and self._said.phase == "stopped" or wishes.is_kept_stopped(self._place)

    def _take(self) -> wishes.Wish | None:
        wish, self._next = self._next, None
        if wish is None and not wishes.is_pending(self._place):
            return None
        wish = wish or wishes.take(self._place)
        self._done = wish.name if wish else ""
        return wish

    def _finish(self, said: str) -> None:
        """What was wished for is done."""
        if self._done:
            self._say(done=self._done, said=said)
            self._done = ""

    async def _pause(self, seconds: float | None) -> None:
        """Wait, for a signal, an end, a wish or a change at most."""
        until = time.monotonic() + (_LOOK_S if seconds is None else seconds)
        while (left := until - time.monotonic()) > 0 and not self._stop.is_set():
            if await within(min(left, _LOOK_S), self._wake) or wishes.is_pending(self._place):
                break
            if not self._written:
                self._written = wishes.say(self._place, self._said)
        self._wake.clear()

    async def _prove_gone(self) -> None:
        deadline, port = time.monotonic() + _GONE_S, self._place.settings.port
        while is_taken(port):
            if time.monotonic() > deadline:
                self._tell(f"port {port} is still open, by {await asyncio.to_thread(who, port)}")
                return
            await asyncio.sleep(0.05)

    def _sweep(self, before: Launched) -> None:
        """Kill what an earlier launcher left, which was killed together with its guard."""
        if not before.run:
            return
        deadline = time.monotonic() + _GONE_S
        killed: set[int] = set()
        while (found := kill_marked(lambda _, run: run == before.run)) and time.monotonic() < deadline:
            killed |= found
            time.sleep(0.05)
        if killed:
            self._tell(f"killed what was left of an earlier gateway: {', '.join(map(str, sorted(killed)))}")

    def _note(self, phase: Phase, reason: str = "", **changes: Any) -> None:
        since = self._said.since if phase == self._said.phase else time.time()
        told = {"launcher": os.getpid(), "pid": 0, "due": 0.0, "since": since, **changes}
        self._say(phase=phase, reason=reason, **told)

    def _say(self, **changes: Any) -> None:
        self._said = msgspec.structs.replace(self._said, **changes)
        self._written = wishes.say(self._place, self._said)

    def _rung(self, bell: int) -> None:
        with contextlib.suppress(OSError):
            os.read(bell, 64)
        self._wake.set()

    def _end(self) -> None:
        self._stop.set()
        self._wake.set()

    def _tell(self, what: str) -> None:
        """For the service manager's log, and between what it printed before and after."""
        line = f"[outlast {iso(time.time())}] gateway {one_line(what, 600)}\n"
        self._output.write(line.encode())
        with contextlib.suppress(OSError):
            sys.stderr.write(line)
            sys.stderr.flush()


def _finish_restore(place: Place) -> None:
    """Carry through one that was cut off: no gateway starts with half of its state. Raises OutlastError, OSError."""
    if place.home.restoring.exists() or (place.snapshots / "restore.json").exists():
        from outlast.openclaw import snapshots

        snapshots.finish(place)


def _seen(place: Place) -> tuple[object, ...]:
    """What a start depends on, as far as a look at it tells."""
    found: list[object] = [os.path.realpath(place.settings.release)]
    for path in (place.config, place.hooks, place.tokens, place.secrets, *place.databases):
        try:
            status = path.stat()
            found.append((path, status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError:
            found.append((path,))
    return tuple(found)


def _in_words(code: int | None) -> str:
    if code is None:
        return "not started"
    if code >= 0:
        return f"ended with exit code {code}"
    return f"killed by {signal.Signals(-code).name if -code in set(signal.Signals) else f'signal {-code}'}"
