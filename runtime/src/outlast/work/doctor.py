"""The doctor: compares what the node remembers with what lies there, puts right what can be, and says the rest.

Rules kept here: a start compares and does not read (one listing of artifacts/, sizes and times of the daily files); what was
put right or noted once is not found again; a gap in the journal is noted in it, with the commit that still has the records
(spec.md, F7); people's edits are kept. Every finding says what was done about it, and is an event.

Left to others: the putting right itself (store.memory, store.journal), steps (work.steps), room (work.cleaning), and
rebuilding STATE when the runtime cannot be trusted to (work.rebuild).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from outlast.clock import Clock
from outlast.core.days import Look, Missing
from outlast.core.findings import Finding
from outlast.core.gaps import back_phrase, gap_phrase, numbered
from outlast.core.record import one_line
from outlast.core.recovery import StagedStep, plan_step
from outlast.core.state import GAP
from outlast.errors import DurabilityError
from outlast.home import Home
from outlast.quantity import size
from outlast.settings import Config
from outlast.store import disk, durable
from outlast.store.events import EventLog
from outlast.store.evidence import artifact_names
from outlast.store.keyring import outside_folder
from outlast.store.ledger import Ledger
from outlast.store.memory import Memory
from outlast.work.artifacts import MANIFEST, verify
from outlast.work.tickets import read_manifest

if TYPE_CHECKING:
    from outlast.control import Order

__all__ = ["Doctor", "Report"]

_SHOWN = 20
_GIT_S = 10.0
_CLOCK = "clock"
# A clock that is corrected by less is nobody's concern.
_BACK_S = 60.0
# A temporary file that is older than this has nobody who still writes it.
_STALE_S = 600.0


class Report(msgspec.Struct, frozen=True):
    """What an examination found. ``ok``: nobody is needed; ``checked``: what was looked at."""

    node: str
    ok: bool
    checked: str
    findings: tuple[Finding, ...]


class _Examine(msgspec.Struct, forbid_unknown_fields=True):
    deep: bool = False


class Doctor:
    """The doctor of one node. Methods raise DurabilityError where what was found cannot be written down."""

    def __init__(
        self,
        home: Home,
        config: Config,
        memory: Memory,
        ledger: Ledger,
        events: EventLog,
        clock: Clock,
        others: Callable[[], Iterable[Finding]] = tuple,
    ) -> None:
        """``others`` tells what else was found in an examination: in the files of the shared state."""
        self._others = others
        self._home = home
        self._config = config
        self._memory = memory
        self._ledger = ledger
        self._events = events
        self._clock = clock
        # What a start put right and nobody asked for yet.
        self._news: list[Finding] = []

    def orders(self) -> dict[str, Order]:
        """What the command asks for."""

        async def doctor(body: bytes) -> object:
            return await self.examine(deep=msgspec.json.decode(body or b"{}", type=_Examine).deep)

        return {"doctor": doctor}

    def at_start(self) -> list[Finding]:
        """Put right what the last stop, a crash, or somebody else left. Cheap where nothing changed."""
        # Before anything is written, which would be the newest record.
        findings = [*_readable(self._clock_back()), *self._memory.findings]
        if self._ledger.finding:
            findings.append(Finding("outlast.db", self._ledger.finding, "what waited in it is queued again"))
        for finding in findings:
            if finding.about != _CLOCK:
                self._memory.recovered("node", finding.line())
        findings += self._compare(0.0)
        if self._memory.findings:
            self._flush()
        self.take(findings)
        return findings

    def take(self, findings: list[Finding]) -> None:
        """Tell also of this, which another part found while starting."""
        self._news += self._told(findings)

    async def examine(self, *, deep: bool = False) -> Report:
        """Look at everything again; ``deep`` reads every file of every artifact and every day as well."""
        news, self._news = self._news, []
        findings = [
            *news,
            *self._told(
                [
                    *_readable(self._file()),
                    *self._compare(_STALE_S, full=deep),
                    *self._others(),
                    *_readable(self._conditions()),
                ]
            ),
        ]
        names = list(artifact_names(self._home.artifacts))
        count = "1 artifact" if len(names) == 1 else f"{len(names)} artifacts"
        checked = f"{count} by name (only --deep reads them), the journal up to record {self._memory.state.seq}"
        if deep:
            wrong = await asyncio.to_thread(lambda: list(self._damaged(names)))
            findings += self._told(_short(wrong, "artifacts/"))
            checked = f"{count} to the last byte, all of the journal up to record {self._memory.state.seq}"
        return Report(
            self._config.node, all(finding.ok for finding in findings), checked, tuple(dict.fromkeys(findings))
        )

    def _file(self) -> Iterator[Finding]:
        yield from self._memory.check_file()

    def _told(self, findings: list[Finding]) -> list[Finding]:
        for one in findings:
            self._events.emit("doctor.finding", about=one.about, found=one.found, done=one.done, ok=one.ok)
        return findings

    def _flush(self) -> None:
        """Otherwise the next start finds the same again; that is all."""
        with contextlib.suppress(DurabilityError):
            self._memory.flush()

    def _compare(self, stale_s: float, *, full: bool = False) -> list[Finding]:
        """What is put right by looking: artifacts, the journal, what was left half-written."""
        before = self._memory.state.artifacts
        findings = _short(self._memory.check(), "artifacts/")
        if self._memory.state.artifacts != before:
            self._flush()
        return [*findings, *_readable(self._look(stale_s, full=full))]

    def _look(self, stale_s: float, *, full: bool) -> Iterator[Finding]:
        # What can be put back is nobody's loss.
        if back := self._memory.journal.mend(full=True):
            told = "1 record of ours was taken away" if back == 1 else f"{back} records of ours were taken away"
            yield Finding("memory/", f"{told} from today's file", "put back")
        look = self._memory.journal.look(self._home.days, full=full)
        yield from self._gaps(look.gaps)
        yield from _lines(look)
        yield from self._half_written(stale_s)

    def _gaps(self, found: Sequence[Missing]) -> Iterator[Finding]:
        """Note every gap once, with where its records may still be had."""
        yield from self._back(found)
        noted = self._memory.state.gaps
        new = [gap for gap in found if not any(old.first <= gap.first and gap.last <= old.last for old in noted)]
        if len(new) > _SHOWN:
            days = sorted({day for gap in new for day in gap.days})
            new = [Missing(new[0].first, new[-1].last, tuple(days))]
        for gap in new:
            where = f"from {gap.days[0]}" if gap.days else "from the journal"
            commit = self._holder(gap.first)
            self._memory.note(GAP, gap_phrase(gap.first, gap.last, where, commit[:12]))
            folder = self._home.memory
            mend = (
                f"noted; read it with: git -C {folder} show {commit[:12]}" if commit else "noted; git does not have it"
            )
            lost = "it is lost" if gap.first == gap.last else "they are lost"
            yield Finding(numbered(gap.first, gap.last), f"{lost} {where}", mend)

    def _back(self, missing: Sequence[Missing]) -> Iterator[Finding]:
        """Take back what was noted, where somebody put the records back."""
        for gap in self._memory.state.gaps:
            if not any(lost.first <= gap.last and gap.first <= lost.last for lost in missing):
                self._memory.note(GAP, back_phrase(gap.first, gap.last))
                yield Finding(numbered(gap.first, gap.last), "noted as lost, and there again", "noted as back")

    def _holder(self, number: int) -> str:
        from outlast.store.git import holder

        return holder(self._home.memory, f"[{self._config.node}:{number} ", _GIT_S)

    def _half_written(self, stale_s: float) -> Iterator[Finding]:
        """Remove temporary files whose writer is gone; ``stale_s``: where others may be at work, only those that are older."""
        home = self._home
        keys = (home.keys, outside_folder(home.keys))
        folders = [home.workspace, home.memory, home.archive, home.shared, home.tasks.parent, home.handoffs, *keys]
        for folder in (*folders, *_below(home.tasks), *_below(home.steps)):
            if stale_s and not any(self._is_stale(path, stale_s) for path in folder.glob(".*.tmp")):
                continue
            if names := durable.sweep(folder):
                about = str(folder.relative_to(home.root))
                yield Finding(f"{about}/", f"{len(names)} files were left half-written ({names[0]})", "removed")

    def _is_stale(self, path: Path, stale_s: float) -> bool:
        try:
            return self._clock.time() - path.stat().st_mtime > stale_s
        except FileNotFoundError:
            return False

    def _conditions(self) -> Iterator[Finding]:
        """What is so for as long as it is so."""
        state, home = self._memory.state, self._home
        for unit, step in state.open("step").items():
            staged = next(_below(home.steps / unit / "work", every=True), None) is not None
            plan = plan_step(unit, StagedStep((home.artifacts / unit).exists(), staged))
            yield Finding(unit, f"begun {step.since}, and not ended: {step.what}", plan.told)
        if home.emergency.exists() or state.emergency:
            why = state.emergency or one_line(home.emergency.read_text(encoding="utf-8", errors="replace"))
            yield Finding("mode", f"emergency: {why}", "mend the cause, then: outlast resume --reason WHY", ok=False)
        yield from self._disk()
        yield from self._clock_back()
        limit = size(self._config.memory.daily_limit)
        for path in sorted(home.memory.glob("*.md")):
            if path.is_file() and path.stat().st_size > limit:
                yield Finding(f"memory/{path.name}", "it is over memory.daily_limit", "the runtime compacts it")

    def _disk(self) -> Iterator[Finding]:
        used = disk.usage(self._home.workspace).percent
        health = self._config.health
        if used > health.disk_degraded:
            enough = 100.0 - used >= self._config.clean.least_free
            mend = "the runtime makes room" if enough else "outlast clean says what can go"
            yield Finding("disk", f"{used:.0f} % are used", mend, ok=enough)

    def _clock_back(self) -> Iterator[Finding]:
        """The newest record is from a time that has not come yet."""
        newest = ""
        for record in self._memory.journal.since(max(0, self._memory.state.seq - 1)):
            newest = f"{record.day} {record.time}"
        with contextlib.suppress(ValueError):
            # Of a time that the clock shows twice, where summer ends, this is the first.
            if datetime.fromisoformat(newest).timestamp() > self._clock.time() + _BACK_S:
                mend = "records keep their order by number; set the clock right if it is wrong"
                yield Finding(_CLOCK, f"the newest record is of {newest}, which is ahead", mend)

    def _damaged(self, names: Iterable[str]) -> Iterator[Finding]:
        """Artifacts that do not hold what their manifests say. Beside the event loop: only the disk is looked at."""
        for name in names:
            artifact = self._home.artifacts / name
            manifest = read_manifest(artifact / MANIFEST)
            if manifest is None:
                if (artifact / MANIFEST).exists():
                    yield Finding(
                        name, "its manifest cannot be read", "kept; get it back from git or a backup", ok=False
                    )
            elif (wrong := verify(artifact, manifest)) and artifact.exists():
                mend = f"kept; get it back from git, a backup, or: outlast fetch PEER {name}"
                yield Finding(name, f"it is not what was made: {one_line(wrong)}", mend, ok=False)


def _readable(found: Iterator[Finding]) -> Iterator[Finding]:
    """What is found until something cannot be read, which is a finding as well."""
    try:
        yield from found
    except OSError as error:
        name = os.path.basename(os.fsdecode(error.filename or "")) or "the disk"
        mend = "nothing was changed; look at the disk (dmesg), then run outlast doctor again"
        yield Finding(name, f"it cannot be read: {error.strerror or error}", mend, ok=False)


def _below(folder: Path, *, every: bool = False) -> Iterator[Path]:
    """The folders in a folder, or ``every`` thing; nothing where it is none."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        yield from (folder / entry.name for entry in entries if every or entry.is_dir(follow_symlinks=False))


def _lines(look: Look) -> list[Finding]:
    """What is odd in the daily files."""
    edited = [
        Finding(f"memory/{day}.md", "it was edited by hand between the records", "kept as it is") for day in look.edited
    ]
    torn = [
        Finding(
            f"memory/{one.day}.md",
            f"a line is no whole record: {one_line(one.line, 60)}",
            "left there, and passed over",
        )
        for one in look.torn
    ]
    damaged = [
        Finding(
            f"memory/{one.day}.md",
            f"a record does not match its checksum: {one_line(one.line, 60)}",
            "left there, and passed over; git may have it as it was",
        )
        for one in look.damaged
    ]
    return [one for found in (edited, torn, damaged) for one in _short(found, "memory/")]


def _short(findings: list[Finding], about: str) -> list[Finding]:
    """As many as a person reads, and how many more there are."""
    if len(findings) <= _SHOWN:
        return findings
    rest = findings[_SHOWN:]
    more = Finding(about, f"and {len(rest)} more of this kind", rest[-1].done, ok=all(one.ok for one in rest))
    return [*findings[:_SHOWN], more]
