"""A node's memory: the journal and its projection STATE.json, as one thing that is written in the right order.

Rules kept here: the five steps of a unit (spec.md, section 3) touch the disk through ``intent``, ``update`` and
``confirm``, in this order, with the ACTION and its VERIFY between the first two; STATE.json is only ever a projection, so a
file that is missing, damaged or from the future is set aside and rebuilt from the daily files.

Left to others: what the action is (work.tasks, work.handoffs), what to do about units left open (core.recovery).
"""

from __future__ import annotations

from datetime import datetime

from outlast.clock import Clock, stamp
from outlast.core.record import Damaged, Step
from outlast.core.state import Kind, State, Verdict, close_unit, fold, phrase
from outlast.errors import ConfigError, CorruptError, DurabilityError
from outlast.home import Home
from outlast.store import durable
from outlast.store.journal import Journal
from outlast.store.statefile import read_state, write_state

__all__ = ["Memory"]


class Memory:
    """What the node ``node`` remembers. One process at a time holds it."""

    def __init__(self, home: Home, node: str, clock: Clock) -> None:
        """Read STATE.json and the journal after it. Raises DurabilityError, or ConfigError for another node's home."""
        self.findings: list[str] = []
        self.state = State(node=node)
        self._home = home
        self._clock = clock
        self._damaged = 0
        try:
            durable.make_dir(home.memory, mode=durable.SHARED_FOLDER)
            durable.sweep(home.workspace)
            known = self._read_state(node)
            self._journal = Journal(home.memory, node, clock)
            for record in self._journal.since(known.seq, self._count):
                known = fold(known, record)
        except OSError as error:
            raise DurabilityError(f"the memory could not be read: {error.strerror or error}") from error
        if self._damaged:
            self.findings.append(f"{self._damaged} damaged journal lines were passed over")
        self.state = known
        self._journal.known(known.seq)

    def _count(self, _: Damaged) -> None:
        self._damaged += 1

    def _read_state(self, node: str) -> State:
        try:
            state = read_state(self._home.state_file)
        except CorruptError as error:
            aside = durable.set_aside(self._home.state_file, self._home.trash, stamp(self._clock.time()))
            self.findings.append(
                f"STATE.json was rebuilt from the journal: {error}; the old one is {aside.name} in trash"
            )
            return State(node=node)
        if state is not None and state.node != node:
            mend = f"name it {state.node} again, or give {node} a home of its own"
            raise ConfigError("node", f"this home is {state.node}'s, not {node}'s", mend)
        return state or State(node=node)

    def intent(self, unit: str, kind: Kind, peer: str, what: str) -> None:
        """Step 1, INTENT. A unit that is known already stays as it is. Raises DurabilityError."""
        if unit not in self.state.units:
            direction = "from" if kind == "task" else "to"
            self._append(Step.INTENT, unit, f"{direction} {peer}: {what}")

    def update(self, unit: str, verdict: Verdict, detail: str) -> None:
        """Step 4, UPDATE: STATE.json says how the unit ended. Raises DurabilityError."""
        at = datetime.fromtimestamp(self._clock.time()).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        state = close_unit(self.state, unit, verdict, detail, at)
        write_state(self._home.state_file, state)
        self.state = state

    def confirm(self, unit: str, verdict: Verdict, detail: str) -> None:
        """Step 5, CONFIRM. Raises DurabilityError."""
        self._append(Step.CONFIRM, unit, phrase(verdict, detail))

    def recovered(self, unit: str, what: str) -> None:
        """Remember that a start put something right; ``outlast status`` tells it. Raises DurabilityError."""
        self._append(Step.RECOVER, unit, what)

    def note(self, about: str, what: str) -> None:
        """Remember something that is no unit of work: a change of mode, say. Raises DurabilityError."""
        self._append(Step.NOTE, about, what)

    def flush(self) -> None:
        """Write STATE.json as it is now. Raises DurabilityError."""
        write_state(self._home.state_file, self.state)

    def close(self) -> None:
        """Let go of the files."""
        self._journal.close()

    def _append(self, step: Step, unit: str, what: str) -> None:
        self.state = fold(self.state, self._journal.append(step, unit, what))
