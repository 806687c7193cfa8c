"""Copies of OpenClaw's state, made and verified by OpenClaw itself, and putting one back.

Rules kept here: database files are never copied while somebody may write to them: ``openclaw backup create`` does it, whether
its gateway runs or not; one is made at a time, and counts once it is verified and on the disk, 0600; a bounded number is kept,
never without the one just made, and older ones go to the one part of the trash that empties itself. Putting one back keeps what
was there; a crash at any moment ends in the old state or in the new one, whole (backup.activation), once ``finish`` was called,
which whoever starts the gateway does first.

The workspaces of agents are not in it: they are the node's, and are not put back in time because a database is broken. Neither
is the configuration, which is Ansible's. Left to others: when (the gateway's supervision), that the gateway does not run.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from outlast.backup import activation, naming
from outlast.backup.archive import Unzipped, apart, plain
from outlast.backup.collect import STAGED
from outlast.clock import Clock, SystemClock, stamp
from outlast.core.record import one_line
from outlast.errors import CorruptError, DurabilityError, OutlastError
from outlast.openclaw.place import Place
from outlast.store import durable, regular
from outlast.work.trees import remove

__all__ = [
    "SnapshotError",
    "finish",
    "make",
    "newest",
    "restore_into",
    "snapshot",
    "snapshots",
    "unpack_state",
    "verify",
]

_NAME = "openclaw"
_CREATE_S, _VERIFY_S, _KILLED_S = 1800.0, 600.0, 10.0
_HELD_S = 60.0
_LOOK_S = 0.05
_OUTPUT = 1 << 20
_PIECE = 1 << 20


class SnapshotError(OutlastError):
    """OpenClaw could not copy its state, or a copy of it is not whole."""


def snapshots(place: Place) -> list[Path]:
    """The copies that there are, newest first."""
    return naming.newest_first(place.snapshots, _NAME)


def newest(place: Place) -> Path | None:
    """The newest copy; None where there is none."""
    return next(iter(snapshots(place)), None)


async def snapshot(place: Place, clock: Clock | None = None) -> Path:
    """Copy OpenClaw's state into ``var/snapshots``; where it is. Its gateway may run. Raises SnapshotError, DurabilityError."""
    halt = threading.Event()
    try:
        return await asyncio.to_thread(make, place, clock or SystemClock(), halt)
    except asyncio.CancelledError:
        halt.set()
        raise


def make(place: Place, clock: Clock, halt: threading.Event | None = None) -> Path:
    """The same, for who may wait."""
    durable.make_dir(place.snapshots)
    with _alone(place.snapshots, halt):
        return _make(place, clock, halt)


def _make(place: Place, clock: Clock, halt: threading.Event | None) -> Path:
    folder = place.snapshots
    for half in folder.glob(".half-*.tar.gz"):
        half.unlink(missing_ok=True)
    half = folder / f".half-{secrets.token_hex(4)}.tar.gz"
    try:
        words = ["backup", "create", "--verify", "--no-include-workspace", "--json", "--output", str(half)]
        answer = _told(place, words, _CREATE_S, halt, "its state could not be copied")
        if answer.get("verified") is not True:
            raise SnapshotError(
                "openclaw: the copy of its state was not verified; look at its database: openclaw doctor"
            )
        try:
            half.chmod(0o600)
            durable.settle(half)
        except OSError as error:
            raise DurabilityError(f"{half.name} could not be kept: {error.strerror or error}") from error
        target = naming.following(folder, _NAME, clock.time())
        durable.move(half, target)
    finally:
        with contextlib.suppress(OSError):
            half.unlink(missing_ok=True)
    for old in snapshots(place)[max(1, place.settings.snapshots) :]:
        durable.set_aside(old, place.home.old_logs, stamp(clock.time()))
    return target


