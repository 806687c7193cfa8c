"""A node's memory: the journal and its projection STATE.json, as one thing that is written in the right order.

Rules kept here:

* The five steps of a unit (spec.md, section 3) touch the disk through ``intent``, ``update`` and ``confirm``, in this
  order, with the ACTION and its VERIFY between the first two.
* STATE.json is only ever a projection: a file that is missing, damaged or from the future is set aside and rebuilt from the
  daily files and, by ``check``, from the artifacts. One that knows of more records than the journal holds is believed: the
  journal lost its end, what STATE knows of that is all there is, and no number is given out again.
* What is held in memory is what is on the disk: a record counts once the journal says that it is durable, which after a
  failed write it finds out before it writes anything new; a change of STATE.json counts once it is written.
* What others wrote into STATE.json meanwhile (git brings the siblings' slots) is kept.

Left to others: what the action is (work.tasks, work.handoffs, work.steps), what to do about units left open
(core.recovery), telling what was found (work.doctor).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from outlast.clock import Clock, stamp
from outlast.core.findings import Finding
from outlast.core.record import Record, Step, one_line
from outlast.core.recovery import correct, reflected, vanished
from outlast.core.state import (
    Kind,
    State,
    Verdict,
    close_unit,
    fold,
    fold_all,
    intent_phrase,
    phrase,
    tells,
    with_names,
    without,
)
from outlast.errors import ConfigError, CorruptError, DurabilityError, UnreadableError
from outlast.home import Home
from outlast.store import durable
from outlast.store.evidence import artifact_names, read_evidence
from outlast.store.journal import Journal
from outlast.store.statefile import first_owner, read_states, write_state

__all__ = ["Memory"]

# So that a record of it has room for what was done, and for all of a name in the trash.
_WHY_LIMIT = 44


class Memory:
    """What the node ``node`` remembers. One process at a time holds it.

    ``findings``: what was put right while it was read; ``journal``: the records themselves, for those who look after them;
    ``done(unit)`` is called when a unit that leaves an artifact is.
    """

    def __init__(self, home: Home, node: str, clock: Clock) -> None:
        """Read STATE.json and the journal after it.

        Raises UnreadableError, and then nothing is changed; DurabilityError; ConfigError for another node's home.
        """
        self.findings: list[Finding] = []
        self.state = State(node=node)
        self.journal = Journal(home.memory, node, clock, self._applied)
        self.done: Callable[[str], None] = lambda _: None
        self._home = home
        self._clock = clock
        self._others: dict[str, State] = {}
        # How STATE.json looked when its slots were last known.
        self._seen: tuple[int, ...] = ()
        # The units that the journal knows, where all of it was read; for the next check alone.
        self._known: set[str] | None = None
        try:
            durable.make_dir(home.memory, mode=durable.SHARED_FOLDER)
            self._own()
            self._read()
        except OSError as error:
            name = os.path.relpath(os.fsdecode(error.filename or home.workspace), home.root)
            raise UnreadableError(f"the memory could not be read: {name}: {error.strerror or error}") from error
        self.journal.known(self.state.seq)

    def _own(self) -> None:
        """A home stays its first node's. Raises ConfigError, DurabilityError, OSError."""
        node, path = self.state.node, self._home.owner
        owner = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
        if not owner:
            owner = first_owner(self._home.state_file) or node
        if owner != node:
            mend = f"name it {owner} again, or give {node} a home of its own"
            raise ConfigError("node", f"this home is {owner}'s, not {node}'s", mend)
        if not path.exists():
            durable.make_dir(path.parent)
            durable.replace(path, f"{node}\n".encode())

    def _read(self) -> None:
        """Our own slot of STATE.json and the records after it, or all records where there is none that can be used."""
        path = self._home.state_file
        self._seen = _signature(path)
        why = f"it holds nothing of {self.state.node}" if self._seen else "it was missing"
        corrupt: CorruptError | None = None
        try:
            self._others = read_states(path, self.state.node)
        except CorruptError as error:
            why, corrupt = one_line(str(error), _WHY_LIMIT), error
        own = self._others.pop(self.state.node, None)
        if own is not None:
            self.state = fold_all(own, self.journal.since(own.seq))
            return
        self._known = set()
        self.state = fold_all(self.state, self._noted(self._known))
        kept = ""
        if corrupt is not None:
            # Only now: where the journal cannot be read, all stays as it is.
            aside = durable.set_aside(path, self._home.trash, stamp(self._clock.time()))
            kept = f"; the old one is {aside.name} in var/trash"
        if self.state.seq or kept:
            done = f"rebuilt from journal and artifacts{kept}"
            self.findings.append(Finding("STATE.json", why, done))

    def _noted(self, known: set[str]) -> Iterator[Record]:
        for record in self.journal.since(0):
            if tells(record):
                known.add(record.unit)
            yield record

    def check(self) -> list[Finding]:
        """Compare ``artifacts/`` with STATE, and correct STATE by what only an artifact knows; says what was corrected.

        Where all is as it was this reads one folder's names. STATE.json itself is left to the next write of it. Raises
        DurabilityError.
        """
        artifacts = self._home.artifacts
        try:
            present = reflected(self.state, artifact_names(artifacts))
            if present == self.state.artifacts:
                self._known = None
                return []
            # What STATE will say is there must not be gone afterwards: whoever put it there may have been killed.
            if artifacts.is_dir():
                durable.fsync_dir(artifacts)
            if self._known is None:
                self._known = set()
                for _ in self._noted(self._known):
                    pass
            there = {name for name in artifact_names(artifacts) if name in self.state.units}
            gone = vanished(self.state, present, there)
            found = correct(
                self.state, self._known, artifact_names(artifacts), lambda name: read_evidence(artifacts, name)
            )
        except OSError as error:
            raise DurabilityError(f"the artifacts could not be compared: {error.strerror or error}") from error
        self._known = None
        if gone:
            self.note_all([(name, "its artifact is gone") for name in gone])
        for owed in found.owed:
            self.journal.append(owed.step, owed.unit, owed.what)
        # Last of all: what was not written down is found again by the next check.
        self.state = msgspec.structs.replace(self.state, artifacts=found.present)
        mend = "noted; get it back from git, a backup or var/trash, or do the work again as another unit"
        lost = [Finding(name, "its artifact is gone, and not by cleaning", mend, ok=False) for name in gone]
        return [*lost, *found.findings]

    def check_file(self) -> list[Finding]:
        """Read STATE.json as it lies there; where it is not ours any more it is written anew.

        Raises DurabilityError, OSError.
        """
        wrong, kept = self._meet()
        if not wrong:
            return []
        self._write(self.state)
        return [Finding("STATE.json", wrong, f"written anew{f'; the old one is {kept} in var/trash' if kept else ''}")]

    def intent(self, unit: str, kind: Kind, peer: str, what: str, artifacts: tuple[str, ...] = ()) -> None:
        """Step 1, INTENT. A unit that is known stays as it is, but for a step that ended undone. Raises DurabilityError.

        ``artifacts``: the names that a step is to leave; BadInput is raised where they do not fit into a record.
        """
        said = intent_phrase(kind, peer, what, artifacts)
        if late := self._unsaid(unit):
            self.journal.append(Step.CONFIRM, unit, late)
        if self._may_begin(unit):
            self.journal.append(Step.INTENT, unit, said)

    async def intent_soon(self, unit: str, kind: Kind, peer: str, what: str, artifacts: tuple[str, ...] = ()) -> None:
        """The same, sharing its fsync with whoever asks at the same time. Raises DurabilityError, BadInput."""
        said = intent_phrase(kind, peer, what, artifacts)
        if late := self._unsaid(unit):
            await self.journal.commit(Step.CONFIRM, unit, late)
        if self._may_begin(unit):
            await self.journal.commit(Step.INTENT, unit, said)

    def _may_begin(self, unit: str) -> bool:
        known = self.state.units.get(unit)
        return known is None or known.may_begin_again()

    def _unsaid(self, unit: str) -> str:
        """The CONFIRM that is owed before a step may be begun again: the journal alone must tell the two apart."""
        known = self.state.units.get(unit)
        owed = known is not None and known.may_begin_again() and not known.confirmed
        return phrase(known.closed_as(), known.detail) if known is not None and owed else ""

    def update(self, unit: str, verdict: Verdict, detail: str, artifact: bool = False) -> None:
        """Step 4, UPDATE: STATE.json says how the unit ended, and counts its ``artifact``. Raises DurabilityError."""
        at = datetime.fromtimestamp(self._clock.time()).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        before = self.state.units.get(unit)
        state = close_unit(self.state, unit, verdict, detail, at)
        if artifact and before is not None and before.status == "open":
            state = msgspec.structs.replace(state, artifacts=with_names(state.artifacts, (unit,)))
        self._write(state)
        if artifact and verdict == "done":
            self.done(unit)

    def confirm(self, unit: str, verdict: Verdict, detail: str) -> None:
        """Step 5, CONFIRM. Raises DurabilityError."""
        self.journal.append(Step.CONFIRM, unit, phrase(verdict, detail))

    async def confirm_soon(self, unit: str, verdict: Verdict, detail: str) -> None:
        """The same, sharing its fsync with whoever asks at the same time. Raises DurabilityError."""
        await self.journal.commit(Step.CONFIRM, unit, phrase(verdict, detail))

    def recovered(self, unit: str, what: str) -> None:
        """Remember that a start put something right; ``outlast status`` tells it. Raises DurabilityError."""
        self.journal.append(Step.RECOVER, unit, what)

    def note(self, about: str, what: str) -> None:
        """Remember something that is no unit of work: a change of mode, say. Raises DurabilityError."""
        self.journal.append(Step.NOTE, about, what)

    def note_all(self, notes: Sequence[tuple[str, str]]) -> None:
        """Several notes, ``(about, what)`` each, with one fsync. Raises DurabilityError: any may be there, or not."""
        self.journal.append_all([(Step.NOTE, about, what) for about, what in notes])

    def artifacts_changed(self, added: Collection[str] = (), removed: Collection[str] = ()) -> None:
        """These names were put into ``artifacts/``, and those taken out of it: STATE knows. Raises DurabilityError."""
        present = without(self.state.artifacts, removed)
        self._write(msgspec.structs.replace(self.state, artifacts=with_names(present, added)))

    def flush(self) -> None:
        """Write STATE.json as it is now. Raises DurabilityError."""
        self._write(self.state)

    def close(self) -> None:
        """Let go of the files."""
        with contextlib.suppress(DurabilityError):
            # Whoever waited for a record was told that it failed.
            self.journal.close()

    def _meet(self) -> tuple[str, str]:
        """Take what others wrote into STATE.json: the siblings' slots. Every slot of ours is in memory: damage gives way.

        Returns what is wrong with the file for us, and its name in the trash where it is kept there; the next write puts
        it right. Raises DurabilityError, OSError.
        """
        path, node = self._home.state_file, self.state.node
        try:
            found, wrong, kept = read_states(path, node), "", ""
        except CorruptError as error:
            found, wrong = {}, one_line(str(error), _WHY_LIMIT)
            with contextlib.suppress(CorruptError):
                found = read_states(path, "")
            kept = durable.set_aside(path, self._home.trash, stamp(self._clock.time())).name
        if not wrong and self._seen and node not in found:
            wrong = f"it holds nothing of {node}" if path.exists() else "it is gone"
        self._others = {**self._others, **found}
        self._others.pop(node, None)
        return wrong, kept

    def _applied(self, record: Record) -> None:
        self.state = fold(self.state, record)

    def _write(self, state: State) -> None:
        path = self._home.state_file
        if _signature(path) != self._seen:
            with contextlib.suppress(OSError):
                self._meet()
        write_state(path, state, self._others)
        self._seen = _signature(path)
        self.state = state


def _signature(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
