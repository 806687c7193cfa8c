"""The part of the node that watches OpenClaw's gateway: asks it, says how it is, and has done what helps.

Rules kept here: HTTP is asked often, the truth seldom, and soon again after a bad answer; what is found is told when it
changes, never in between; while the gateway is down the node is degraded, and everything else goes on; nothing is done while a
person holds it (an order to stop, maintenance) or something new is on trial, and nothing but what core.gateway says; that it
works and says that it is not ready is told, and nothing is done about it. Nor is anything done on a disk that takes no writes,
and what it said there counts no more once there is room. Its state is copied while it works.

Left to others: ending and starting it (openclaw.launcher, by wishes), what helps when (core.gateway), what a person is told to
do (openclaw.advice), copies (openclaw.snapshots), asking (openclaw.alive).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from outlast.clock import iso
from outlast.control import Order
from outlast.core.gateway import (
    Answer,
    Heard,
    Ladder,
    Launched,
    Limits,
    Remedy,
    State,
    Verdict,
    doubted,
    forgiven,
    hear,
    hopeless,
    step,
    verdict,
)  # fmt: skip
from outlast.core.plainjson import to_json
from outlast.core.record import one_line
from outlast.errors import DurabilityError, OutlastError
from outlast.openclaw import advice, alive, proving, wishes
from outlast.openclaw.place import Place
from outlast.quantity import duration
from outlast.store import durable, regular
from outlast.store.kept import read_kept

if TYPE_CHECKING:
    from outlast.openclaw.settings import OpenClaw
    from outlast.upkeep import Around

__all__ = ["Gateway", "Known", "told"]

_CAUSE, _CONFIG, _COPIES, _READY = "openclaw", "openclaw configuration", "openclaw snapshots", "openclaw readiness"
_SURE_S, _AGAIN_S = 5.0, 900.0
# A service manager needs a moment at a boot; and who stopped it may have forgotten.
_MOMENT_S, _FORGOTTEN_S = 60.0, 3600.0
# A plugin that is exchanged, a suspension, a channel that connects again.
_UNREADY_S = 300.0
_ODD = 2
# What health calls a disk without room, and one that takes no write.
_NO_DISK = ("disk", "writes")
_TOLD = {"broken", "down", "crash-loop"}


class Known(msgspec.Struct):
    """What is kept over a start of ours. ``since``, ``copied``: seconds since 1970."""

    state: State = "starting"
    since: float = 0.0
    why: str = ""
    ladder: Ladder = Ladder()
    copied: float = 0.0


class Gateway:
    """The gateway of one node, as its runtime sees it."""

    def __init__(self, around: Around, settings: OpenClaw, limits: Limits | None = None) -> None:
        self.place = Place(around.home, settings)
        self._around = around
        self._limits = limits or Limits()
        self._alive_s, self._truth_s = duration(settings.alive_every), duration(settings.truth_every)
        self._start_s, self._copy_s = duration(settings.start_within), duration(settings.snapshot_every)
        self._heard = Heard()
        self._launched: Launched | None = None
        self._true_at = 0.0
        self._unready, self._unready_since = "", 0.0
        self._asked_at = float("-inf")
        self._copying: asyncio.Task[None] | None = None
        self._copy_due = 0.0
        self._config: tuple[int, ...] = ()
        self._odd = 0
        self._full = False
        self._looking = asyncio.Lock()
        self._told: tuple[bool, ...] = ()
        self._done = ""
        kept = read_kept(self.place.known, Known, around.home.trash, around.events, around.clock, "openclaw.forgotten")
        self._known = kept or Known(since=around.clock.time())

    def orders(self) -> dict[str, Order]:
        """``openclaw/look``: ask now, the truth as well, and say how it is."""

        async def look(_: bytes) -> object:
            await self.look(true=True)
            return self.report()

        return {"openclaw/look": look}

    async def run(self) -> None:
        """Watch for ever, until cancelled."""
        try:
            while True:
                await self.look()
                unsure = self._heard.http or self._heard.rpc or self._known.state != "working"
                await asyncio.sleep(min(self._alive_s, _SURE_S) if unsure else self._alive_s)
        finally:
            if self._copying is not None:
                self._copying.cancel()

    async def look(self, *, true: bool = False) -> None:
        """Look once, ask what is due (the truth in any case where ``true``), and have done what is to be done."""
        # A person who asks at the same time must not have one moment counted twice.
        async with self._looking:
            await self._look(true=true)

    async def _look(self, *, true: bool) -> None:
        was_full, self._full = self._full, self._is_full()
        if was_full and not self._full:
            self._heard = forgiven(self._heard)
        self._launched = launched = wishes.launched(self.place)
        if launched is not None and launched.phase == "running":
            self._hear(launched, await alive.here(self.place))
            now = self._around.clock.monotonic()
            soon = doubted(self._heard)
            if true or now - self._asked_at >= (min(self._truth_s, _SURE_S) if soon else self._truth_s):
                self._asked_at = now
                self._hear(launched, await alive.truth(self.place))
            self._unready = "" if doubted(self._heard) else await alive.unready(self.place)
        # Questions take their time: somebody may have stopped it, or started it anew, since.
        self._launched = launched = wishes.launched(self.place)
        self._settle(verdict(launched, self._heard, self._around.clock.time(), self._start_s), launched)
        self._look_at_readiness()
        self._look_at_config()
        self._copy()

    def _hear(self, launched: Launched, answer: Answer) -> None:
        self._heard = hear(self._heard, launched.pid, answer)
        if answer.by == "rpc" and not answer.bad:
            self._true_at = self._around.clock.time()

    def _settle(self, found: Verdict, launched: Launched | None) -> None:
        """Tell what changed, and take the next step where one is due."""
        around, known = self._around, self._known
        before, now = msgspec.structs.replace(known), around.clock.time()
        if found.state != known.state:
            known.state, known.since = found.state, now
            around.events.emit("openclaw.state", state=found.state, reason=found.why)
        known.why = found.why
        # On a disk that takes nothing, whatever is started anew breaks again; what broke by it is mended when there is room.
        held = around.standing().mode == "maintenance" or wishes.is_pending(self.place) or self._is_full()
        # Who has something new on trial there takes it back where it does not work.
        held = held or proving.is_running(self.place, now)
        phase = launched.phase if launched is not None else ""
        known.ladder, remedy = step(
            known.ladder,
            found,
            self._limits,
            now,
            tried=phase in ("held", "resting"),
            useless=hopeless(found.why),
            held=held,
        )
        if remedy is not None:
            self._do(remedy, found)
        self._show(found, phase)
        if known != before:
            with contextlib.suppress(DurabilityError):
                durable.replace(self.place.known, to_json(known))

    def _is_full(self) -> bool:
        return any(self._around.alerts.holds(name) for name in _NO_DISK)

    def _do(self, remedy: Remedy, found: Verdict) -> None:
        self._around.events.emit("openclaw.remedy", remedy=remedy, reason=found.why)
        self._done = f"{remedy}, {iso(self._around.clock.time())}"
        if remedy != "ask":
            with contextlib.suppress(DurabilityError):
                wishes.ask(self.place, remedy, one_line(f"{found.state}: {found.why}", 300), yields=True)

    def _show(self, found: Verdict, phase: str) -> None:
        """What a person is told, and what degrades the node."""
        alerts, causes, ladder = self._around.alerts, self._around.causes, self._known.ladder
        lasts = self._around.clock.time() - self._known.since
        if found.state == "stopped" and lasts > _FORGOTTEN_S:
            mend = "start its service: ansible-playbook site.yml" if phase == "ended" else "outlast openclaw start"
            text = f"OpenClaw's gateway is stopped ({one_line(found.why, 200)}); mend: {mend}"
            alerts.found(_CAUSE, "soon", text)
        elif found.state == "working" or found.state == "stopped":
            causes.pop(_CAUSE, None)
            alerts.gone(_CAUSE)
        # One that is being started again after a trouble does not work yet.
        elif found.state in _TOLD and phase != "waiting" and (phase or lasts > _MOMENT_S):
            why = one_line(found.why, 200)
            causes[_CAUSE] = f"OpenClaw's gateway is {advice.spoken(found.state)}: {why}"
            urgent = bool(ladder.asked) or phase in ("blocked", "")
            # What a person can do is another thing by now: the text of before would stand.
            told = (bool(ladder.asked), phase == "blocked", not phase, self._is_full())
            if told != self._told and alerts.holds(_CAUSE):
                alerts.over(_CAUSE)
            self._told = told
            mend = advice.mend(self.place, found, phase, asked=bool(ladder.asked), full=self._is_full())
            alerts.found(_CAUSE, "now" if urgent else "soon", f"{causes[_CAUSE]}; {mend}")

    def _look_at_readiness(self) -> None:
        """Has it said for long that it is not ready, though it works?"""
        now = self._around.clock.time()
        if not self._unready or self._known.state != "working":
            self._unready_since = 0.0
            self._around.alerts.gone(_READY)
            return
        self._unready_since = self._unready_since or now
        if now - self._unready_since >= _UNREADY_S:
            text = f"OpenClaw's gateway works and says for minutes that it is not ready: {self._unready}"
            mend = "mend: that account, agent or plugin, see outlast logs gateway; a restart does not"
            self._around.alerts.found(_READY, "soon", f"{text}; {mend}")

    def _look_at_config(self) -> None:
        """Is its configuration the one that was applied?"""
        try:
            status = self.place.config.stat()
            applied = self.place.applied.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size, applied.st_ino, applied.st_mtime_ns)
            if seen == self._config and not self._odd and not self._around.alerts.holds(_CONFIG):
                return
            self._config = seen
            same = hashlib.sha256(regular.read(self.place.config)).hexdigest() in _first_word(self.place)
        except FileNotFoundError:
            # Nothing was applied yet, or right now: where it is missing its start says so.
            return
        except OSError:
            same = False
        # Once may be a moment of its being applied.
        self._odd = 0 if same else self._odd + 1
        if same:
            self._around.alerts.gone(_CONFIG)
        if self._odd < _ODD:
            return
        text = "somebody replaced OpenClaw's configuration since it was applied"
        mend = "mend: ansible-playbook site.yml puts it back, and keeps the other one"
        self._around.alerts.found(_CONFIG, "soon", f"{text}; {mend}")

    def _copy(self) -> None:
        """Copy its state, where that is due: while it works, and nothing is being shed."""
        now = self._around.clock.time()
        due = max(self._known.copied + self._copy_s, self._copy_due)
        idle = self._copying is None or self._copying.done()
        if idle and self._known.state == "working" and now >= due and self._around.pace("P2"):
            self._copying = asyncio.create_task(self._make_copy())

    async def _make_copy(self) -> None:
        from outlast.openclaw import snapshots

        now = self._around.clock.time()
        self._copy_due = now + _AGAIN_S
        try:
            made = await snapshots.snapshot(self.place)
        except (OutlastError, OSError) as error:
            self._around.events.emit("openclaw.snapshot_failed", error=one_line(str(error), 300))
            text = f"no copy of OpenClaw's state could be made: {one_line(str(error), 200)}"
            self._around.alerts.found(_COPIES, "soon", f"{text}; mend: outlast openclaw status, and room on the disk")
            return
        self._known.copied = now
        self._around.events.emit("openclaw.snapshot", path=made.name)
        self._around.alerts.over(_COPIES)
        with contextlib.suppress(DurabilityError):
            durable.replace(self.place.known, to_json(self._known))

    def _copied(self) -> float:
        """When its newest copy was made, by whomever."""
        from outlast.openclaw import snapshots

        try:
            newest = snapshots.newest(self.place)
            return newest.stat().st_mtime if newest else 0.0
        except OSError:
            return 0.0

    def report(self) -> dict[str, Any]:
        """How it is."""
        heard = self._heard
        return {
            **told(self._launched, self._known),
            "snapshot_at": iso(copied) if (copied := self._copied()) else "",
            "alive": heard.alive and not heard.http,
            "true": heard.true and not heard.rpc,
            "not_ready": self._unready if self._known.state == "working" else "",
            "true_at": iso(self._true_at) if self._true_at else "",
            "last_remedy": self._done,
        }


def told(launched: Launched | None, known: Known) -> dict[str, Any]:
    """What anybody is told of it."""
    ladder = known.ladder
    return {
        "state": known.state,
        "since": iso(known.since),
        "reason": known.why,
        "pid": launched.pid if launched else 0,
        "phase": launched.phase if launched else "no launcher",
        "starts": launched.starts if launched else 0,
        "last_exit": launched.code if launched else None,
        "last_reason": launched.reason if launched else "",
        "again_at": iso(launched.due) if launched and launched.due else "",
        "trouble_since": iso(ladder.since) if ladder.since else "",
        "asked_since": iso(ladder.asked) if ladder.asked else "",
        "remedies": [{"remedy": one, "at": iso(at)} for one, at in ladder.taken],
        "snapshot_at": iso(known.copied) if known.copied else "",
    }


def _first_word(place: Place) -> list[str]:
    return regular.read(place.applied).decode("ascii", "replace").split()[:1]
