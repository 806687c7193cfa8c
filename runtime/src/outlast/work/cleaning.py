"""Makes room on the disk (spec.md, F6): what a person asks for with ``outlast clean``, and the node does by itself.

Rules kept here:

* only logs and traces, artifacts, the trash and the ballast are ever touched, and all but old trash can be got back; that
  goes when a person asks for it, logs of the node's own when their time in the trash is over;
* an artifact leaves by a rename, which the event loop does between two looks at open work, after its archive was read back;
  STATE and the journal are told;
* one thing that fails (no room for its archive, say) is a finding, and the next is done; a stop of the node ends it at once;
* looking at files and packing them is done beside the event loop, memory is changed on it.

Left to others: what lies there (work.clutter), what is to go (core.cleaning), how it is packed (work.packing), what is backed
up (work.backups), when (health).
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from outlast.clock import Clock, stamp
from outlast.control import Order
from outlast.core.cleaning import Disk, Kept, Limits, Plan, Seen, Step, Thing, plan, room
from outlast.core.findings import Finding
from outlast.errors import DurabilityError, OutlastError
from outlast.home import Home
from outlast.quantity import duration, readable, size
from outlast.settings import Config
from outlast.store import disk, durable
from outlast.store.events import EventLog
from outlast.store.memory import Memory
from outlast.work import ballast
from outlast.work.trees import remove

__all__ = ["Cleaner", "Done", "Report", "Waiting"]

_UNIT = "clean"
# Of a name; what leads and follows it must fit as well.
_NAMED = 60
_PASSES = 4


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    dry_run: bool = False
    empty_trash: bool = False


class Done(msgspec.Struct, frozen=True):
    """One thing that was done. ``size`` bytes became ``freed`` bytes fewer; ``now`` is where it is, empty where it is gone."""

    kind: str
    name: str
    size: int
    freed: int
    now: str = ""


class Waiting(msgspec.Struct, frozen=True):
    """Things that stay for one reason: how many, their bytes, and the first few names."""

    count: int = 0
    size: int = 0
    names: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True):
    """What ``outlast clean --json`` prints. ``will`` is the plan; ``changed`` whether anything was done, or would be;
    ``stays`` is by reason, ``trash`` for what is past its time there."""

    node: str
    dry_run: bool
    changed: bool
    before: Disk
    after: Disk
    will: tuple[Step, ...]
    done: tuple[Done, ...]
    stays: dict[str, Waiting]
    findings: tuple[Finding, ...]
    next: tuple[str, ...] = ()


class _Halted(OutlastError):
    """The node stops."""


class Cleaner:
    """Cleans one node."""

    def __init__(self, home: Home, config: Config, memory: Memory, events: EventLog, clock: Clock) -> None:
        self._home = home
        self._node = config.node
        self._protected = tuple(config.clean.protected)
        self._memory = memory
        self._events = events
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._halt = threading.Event()
        self._running: set[asyncio.Task[Report]] = set()
        self._no_ballast = False
        self.limits = Limits(
            logs_after=duration(config.clean.logs_after),
            artifacts_after=duration(config.clean.artifacts_after),
            artifacts_budget=size(config.clean.artifacts_budget),
            trash_keep=duration(config.clean.trash_keep),
            ballast=size(config.clean.ballast),
            low=100.0 - config.health.disk_degraded,
            least=float(config.clean.least_free),
            logs_keep=duration(config.observe.keep),
            logs_budget=size(config.observe.budget),
        )

    def orders(self) -> dict[str, Order]:
        """What ``outlast clean`` asks for."""
        return {"clean": self._order}

    async def _order(self, body: bytes) -> object:
        asked = msgspec.json.decode(body, type=_Asked)
        # Whoever asked may hang up; what was begun is done.
        task = asyncio.create_task(self.clean(dry_run=asked.dry_run, empty_trash=asked.empty_trash))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    def disk(self) -> Disk:
        """How much is free now. Raises OSError."""
        usage = disk.usage(self._home.workspace)
        return Disk(usage.free, round(100.0 - usage.percent, 1))

    async def clean(self, *, dry_run: bool = False, empty_trash: bool = False) -> Report:
        """Make room, or only say how. What fails is a finding; raises OutlastError where nothing can be looked at."""
        async with self._one_at_a_time:
            try:
                return await self._clean(dry_run, empty_trash)
            except asyncio.CancelledError:
                self._halt.set()
                raise
            except OSError as error:
                raise OutlastError(f"{error.filename or self._home.root}: {error.strerror or error}") from error

    async def rotate(self) -> None:
        """Keep logs, metrics and traces within their time and budget. What cannot be done now is tried the next time."""
        async with self._one_at_a_time:
            try:
                # What packing has really left is known afterwards, and what comes into the trash has a bound there.
                for _ in range(_PASSES):
                    seen = await asyncio.to_thread(self._look_at_logs)
                    todo = plan(seen, self.limits, empty_trash=False, backed_up=lambda _: False).steps
                    done, _ = await self._do_all([step for step in todo if step.kind != "ballast"])
                    if not done:
                        return
                    self._remember(done)
            except asyncio.CancelledError:
                self._halt.set()
                raise
            except OSError as error:
                self._events.emit("clean.failed", error=str(error))

    def _look_at_logs(self) -> Seen:
        from outlast.work.oldlogs import look_at_logs

        return look_at_logs(self._home, self.disk(), self._clock.time(), protected=self._protected)

    async def set_by(self) -> None:
        """Set room by again once there is plenty; where the file system refuses, not again before the next start."""
        try:
            wanted = room(self.disk(), self.limits, has=ballast.taken(self._home) > 0) == "set by"
            if wanted and not self._no_ballast:
                await asyncio.to_thread(ballast.set_by, self._home, self.limits.ballast)
        except OSError as error:
            self._no_ballast = True
            self._events.emit("ballast.refused", error=error.strerror or str(error))

    async def _clean(self, dry_run: bool, empty_trash: bool) -> Report:
        before = self.disk()
        todo, trash = await asyncio.to_thread(self._look, before, self._open(), dry_run, empty_trash)
        done, findings = await self._do_all(() if dry_run else todo.steps)
        if done:
            findings += self._remember(done)
        report = Report(
            node=self._node,
            dry_run=dry_run,
            changed=bool(todo.steps if dry_run else done),
            before=before,
            after=self.disk(),
            will=todo.steps,
            done=tuple(done),
            stays=_waiting(todo.kept, () if empty_trash else trash),
            findings=tuple(findings),
        )
        return msgspec.structs.replace(report, next=tuple(self._next(report)))

    def _open(self) -> frozenset[str]:
        """The names in artifacts/ that open work may write to."""
        units = self._memory.state.units.items()
        busy = [name for unit, about in units if about.status == "open" for name in (unit, *about.artifacts)]
        return frozenset(name.partition("/")[0] for name in busy)

    def _going(self) -> None:
        if self._halt.is_set():
            raise _Halted("the node stops")

    def _look(self, disk: Disk, busy: frozenset[str], dry_run: bool, empty_trash: bool) -> tuple[Plan, list[Thing]]:
        """The plan, and what is past its time in the trash. Beside the event loop: nothing here may touch the memory."""
        from outlast.work.backups import backed_up
        from outlast.work.clutter import look

        if not dry_run:
            self._finish_earlier()
        home, limits, going = self._home, self.limits, self._going
        seen = look(home, disk, self._clock.time(), busy=busy, protected=self._protected, going=going)
        held = backed_up(home.workspace, going)
        todo = plan(seen, limits, empty_trash=empty_trash, backed_up=lambda name: held(home.artifacts / name))
        return todo, [thing for thing in seen.trash if not thing.stays and thing.age > limits.trash_keep]

    def _finish_earlier(self) -> None:
        """Throw away what a crash left half-written, and the copies of artifacts whose archive it had come after."""
        from outlast.work.packing import drop, unpacked

        for folder in (self._home.logs, self._home.traces, self._home.trash):
            durable.sweep(folder)
        for archive in self._home.trash.glob("*.tar.gz"):
            copy = archive.with_name(archive.name.removesuffix(".tar.gz"))
            try:
                if copy.exists() and not copy.is_symlink():
                    drop(copy, unpacked(archive, self._going), self._going)
            except _Halted:
                raise
            except (OSError, OutlastError):
                # Both stay, until the trash is emptied.
                continue

    async def _do_all(self, steps: Sequence[Step]) -> tuple[list[Done], list[Finding]]:
        done: list[Done] = []
        findings: list[Finding] = []
        for step in steps:
            try:
                done.append(await self._do(step))
            except (OSError, OutlastError) as error:
                why = getattr(error, "strerror", None) or str(error)
                findings.append(Finding(step.name, why, "nothing of it is lost", ok=False))
        return done, findings

    async def _do(self, step: Step) -> Done:
        if step.kind == "ballast":
            return Done(step.kind, step.name, step.size, ballast.give_up(self._home))
        if step.kind in ("trash", "old log"):
            await asyncio.to_thread(_delete, self._home.trash / step.name)
            return Done(step.kind, step.name, step.size, step.size)
        if step.kind == "artifact":
            return await self._move_away(step)
        # Traces come with the name of their folder.
        log = (self._home.workspace if "/" in step.name else self._home.logs) / step.name
        if step.kind == "expired log":
            aside = durable.set_aside(log, self._home.old_logs, stamp(self._clock.time()))
            return Done(step.kind, step.name, step.size, 0, str(aside))
        from outlast.work.packing import compress

        freed = await asyncio.to_thread(compress, log, self._going)
        return Done(step.kind, step.name, step.size, freed, f"{log}.gz")

    async def _move_away(self, step: Step) -> Done:
        from outlast.work.packing import Changed, drop, pack

        root, moment = self._home.artifacts / step.name, stamp(self._clock.time())
        copy = self._home.trash / f"{moment}-{secrets.token_hex(2)}-{step.name[:_NAMED]}"
        archive = copy.with_name(f"{copy.name}.tar.gz")
        held = await asyncio.to_thread(pack, root, archive, self._going)
        try:
            if step.name in self._open():
                raise Changed("it is being worked on again")
            durable.move(root, copy)
        except OutlastError:
            if root.exists():
                archive.unlink(missing_ok=True)
            raise
        if not await asyncio.to_thread(drop, copy, held, self._going):
            # Written to in the last moment: both are in the trash.
            return Done(step.kind, step.name, step.size, 0, str(copy))
        return Done(step.kind, step.name, step.size, max(0, step.size - archive.stat().st_size), str(archive))

    def _remember(self, done: Sequence[Done]) -> list[Finding]:
        """Tell STATE, the journal and the event log; return what they did not take."""
        moved = [one for one in done if one.kind == "artifact"]
        deleted = [one for one in done if one.kind == "trash"]
        self._events.emit("clean.done", freed=sum(one.freed for one in done), things=[one.name for one in done][:50])
        told = []
        if deleted:
            told.append(f"deleted {_counted(deleted, 'thing')} from the trash for good, as asked")
        if moved:
            told.append(f"moved {_counted(moved, 'artifact')} to the trash: {', '.join(one.name for one in moved)}")
        try:
            if moved:
                self._memory.artifacts_changed(removed=[one.name for one in moved])
            if told:
                self._memory.note(_UNIT, "; ".join(told))
        except DurabilityError as error:
            self._events.emit("clean.not_written", error=str(error))
            return [Finding("the journal", str(error), "a start counts the artifacts again", ok=False)]
        return []

    def _next(self, report: Report) -> Iterator[str]:
        """What a person can do now, each a command and what it does."""
        home, nothing = self._home, Waiting()
        unbacked, trash = report.stays.get("no backup", nothing), report.stays.get("trash", nothing)
        if report.dry_run and report.will:
            yield "outlast clean    does this"
        if any(one.kind == "artifact" for one in report.done):
            yield f"tar xzf {home.trash}/NAME.tar.gz -C {home.artifacts} && outlast doctor    gets one back"
        if unbacked.count:
            lets = f"lets {_counted_as(unbacked, 'artifact')} go that no backup holds; commit them first"
            yield f"git -C {home.workspace} push    {lets}"
        if trash.count:
            days = f"{self.limits.trash_keep / 86400:.0f} d"
            deletes = f"deletes for good what is in the trash for more than {days}: {_counted_as(trash, 'thing')}"
            yield f"outlast clean --empty-trash    {deletes}"
        if report.after.percent < self.limits.least:
            yield f"du -xh -d 3 {home.root} | sort -h | tail    shows what else takes room: it is not enough yet"
        if why := self._memory.state.emergency:
            yield f"outlast resume --reason WHY    ends the emergency ({why}), once there is room"


def _delete(path: Path) -> None:
    if not remove(path):
        raise OSError(errno.ENOTEMPTY, "not all of it could be deleted")
    durable.fsync_dir(path.parent)


def _waiting(kept: Sequence[Kept], trash: Sequence[Thing]) -> dict[str, Waiting]:
    groups: dict[str, list[Kept | Thing]] = {"trash": list(trash)} if trash else {}
    for one in kept:
        groups.setdefault(one.why, []).append(one)
    return {
        why: Waiting(len(group), sum(one.size for one in group), tuple(one.name for one in group[:5]))
        for why, group in groups.items()
    }


def _counted(things: Sequence[Done], what: str) -> str:
    return _counted_as(Waiting(len(things), sum(one.size for one in things)), what)


def _counted_as(many: Waiting, what: str) -> str:
    return f"{many.count} {what}{'s' * (many.count != 1)} ({readable(many.size)})"