@contextlib.contextmanager
def _alone(folder: Path, halt: threading.Event | None) -> Iterator[None]:
    """The runtime makes one now and then, and a backup does, and an upgrade. Raises SnapshotError, OSError."""
    deadline = time.monotonic() + _CREATE_S
    with (folder / ".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if (halt and halt.is_set()) or time.monotonic() > deadline:
                    why = "another copy of its state is being made; wait for it to end"
                    raise SnapshotError(f"openclaw: {why}") from None
                time.sleep(_LOOK_S)
        yield


def verify(place: Place, file: Path) -> None:
    """Have OpenClaw verify a copy. Raises SnapshotError."""
    _told(place, ["backup", "verify", str(file), "--json"], _VERIFY_S, None, f"{file.name} is not whole")


def read_through(file: Path) -> None:
    """Read a copy to its end without OpenClaw: is its state in it? Raises CorruptError, OSError."""
    try:
        with regular.opened(file) as archive:
            _state_in(_manifest(archive))
    except (tarfile.TarError, EOFError, UnicodeError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{file.name}: it is no copy of OpenClaw's ({one_line(str(error), 80)})") from error


def restore_into(place: Place, file: Path, clock: Clock | None = None) -> Path:
    """Put a copy back as OpenClaw's state; where that is which was there. Its gateway must not run.

    Raises SnapshotError, CorruptError, DurabilityError, and then all is as it was, or ``finish`` ends it.
    """
    finish(place)
    for left in place.state.parent.glob(f"{STAGED}*"):
        remove(left)
    verify(place, file)
    made = stamp((clock or SystemClock()).time())
    fresh = place.state.with_name(f"{STAGED}{made}-{secrets.token_hex(2)}")
    aside = place.home.trash / f"{made}-{secrets.token_hex(2)}-{place.state.name}"
    try:
        todo = _laid_out(place, file, fresh, aside)
    except BaseException as error:
        remove(fresh)
        if isinstance(error, OSError):
            raise DurabilityError(f"{file.name} could not be unpacked: {error.strerror or error}") from error
        raise
    activation.begin(_record(place), todo)
    finish(place)
    return aside


def _laid_out(place: Place, file: Path, fresh: Path, aside: Path) -> activation.Pending:
    unpack_state(file, fresh, place)
    activation.settle(fresh)
    root = place.home.root
    # The workspaces of its other agents are no part of the copy, and stay.
    stay = [path.name for path in sorted(place.state.glob("workspace-*")) if not os.path.lexists(fresh / path.name)]
    old, new = place.state.relative_to(root).as_posix(), fresh.relative_to(root).as_posix()
    kept = aside.relative_to(root).as_posix()
    todo = activation.Pending(
        told=f"OpenClaw's state from {file.name}",
        aside=((old, kept),) if os.path.lexists(place.state) else (),
        put=((new, old), *((f"{kept}/{name}", f"{old}/{name}") for name in stay)),
        trash=f"{kept}-meanwhile",
    )
    activation.check(root, todo)
    return todo


def finish(place: Place) -> str:
    """Carry through what a crash interrupted; what that was, empty where nothing was.

    Of a whole node's restore as well (outlast.lock). Raises CorruptError, DurabilityError, HeldError, OSError.
    """
    if place.home.restoring.exists():
        from outlast.lock import held

        with held(place.home, wait_s=_HELD_S):
            pass
    todo = activation.carry_on(place.home.root, _record(place))
    return todo.told if todo else ""


def unpack_state(file: Path, into: Path, place: Place) -> None:
    """Unpack OpenClaw's state out of a copy into a folder that is not there yet. Raises CorruptError, OSError."""
    try:
        with regular.opened(file) as archive:
            prefix = _state_in(_manifest(archive))
            archive.seek(0)
            into.mkdir(mode=0o700, parents=True)
            links = _unpack(archive, prefix, into)
    except (tarfile.TarError, EOFError, UnicodeError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{file.name}: it is no copy of OpenClaw's ({one_line(str(error), 80)})") from error
    # Last of all: nothing is written through one.
    for name, target in links.items():
        if not os.path.lexists(into / name):
            (into / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.symlink(target, into / name)
    link = into / "workspace"
    if link.is_symlink():
        # The node may live elsewhere now.
        link.unlink()
    if not os.path.lexists(link):
        link.symlink_to(place.home.workspace)


def _record(place: Place) -> Path:
    return place.snapshots / "restore.json"


def _manifest(archive: BinaryIO) -> dict[str, Any]:
    found: dict[str, Any] = {}
    unzipped = Unzipped(archive)
    with tarfile.open(fileobj=cast(IO[bytes], unzipped), mode="r|") as tar:
        for entry in tar:
            parts = entry.name.removeprefix("./").split("/")
            if entry.isreg() and parts[-1] == "manifest.json" and len(parts) <= 2:
                with cast(BinaryIO, tar.extractfile(entry)) as file:
                    found = json.loads(file.read())
    unzipped.drain()
    return found


def _state_in(manifest: dict[str, Any]) -> str:
    """The folder in the archive that holds the state."""
    for asset in manifest["assets"]:
        if asset["kind"] == "state":
            return f"{plain(str(asset['archivePath']))}/"
    raise CorruptError("it holds no state of OpenClaw's")


def _unpack(archive: BinaryIO, prefix: str, into: Path) -> dict[str, str]:
    """All but the links, which are returned: name and target."""
    names, links = set[str](), dict[str, str]()
    with tarfile.open(fileobj=cast(IO[bytes], Unzipped(archive)), mode="r|") as tar:
        for entry in tar:
            full = entry.name.rstrip("/")
            if not full.startswith(prefix):
                continue
            name = plain(full.removeprefix(prefix))
            target = into / name
            names.add(name)
            if entry.isdir():
                target.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif entry.issym():
                links[name] = entry.linkname
            elif entry.isreg():
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                # Its owner's alone, but a program stays one.
                mode = 0o600 | entry.mode & 0o700
                with cast(BinaryIO, tar.extractfile(entry)) as file, open(os.open(target, flags, mode), "wb") as out:
                    while piece := file.read(_PIECE):
                        out.write(piece)
            else:
                raise CorruptError(f"{one_line(name, 80)} is neither file, folder nor link")
    apart(names, links)
    return links


def _told(place: Place, words: list[str], seconds: float, halt: threading.Event | None, wrong: str) -> dict[str, Any]:
    """What one of OpenClaw's commands answers. Raises SnapshotError, with what it says is wrong."""
    with contextlib.suppress(DurabilityError):
        durable.make_dir(Path(place.environment()["TMPDIR"]))
    try:
        code, out, printed = _run([*place.command, *words], place.environment(), place.home.root, seconds, halt)
    except OSError as error:
        raise SnapshotError(
            f"openclaw: {wrong}: {error.strerror or error}; install it: ansible-playbook site.yml"
        ) from error
    answer = _json(out)
    if code == 0 and answer:
        return answer
    trouble = answer.get("error")
    message = trouble.get("message") if isinstance(trouble, dict) else ""
    why = one_line(str(message or printed or f"exit code {code}"), 300)
    raise SnapshotError(f"openclaw: {wrong}: {why}")


def _run(
    command: list[str], environment: dict[str, str], folder: Path, seconds: float, halt: threading.Event | None
) -> tuple[int, str, str]:
    """Exit code, output, and the end of what it said besides; it is killed with all that it started when its time is over."""
    process = subprocess.Popen(
        command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    left = seconds
    try:
        while True:
            try:
                out, err = process.communicate(timeout=_LOOK_S if halt else left)
                break
            except subprocess.TimeoutExpired:
                left -= _LOOK_S if halt else left
                if left <= 0:
                    raise SnapshotError(
                        f"openclaw: no answer within {seconds:.0f} s; look at the load of the machine"
                    ) from None
                if halt and halt.is_set():
                    raise SnapshotError("openclaw: ended, because the node stops") from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_KILLED_S)
    return process.returncode, out.decode(errors="replace")[-_OUTPUT:], err.decode(errors="replace")[-1000:]


def _json(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        answer = json.loads(text[text.index("{") :])
        return answer if isinstance(answer, dict) else {}
    return {}
