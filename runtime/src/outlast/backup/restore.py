"""Making a node what a backup holds, on a home that is empty or broken, while nothing of it runs.

Rules kept here: all of it is laid out beside, checked and on the disk before anything is touched; then it is carried through,
over any crash (activation). What was there is kept, whole. What site.yml made stays: configuration, keys and tokens are put
back only where there are none, or none that can be read: those that are there are newer than a backup's.

A backup is the past, and others know more: no number of the node's is given out twice (``_beyond``), nothing that was signed
before is taken again, what waited to be sent is filled again from the journal under the same ids, and tasks that were open are
in doubt, because they may have been done since.

Left to others: stopping and starting (playbooks/restore.yml), what a start finds (work.doctor).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from outlast.backup import activation
from outlast.backup.archive import OPENCLAW, Manifest, read
from outlast.backup.collect import PASSING, STAGED, records
from outlast.clock import Clock, iso, stamp
from outlast.core.gaps import RESTORED, gap_phrase
from outlast.core.state import GAP
from outlast.errors import BadInput, CorruptError, DurabilityError, KeyFileError
from outlast.home import Home
from outlast.openclaw.place import Place
from outlast.store import durable
from outlast.store.memory import Memory

__all__ = ["Restored", "restore"]

# No node writes more records or messages than that for long.
_A_SECOND, _LEAST = 20, 100_000
_TOLD = "the node was restored from a backup of {made}; what became of it since is not known"


class Restored(msgspec.Struct, frozen=True):
    """What ``outlast backup restore --json`` prints. ``kept``: where what was there is; ``stayed``: what was not put back."""

    node: str
    file: str
    made: str
    files: int
    bytes: int
    openclaw: str
    kept: str
    stayed: tuple[str, ...]
    in_doubt: tuple[str, ...]


def restore(
    home: Home, node: str, place: Place | None, file: Path, clock: Clock, seen: Callable[[int], None] = lambda _: None
) -> Restored:
    """Put a backup back. The home's lock is held by the caller.

    Raises BadInput, CorruptError, DurabilityError: until everything is laid out nothing was changed.
    """
    with _stopped(place):
        return _restore(home, node, place, file, clock, seen)


def _restore(
    home: Home, node: str, place: Place | None, file: Path, clock: Clock, seen: Callable[[int], None]
) -> Restored:
    tag = f"{stamp(clock.time())}-{secrets.token_hex(2)}"
    beside, inside = home.root / "var" / f"{STAGED}{tag}", home.workspace / f"{STAGED}{tag}"
    try:
        try:
            manifest = _laid_out(home, node, file, beside, inside, seen)
            openclaw = _openclaw(beside, place)
            doubt = _beyond(beside, manifest, clock)
            todo, stayed = _plan(home, beside, inside, tag, place if openclaw else None, manifest)
            activation.check(home.root, todo)
            for folder in (beside, inside):
                activation.settle(folder)
        except OSError as error:
            why = error.strerror or str(error)
            raise DurabilityError(
                f"{file.name} could not be laid out: {why}; nothing was changed; make room"
            ) from error
    except BaseException:
        _forget(beside, inside)
        raise
    activation.begin(home.restoring, todo)
    activation.carry_on(home.root, home.restoring)
    kept = str(home.root / todo.trash) if (home.root / todo.trash).exists() else ""
    return Restored(
        node, str(file), manifest.made, len(manifest.members), manifest.size, manifest.openclaw if openclaw else "",
        kept, tuple(stayed), tuple(doubt),
    )  # fmt: skip


@contextlib.contextmanager
def _stopped(place: Place | None) -> Iterator[None]:
    """Its database must not be taken from under a gateway that runs, and none is started meanwhile. Raises BadInput."""
    if place is None:
        yield
        return
    from outlast.openclaw import snapshots, wishes

    mend = "stop it first: ansible-playbook playbooks/down.yml; nothing was changed"
    lock = wishes.lock(place)
    if lock is None:
        raise BadInput("gateway", "its launcher runs", mend)
    try:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", place.settings.port)) == 0:
                raise BadInput("gateway", f"something listens on its port {place.settings.port}", mend)
        snapshots.finish(place)
        yield
    finally:
        os.close(lock)


def _laid_out(home: Home, node: str, file: Path, beside: Path, inside: Path, seen: Callable[[int], None]) -> Manifest:
    for folder in (beside.parent, home.workspace):
        durable.make_dir(folder)
        for old in folder.glob(f"{STAGED}*"):
            _forget(old)
    beside.mkdir(mode=0o700)
    # In the workspace itself, so that its access lists hold for what comes.
    inside.mkdir(mode=0o750)
    (beside / "workspace").symlink_to(inside)
    try:
        manifest = read(file, beside, seen)
    except CorruptError as error:
        raise BadInput(file.name, str(error), "nothing was changed; take another backup") from error
    if manifest.node != node:
        raise BadInput(
            file.name, f"it is a backup of {manifest.node}, not of {node}", "nothing was changed; take one of its own"
        )
    return manifest


def _openclaw(beside: Path, place: Place | None) -> bool:
    """Unpack OpenClaw's own copy; was there one, and somebody to have it?"""
    archive = beside / OPENCLAW
    if not archive.exists() or place is None:
        return False
    from outlast.openclaw.snapshots import unpack_state

    unpack_state(archive, beside / "openclaw", place)
    return True


