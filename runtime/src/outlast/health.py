"""The heartbeat monitor: looks at the disk, the siblings and HEARTBEAT.md, keeps the node's mode, and says what is wrong.

Rules kept here: looking costs no write; a mode is journalled, logged and told only when it changes, with its cause and what
it sheds, and what is shown of us in HEARTBEAT.md is put right when somebody changed it; a write that failed anywhere is an
alert until a write works again, and only while it holds is one tried; room is made by itself when little is left.

Left to others: the decision (core.modes), what is shed in a mode, how room is made (work.cleaning).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from outlast.alerts import Alert, Alerts, Urgency
from outlast.clock import Clock, stamp
from outlast.core.cleaning import Disk
from outlast.core.modes import DUTIES, Duty, Observed, Shed, Standing, Thresholds, decide, declare, resume, shed
from outlast.core.record import one_line
from outlast.core.state import EMERGENCY, MODE, RESUMED
from outlast.errors import BadInput, DurabilityError, OutlastError, PeerError
from outlast.home import Home
from outlast.net.courier import Courier
from outlast.quantity import duration, readable
from outlast.settings import Config
from outlast.store import disk, durable, heartbeat
from outlast.store.events import EventLog
from outlast.store.memory import Memory
from outlast.work.cleaning import Cleaner

__all__ = ["Health"]

_AGAIN_S = 3600.0
_CALM_CHECKS = 2
_NO_ROOM, _NO_WRITE, _KEYS = "disk", "writes", "keys"
_MODE = "mode "
# How urgently a person is told of a mode.
_TOLD: dict[str, Urgency] = {"degraded": "soon", "emergency": "now", "maintenance": "soon"}
_MENDS = {
    "degraded": "mend: it ends by itself, two checks after the cause is gone",
    "emergency": "mend: put it right, then: outlast resume --reason WHY",
    "maintenance": "mend: outlast maintenance off ends it",
}


class Health:
    """The health of one node."""

    def __init__(
        self,
        config: Config,
        home: Home,
        memory: Memory,
        courier: Courier,
        events: EventLog,
        clock: Clock,
        alive: Callable[[str], None],
        tidy: Callable[[], None],
        cleaner: Cleaner,
        alerts: Alerts,
        causes: Mapping[str, str],
        keys: Callable[[], tuple[Urgency, str] | None] = lambda: None,
    ) -> None:
        """``alive(peer)`` is called when a peer answers (it is expected to call ``heard``), ``tidy()`` at each check.

        ``causes``: why the node is degraded, besides what is found here; ``keys()`` says what a person must be told of the
        node's keys, if anything.
        """
        cause = tuple(filter(None, (memory.state.emergency, _marked(home))))
        self.standing = Standing("emergency", cause, cause) if cause else Standing()
        self._told = self._in_words()
        self._duties = _duties(config)
        self.disk = 0.0
        self._home = home
        self._memory = memory
        self._courier = courier
        self._events = events
        self._clock = clock
        self._alive = alive
        self._tidy = tidy
        self._cleaner = cleaner
        self._keys = keys
        self._alerts = alerts
        self._causes = causes
        self._failed = DurabilityError.raised
        self._cleaned: float | None = None
        self._roomy = 0
        self._interval = duration(config.health.interval)
        self._limits = Thresholds(
            config.health.disk_degraded, config.health.disk_emergency, duration(config.health.sibling_silent)
        )
        self._present: set[str] = set()
        # A sibling is given the whole of its time from our own start.
        self._heard = dict.fromkeys(config.peers, clock.monotonic())

    @property
    def alerts(self) -> list[Alert]:
        """What a person must be told of now, besides the mode, which is shown wherever these are."""
        return [alert for alert in self._alerts.shown if not alert.name.startswith(_MODE)]

    @property
    def shed(self) -> list[Shed]:
        """What rests in the mode of now, or is done less often, first what is shed first."""
        return shed(self.standing.mode, self._duties)

    @property
    def can_write(self) -> bool:
        """No write failed since one last worked."""
        return not self._alerts.holds(_NO_WRITE)

    def silence(self) -> dict[str, float]:
        """Seconds since each peer was heard."""
        now = self._clock.monotonic()
        return {peer: now - at for peer, at in self._heard.items()}

    def heard(self, peer: str) -> None:
        """A peer gave a sign of life."""
        self._heard[peer] = self._clock.monotonic()

    async def run(self) -> None:
        """Check for ever, until cancelled."""
        greeting: set[asyncio.Task[None]] = set()
        making: set[asyncio.Task[None]] = {asyncio.create_task(self._make_room())} if self._is_low() else set()
        try:
            while True:
                # A peer that does not answer must not delay the check: that is what a person's order waits for.
                greeting = greeting or {asyncio.create_task(self._greet(peer)) for peer in self._heard}
                await asyncio.sleep(self._interval)
                greeting = {task for task in greeting if not task.done()}
                self.check()
                with contextlib.suppress(DurabilityError):
                    self._tidy()
                # Nor must the packing of gigabytes.
                making = {task for task in making if not task.done()} or {asyncio.create_task(self._make_room())}
        finally:
            for task in (*greeting, *making):
                task.cancel()

    async def _greet(self, peer: str) -> None:
        """See whether a peer is there; one that has come back, or is seen first, is greeted with a signed ping.

        The greeting tells the peer that we are back, so that what waits there for us is sent, and measures its clock.
        """
        alive = await self._courier.alive(peer)
        if alive and peer not in self._present:
            try:
                await self._courier.ping(peer)
            except (PeerError, DurabilityError) as error:
                self._events.burst("peer.not_greeted", str(error), peer=peer)
                return
        if alive != (peer in self._present):
            self._events.emit("peer.back" if alive else "peer.gone", peer=peer)
        if alive:
            self._present.add(peer)
            self._alive(peer)
        else:
            self._present.discard(peer)

    async def _make_room(self) -> None:
        """Clean when little room is left: at once when that is news, then once an hour. Set room by when there is plenty."""
        now = self._clock.monotonic()
        if not self._is_low():
            self._roomy += 1
            # As with the modes: around the threshold it is not news each time.
            if self._roomy >= _CALM_CHECKS:
                self._cleaned = None
            await self._cleaner.set_by()
            return
        self._roomy = 0
        if self._cleaned is not None and now - self._cleaned < _AGAIN_S:
            return
        self._cleaned = now
        try:
            await self._cleaner.clean()
        except OutlastError as error:
            self._events.emit("clean.failed", error=str(error))
        self.check()

    def _is_low(self) -> bool:
        return self.disk > self._limits.disk_degraded

    def check(self) -> None:
        """Look once, and change the mode if that is what follows."""
        usage = disk.usage(self._home.workspace)
        self.disk = usage.percent
        try:
            maintenance = heartbeat.asks_maintenance(self._home.heartbeat)
        except OSError:
            maintenance = self.standing.mode == "maintenance"
        seen = Observed(self.disk, self.silence(), maintenance, tuple(self._causes.values()))
        self._watch_room(Disk(usage.free, 100.0 - self.disk))
        self._watch_writes()
        self._watch_keys()
        self._enter(decide(self.standing, seen, self._limits))
        self._tell()
        self._show()

    def begin(self) -> None:
        """Look for the first time, before anything is taken."""
        self.check()

    def maintain(self, *, on: bool, dry: bool) -> dict[str, Any]:
        """Ask for maintenance in HEARTBEAT.md, or take that back, and look at once. Raises DurabilityError, BadInput."""
        done = heartbeat.order_maintenance(self._home.heartbeat, on=on, dry=dry)
        if not dry:
            self.check()
        return {**done._asdict(), "running": True, "mode": self.standing.mode, "shed": [one.name for one in self.shed]}

    def declare(self, reason: str) -> None:
        """There is an emergency from now on, until a person ends it; a start in between begins in it.

        Raises DurabilityError where it could not be written down at all: then it holds until the runtime ends.
        """
        reason = one_line(reason)
        self.standing = declare(self.standing, reason)
        self.check()
        if reason in self._memory.state.emergency:
            return
        # The mode was an emergency before, is maintenance, or could not be written.
        try:
            self._memory.note(MODE, f"{EMERGENCY}{reason}")
        except DurabilityError:
            durable.replace(self._home.emergency, f"{reason}\n".encode())

    def resume(self, reason: str) -> None:
        """A person clears an emergency, for a reason that is kept. Raises BadInput where there is none, DurabilityError."""
        if not self.standing.emergency:
            raise BadInput(
                "resume", f"there is no emergency, the mode is {self.standing.mode}", "nothing is to be done"
            )
        self._memory.note(MODE, f"{RESUMED}{reason}")
        if self._home.emergency.exists():
            durable.set_aside(self._home.emergency, self._home.trash, stamp(self._clock.time()))
        self.standing = resume(self.standing)
        self.check()

    def _watch_room(self, disk: Disk) -> None:
        """Too little is left although room was made, or was tried to be made within the hour."""
        if disk.percent >= self._cleaner.limits.least:
            self._alerts.gone(_NO_ROOM)
        elif self._cleaned is not None:
            left = f"only {readable(disk.free)} ({disk.percent:.1f} %) of the disk is free, after all was cleaned that may be"
            self._alerts.found(_NO_ROOM, "now", f"{left}; mend: `outlast clean` says what else can go")

    def _watch_keys(self) -> None:
        """The key that signs is to be changed, or there is none."""
        if trouble := self._keys():
            self._alerts.found(_KEYS, *trouble)
        else:
            # A key is there or not: no second look says more.
            self._alerts.over(_KEYS)

    def _watch_writes(self) -> None:
        """Did a write fail anywhere since the last check, or would one fail now? Then until one works."""
        if self._alerts.holds(_NO_WRITE) and DurabilityError.raised == self._failed:
            with contextlib.suppress(DurabilityError, OSError):
                durable.replace(self._home.probe, b"")
                self._home.probe.unlink()
                self._alerts.gone(_NO_WRITE)
        failed, self._failed = DurabilityError.raised - self._failed, DurabilityError.raised
        broken = _broken(self._home)
        if failed or broken:
            what = broken or f"a write failed: {DurabilityError.last}"
            mend = "look at dmesg and at the disk; nothing that was acknowledged is lost, and what is open goes on"
            self._alerts.found(_NO_WRITE, "now", f"{what}; mend: {mend} once a write works")

    def _enter(self, standing: Standing) -> None:
        before, self.standing = self.standing, standing
        if standing.mode == before.mode:
            return
        self._told = self._in_words()
        why = "; ".join(standing.reasons) or "the causes are gone"
        less = self._less()
        self._events.emit("mode.changed", mode=standing.mode, before=before.mode, why=why, shed=less)
        try:
            # A note of its own: what stands behind an emergency's name is its reason, and nothing else.
            self._memory.note_all([(MODE, f"{standing.mode}: {why}"), *([(MODE, f"shed: {less}")] if less else [])])
        except DurabilityError as error:
            self._events.emit("mode.not_written", error=str(error))

    def _less(self) -> str:
        """What is shed now, in words."""
        off = [one.name for one in self.shed if one.how == "off"]
        seldom = [one.name for one in self.shed if one.how != "off"]
        return "; ".join(filter(None, (", ".join(off), f"less often: {', '.join(seldom)}" if seldom else "")))

    def _tell(self) -> None:
        """A mode is told to a person, but for what the silence of a sibling explains: that has rules of its own."""
        mode = self.standing.mode
        for name, urgency in _TOLD.items():
            if name == mode and not self.standing.silence:
                why = f"mode {mode}: {'; '.join(self.standing.reasons)}"
                words = f"{why}; shed: {self._less()}; {_MENDS[name]}"
                self._alerts.found(f"{_MODE}{name}", urgency, words)
            else:
                self._alerts.gone(f"{_MODE}{name}")

    def _in_words(self) -> str:
        """What HEARTBEAT.md says of the mode, as it was entered: figures that change would be written again and again."""
        mode, why = self.standing.mode, "; ".join(self.standing.reasons)
        mend = "; once that is mended: outlast resume --reason WHY" if mode == "emergency" else ""
        return "" if mode == "normal" else f"Outlast: {mode}, {why}{mend}"

    def _show(self) -> None:
        """Our part of HEARTBEAT.md; nothing is written where it is right."""
        lines = [self._told] if self._told else []
        lines += [f"Outlast: alert ({alert.urgency}): {alert.text}" for alert in self.alerts]
        try:
            heartbeat.show(self._home.heartbeat, "\n".join(lines))
        except (DurabilityError, OSError) as error:
            self._events.burst("mode.not_shown", str(error))


def _broken(home: Home) -> str:
    """What is wrong with the file system, or nothing; found without a write.

    One whose kernel driver gave up after an error answers reads, and shows no flag: but it refuses to fsync a folder.
    """
    try:
        if os.statvfs(home.workspace).f_flag & os.ST_RDONLY:
            return "the file system is read-only"
        durable.fsync_dir(home.workspace)
    except OSError as error:
        return f"the file system answers: {error.strerror}"
    return ""


def _marked(home: Home) -> str:
    """Why an earlier command wants the node to start in an emergency, where the journal could not be told; or nothing."""
    try:
        return one_line(home.emergency.read_text(encoding="utf-8", errors="replace")) or "no reason is given"
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{home.emergency.name} cannot be read: {error.strerror}"


def _duties(config: Config) -> list[Duty]:
    """All that is done here and has a priority."""
    jobs = [Duty(name, job.priority, "job") for name, job in config.jobs.items()]
    return [*DUTIES, *jobs, *(Duty(name, one.priority, "service") for name, one in config.services.items())]
