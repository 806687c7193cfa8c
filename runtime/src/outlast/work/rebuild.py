"""Rebuilding STATE.json from scratch, for a person: from the journal, archives included, and the artifacts (spec.md, F4).

Rules kept here: the old file is believed only where it agrees, and is kept in the trash; the new one takes its place at once
and whole, after it was read back; numbers of records are never given out again. A rebuild that fails changes nothing but to
leave a durable mark, with the reason, that has the node start in emergency mode until a person ends that.

Left to others: that nobody else is at work in the home meanwhile (cli.doctor), starting and stopping the runtime (Ansible).
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from outlast.clock import Clock, stamp
from outlast.core.findings import Finding
from outlast.core.record import Damaged, Step, one_line
from outlast.core.recovery import Correction, agreeing, rebuild
from outlast.core.state import State, fold_all
from outlast.errors import CorruptError, DurabilityError, OutlastError
from outlast.home import Home
from outlast.store import durable, regular
from outlast.store.evidence import artifact_names, read_evidence
from outlast.store.journal import Journal
from outlast.store.statefile import decode, encode, read_states

__all__ = ["Recovery", "recover"]

_DIFF_LINES = 2000


class Recovery(msgspec.Struct, frozen=True):
    """What became of it. ``diff`` is unified, ``kept`` the old file's name in trash; ``emergency`` why it failed, if so."""

    changed: bool = False
    diff: str = ""
    findings: tuple[Finding, ...] = ()
    kept: str = ""
    emergency: str = ""


def recover(home: Home, node: str, clock: Clock, *, dry_run: bool) -> Recovery:
    """Rebuild the STATE.json of ``node``; with ``dry_run`` only say what would change. Otherwise the home must
    be held.

    Raises OutlastError where a failure could not even be marked.
    """
    try:
        return _rebuild(home, node, clock, dry_run)
    except OSError as error:
        why = f"{Path(str(error.filename or home.workspace)).name}: {error.strerror or error}"
    except OutlastError as error:
        why = str(error)
    why = one_line(f"STATE.json could not be rebuilt: {why}", 400)
    if not dry_run:
        try:
            durable.make_dir(home.emergency.parent)
            durable.replace(home.emergency, f"{why}\n".encode())
        except DurabilityError as error:
            raise OutlastError(f"{why}; nor could that be marked: {error}; all is as it was") from error
    return Recovery(emergency=why)


def _rebuild(home: Home, node: str, clock: Clock, dry_run: bool) -> Recovery:
    old, others, unreadable = _old(home.state_file, node)
    lost: list[Damaged] = []
    journal = Journal(home.memory, node, clock)
    # Read once from beginning to end: a file that cannot be read ends this before anything is written.
    state, correction = rebuild(
        node,
        journal.since(0, lost.append),
        artifact_names(home.artifacts),
        lambda name: read_evidence(home.artifacts, name),
    )
    before, shown_as = others.pop(node, None), old
    if before is not None:
        # A file that only trails the journal is right: every start takes in what came after.
        before = fold_all(before, journal.since(before.seq))
        shown_as = old if unreadable else encode({**others, node: before})
        state = agreeing(state, before)
    new = _new(state, correction, clock)
    content = _checked({**others, node: new}, node)
    shown = _diff(shown_as, content, unreadable)
    findings = [*correction.findings, *(_passed_over(one) for one in lost)]
    if dry_run or not shown:
        return Recovery(bool(shown), shown, tuple(findings))
    kept = _keep(home, old, clock)
    journal.known(state.seq)
    for owed in correction.owed:
        journal.append(owed.step, owed.unit, owed.what)
    durable.replace(home.state_file, content, mode=durable.SHARED_FILE)
    # The next start takes it in, as any record that is newer than the file. Without it nothing is lost but the news.
    where = f"; the old one is {kept} in var/trash" if kept else ""
    with contextlib.suppress(DurabilityError):
        journal.append(Step.RECOVER, "node", f"STATE.json was rebuilt, as asked{where}")
    journal.close()
    return Recovery(True, shown, tuple(findings), kept)


def _old(path: Path, node: str) -> tuple[bytes, dict[str, State], str]:
    """The file as it is, what can be used of it, and why the rest cannot. Raises OSError."""
    try:
        data = regular.read(path)
    except FileNotFoundError:
        return b"", {}, "it is missing"
    except regular.NotRegularError:
        return b"", {}, "it is no regular file"
    try:
        return data, read_states(path, node), ""
    except CorruptError as error:
        unreadable = str(error)
    try:
        # The siblings' slots may be right where ours is not.
        return data, decode(data), unreadable
    except CorruptError:
        return data, {}, unreadable


def _new(state: State, correction: Correction, clock: Clock) -> State:
    now = time.localtime(clock.time())
    return correction.apply(state, time.strftime("%Y-%m-%d", now), time.strftime("%H:%M:%S", now))


def _checked(states: Mapping[str, State], node: str) -> bytes:
    """The content of the new file, which says what it should when it is read back. Raises CorruptError."""
    content = encode(states)
    if decode(content, node) != states:
        raise CorruptError("what was rebuilt does not survive being written down: a defect in outlast itself")
    return content


def _diff(old: bytes, new: bytes, unreadable: str) -> str:
    import difflib

    lines = old.decode("utf-8", errors="replace").splitlines()
    if unreadable:
        lines = [f"unreadable: {unreadable}"]
    found = list(difflib.unified_diff(lines, new.decode().splitlines(), "STATE.json (old)", "STATE.json", lineterm=""))
    more = [f"… {len(found) - _DIFF_LINES} more lines"] if len(found) > _DIFF_LINES else []
    return "\n".join([*found[:_DIFF_LINES], *more])


def _keep(home: Home, old: bytes, clock: Clock) -> str:
    """Keep the old file, which stays where it is until the new one takes its place; its name in the trash."""
    if not home.state_file.exists():
        return ""
    if not home.state_file.is_file():
        return durable.set_aside(home.state_file, home.trash, stamp(clock.time())).name
    durable.make_dir(home.trash)
    copy = home.trash / f"{stamp(clock.time())}-{secrets.token_hex(2)}-{home.state_file.name}"
    durable.replace(copy, old)
    return copy.name


def _passed_over(one: Damaged) -> Finding:
    what, mend = one_line(one.line, 60), "passed over; git may have it as it was"
    return Finding(f"memory/{one.day}", f"not what was written: {what}", mend)