def _beyond(beside: Path, manifest: Manifest, clock: Clock) -> list[str]:
    """Let no number come twice, and nothing in twice; the tasks that are in doubt."""
    staged, node = Home(beside), manifest.node
    elapsed = clock.time() - datetime.fromisoformat(manifest.made).timestamp()
    ahead = max(_LEAST, int(elapsed * _A_SECOND))
    told = _TOLD.format(made=manifest.made[:19].replace("T", " "))
    _ledger(staged.ledger, clock, ahead)
    memory = Memory(staged, node, clock)
    try:
        first = memory.state.seq + 1
        memory.journal.known(memory.state.seq + ahead)
        memory.note(GAP, gap_phrase(first, first + ahead - 1, RESTORED, ""))
        memory.recovered("node", f"restored from the backup of {manifest.made}")
        doubt = sorted(memory.state.open("task"))
        for unit in doubt:
            # Not confirmed: the next start tells its sender.
            memory.update(unit, "in doubt", told)
        memory.flush()
    finally:
        memory.close()
    return doubt


def _ledger(path: Path, clock: Clock, ahead: int) -> None:
    """The record and the counters are kept; what waits is filled again, from the journal, by the next start."""
    if not path.is_file():
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("DELETE FROM outbox")
            db.execute("DELETE FROM sent")
            db.execute("UPDATE meta SET value = ? WHERE name = 'not_before'", (clock.time(),))
            db.execute("UPDATE channels SET sent = sent + ?", (ahead,))
    except sqlite3.Error:
        # The next start begins it anew, which is as safe.
        path.unlink()


def _plan(
    home: Home, beside: Path, inside: Path, tag: str, place: Place | None, manifest: Manifest
) -> tuple[activation.Pending, list[str]]:
    """What goes aside and what comes in its place; and what stays as it is."""
    root, trash = home.root, home.trash / f"{tag}-restore"
    aside: list[tuple[str, str]] = []
    put: list[tuple[str, str]] = []
    stayed: list[str] = []

    def below(path: Path) -> str:
        return path.relative_to(root).as_posix()

    def go(path: Path) -> None:
        if os.path.lexists(path):
            aside.append((below(path), below(trash / path.relative_to(root))))

    def come(new: Path, path: Path) -> None:
        if os.path.lexists(new):
            put.append((below(new), below(path)))

    for name in sorted(os.listdir(home.workspace)):
        if not name.startswith(STAGED):
            go(home.workspace / name)
    for name in sorted(os.listdir(inside)):
        come(inside / name, home.workspace / name)
    staged = Home(beside)
    for path in (
        home.ledger,
        *(home.ledger.with_name(f"{home.ledger.name}{end}") for end in ("-wal", "-shm")),
        home.days,
    ):
        go(path)
    come(staged.ledger, home.ledger)
    for path in records(home):
        go(path)
        come(beside / path.relative_to(root), path)
    go(home.subagents)
    if place is not None:
        go(place.state)
        come(beside / "openclaw", place.state)
    elif manifest.openclaw:
        stayed.append(OPENCLAW)
    # The workspaces of its other agents, which are no part of its own copy.
    state = home.agents / ".openclaw"
    for new in sorted((beside / state.relative_to(root)).glob("workspace-*")):
        if place is None:
            go(state / new.name)
        come(new, state / new.name)
    for member in manifest.members:
        if not member.path.startswith("etc/") or member.kind != "file" or PASSING.fullmatch(member.path):
            continue
        if _is_good(root / member.path):
            stayed.append(member.path)
        else:
            go(root / member.path)
            come(beside / member.path, root / member.path)
    told = f"the backup of {manifest.made} is put back ({iso(os.stat(beside).st_mtime)})"
    return activation.Pending(told, tuple(aside), tuple(put), (below(beside), below(inside)), below(trash)), stayed


def _is_good(path: Path) -> bool:
    """Is a file of ``etc`` there that can be used?"""
    if path.suffix == ".key" and path.parent.name == "keys":
        from outlast.store.keyring import read_ring

        try:
            return bool(read_ring(path))
        except (KeyFileError, OSError):
            return False
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _forget(*folders: Path) -> None:
    from outlast.work.trees import remove

    for folder in folders:
        remove(folder)
