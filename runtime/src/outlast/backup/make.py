"""Making a backup, while the node runs or not: nothing waits for it, and nothing is stopped.

Rules kept here: the file has its name once it is whole, read back, and on the disk; 0600, because the node's keys are in it;
what could not be taken in is said, in the manifest and to who asked; one is made at a time, and a crash leaves nothing but what
the next one sweeps away, which takes nobody else's. Of those in the node's own folder the newest stay, whatever the clock was
(naming); older ones go to the one part of the trash that empties itself.

Left to others: what goes in (collect), the format (archive), how OpenClaw's state is copied (openclaw.snapshots).
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import io
import os
import secrets
import sqlite3
import stat
import tarfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, BinaryIO, cast

import msgspec

from outlast import __version__
from outlast.backup import naming
from outlast.backup.archive import MANIFEST, OPENCLAW, VERSION, Left, Manifest, Member, read, seal
from outlast.backup.collect import Thing, copied, ledger, things
from outlast.clock import Clock, iso, stamp
from outlast.core.record import one_line
from outlast.errors import BadInput, CorruptError, DurabilityError, HeldError, OutlastError
from outlast.home import Home
from outlast.openclaw.place import Place
from outlast.store import durable

__all__ = ["Made", "Progress", "make"]

_LEVEL = 6
_PIECE = 1 << 20
_LARGE = 256 << 20
Progress = Callable[[str, int, int], None]
"""Told what is done, how many bytes of how many."""


class Made(msgspec.Struct, frozen=True):
    """What ``outlast backup now --json`` prints. ``large``: what takes most of it, path and bytes; ``aside``: older ones that
    made room for it."""

    node: str
    file: str
    size: int
    made: str
    files: int
    bytes: int
    keys: bool
    openclaw: str
    left: tuple[Left, ...]
    large: tuple[tuple[str, int], ...]
    aside: tuple[str, ...] = ()


def make(
    home: Home,
    node: str,
    place: Place | None,
    clock: Clock,
    *,
    to: Path | None,
    keys: bool,
    progress: Progress,
    keep: int = 7,
) -> Made:
    """Make a backup; ``keep``: so many stay, where they lie with the node. Raises BadInput, DurabilityError, OutlastError; then
    there is none."""
    folder = _folder(home, to)
    with _alone(home):
        made = _make(home, node, place, clock, folder, keys=keys, progress=progress)
        return msgspec.structs.replace(made, aside=_thinned(home, node, keep, clock)) if to is None else made


def _thinned(home: Home, node: str, keep: int, clock: Clock) -> tuple[str, ...]:
    """Set all but the newest aside; their names."""
    old = naming.newest_first(home.backups, f"outlast-{node}")[max(1, keep) :]
    for path in old:
        durable.set_aside(path, home.old_logs, stamp(clock.time()))
    return tuple(path.name for path in old)


def _make(
    home: Home, node: str, place: Place | None, clock: Clock, folder: Path, *, keys: bool, progress: Progress
) -> Made:
    now = clock.time()
    half = folder / f".outlast-{node}.{secrets.token_hex(4)}.tmp"
    try:
        for left in folder.glob(f".outlast-{node}.{'[0-9a-f]' * 8}.tmp"):
            left.unlink(missing_ok=True)
        fd = os.open(half, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            hashed = _Sealing(file)
            with gzip.GzipFile("", "wb", _LEVEL, cast(BinaryIO, hashed), mtime=0) as packed:
                writing = _Writing(home, packed, progress)
                writing.all(place, clock, keys=keys)
                manifest = Manifest(
                    VERSION, __version__, node, str(home.root), iso(now), keys, writing.openclaw,
                    tuple(writing.left), tuple(writing.members),
                )  # fmt: skip
                writing.close(manifest)
            hashed.write_seal()
            file.flush()
            durable.fsync_file(file.fileno())
        _read_back(half, manifest, progress)
        target = naming.following(folder, f"outlast-{node}", now)
        durable.move(half, target)
    except (OSError, _WriteError) as error:
        cause = error.cause if isinstance(error, _WriteError) else error
        told = cause.strerror or str(cause)
        raise DurabilityError(
            f"{folder}: the backup could not be written: {told}; make room there, or use --to"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            half.unlink(missing_ok=True)
    large = sorted(((one.path, one.size) for one in manifest.members if one.size > _LARGE), key=lambda one: -one[1])
    return Made(
        node, str(target), target.stat().st_size, manifest.made, len(manifest.members), manifest.size, keys,
        manifest.openclaw, manifest.left, tuple(large),
    )  # fmt: skip


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    durable.make_dir(home.backups)
    with (home.backups / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError("backup", "another one of this node is being made", "wait for it to end") from None
        yield


def _folder(home: Home, to: Path | None) -> Path:
    if to is None:
        durable.make_dir(home.backups)
        return home.backups
    if not to.is_dir():
        raise BadInput("--to", f"{to} is no folder", "name one that is there")
    if not os.access(to, os.W_OK | os.X_OK):
        raise BadInput("--to", f"you may not write to {to}", "name another one, or run it as who may")
    return to.resolve()


def _read_back(half: Path, manifest: Manifest, progress: Progress) -> None:
    whole, done = half.stat().st_size, 0

    def seen(count: int) -> None:
        nonlocal done
        done += count
        progress("reading it back", min(done, whole), whole)

    try:
        same = read(half, seen=seen) == manifest
    except CorruptError as error:
        raise OutlastError(
            f"the backup does not read back: {error}; look at the disk (dmesg), then try again"
        ) from error
    if not same:
        raise OutlastError("the backup does not read back as it was written; look at the disk (dmesg), then try again")


class _Writing:
    """One archive that is being written."""

    def __init__(self, home: Home, packed: gzip.GzipFile, progress: Progress) -> None:
        self.members: list[Member] = []
        self.left: list[Left] = []
        self.openclaw = ""
        self._home = home
        self._sink = _Sink(packed)
        self._tar = tarfile.open(fileobj=cast(IO[bytes], self._sink), mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115 (until close)
        self._progress = progress
        self._done = self._whole = 0

    def all(self, place: Place | None, clock: Clock, *, keys: bool) -> None:
        """Write everything but the manifest. Raises OSError, OutlastError."""
        # First, because it takes longest, and what the node remembers should not be older.
        state = self._openclaw(place, clock) if place is not None and place.state.is_dir() else None
        found = []
        for one in things(self._home, keys=keys):
            if isinstance(one, OSError):
                self._leave(one.filename or "", one)
            else:
                found.append(one)
        self._whole = sum(one.about.st_size for one in found if stat.S_ISREG(one.about.st_mode))
        self._ledger()
        for one in found:
            self._thing(one)
        if state is not None:
            with state.open("rb") as file:
                self._file(OPENCLAW, 0o600, file, state.stat().st_size, 0.0)

    def close(self, manifest: Manifest) -> None:
        """Write the manifest, and the archive's end."""
        data = msgspec.json.encode(manifest)
        self._add(MANIFEST, 0o600, io.BytesIO(data), len(data), 0.0)
        self._tar.close()

    def _openclaw(self, place: Place, clock: Clock) -> Path | None:
        from outlast.openclaw import snapshots

        self._progress("OpenClaw copies its state", 0, 0)
        made = None
        try:
            made = snapshots.make(place, clock)
        except OutlastError as error:
            made = snapshots.newest(place)
            instead = f"its newest good copy, {made.name}, is in it" if made else "there is no older copy either"
            self.left.append(Left(str(place.state.relative_to(self._home.root)), f"{error}; {instead}"))
        if made is not None:
            self.openclaw = made.name.removeprefix("openclaw-").removesuffix(".tar.gz")
        return made

    def _ledger(self) -> None:
        """Copied into a file beside, which has no name any more when it is written."""
        name = self._home.ledger.relative_to(self._home.root).as_posix()
        if not self._home.ledger.is_file():
            return
        copy = self._home.ledger.with_name(f".{self._home.ledger.name}.{secrets.token_hex(4)}.tmp")
        try:
            ledger(self._home, copy)
            with copy.open("rb") as file:
                self._file(name, 0o600, file, copy.stat().st_size, 0.0)
        except sqlite3.Error as error:
            self.left.append(Left(name, f"{one_line(str(error), 80)}; a node without it begins it anew"))
        finally:
            for path in (copy, *(copy.with_name(f"{copy.name}{end}") for end in ("-journal", "-wal", "-shm"))):
                path.unlink(missing_ok=True)

    def _thing(self, thing: Thing) -> None:
        mode, path = thing.about.st_mode, self._home.root / thing.path
        try:
            name = thing.path.encode().decode()
            if stat.S_ISDIR(mode):
                self._folder(name, stat.S_IMODE(mode) & 0o777)
            elif stat.S_ISLNK(mode):
                self._link(name, os.readlink(path))
            elif stat.S_ISREG(mode):
                with copied(self._home, thing) as (file, size):
                    self._file(name, stat.S_IMODE(mode) & 0o777, file, size, thing.about.st_mtime)
                self._done += thing.about.st_size
                self._progress("packing", min(self._done, self._whole), self._whole)
            else:
                self.left.append(Left(name, "it is neither file, folder nor link"))
        except FileNotFoundError:
            # Whoever works here takes things away as well; what is gone is not missing.
            return
        except UnicodeError:
            self.left.append(Left(ascii(thing.path), "its name is not UTF-8"))
        except OSError as error:
            self._leave(thing.path, error)

    def _leave(self, path: str, error: OSError) -> None:
        name = os.path.relpath(path, self._home.root) if os.path.isabs(path) else path
        self.left.append(Left(name.encode(errors="replace").decode(), error.strerror or str(error)))

    def _folder(self, name: str, mode: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self._addfile(entry)
        self.members.append(Member(name, "folder", mode))

    def _link(self, name: str, target: str) -> None:
        target.encode()
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, target
        self._addfile(entry)
        self.members.append(Member(name, "link", 0o777, target=target))

    def _file(self, name: str, mode: int, file: IO[bytes], size: int, changed: float) -> None:
        digest = self._add(name, mode, file, size, changed)
        self.members.append(Member(name, "file", mode, size, digest))

    def _addfile(self, entry: tarfile.TarInfo, file: _Hashed | None = None) -> None:
        try:
            self._tar.addfile(entry, cast(BinaryIO, file))
        except OSError as error:
            # The archive's own trouble ends it; that of one thing only leaves it out.
            self._sink.broken = True
            raise _WriteError(error) from error

    def _add(self, name: str, mode: int, file: IO[bytes], size: int, changed: float) -> str:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = size, mode, int(changed)
        hashed = _Hashed(file)
        self._addfile(entry, hashed)
        return hashed.digest.hexdigest()


class _Sealing:
    """The file, hashed as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash = file, sha256()

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def write_seal(self) -> None:
        self._file.write(seal(self._hash))


class _Sink:
    """The stream below tarfile, which writes once more when it is thrown away."""

    def __init__(self, packed: gzip.GzipFile) -> None:
        self._packed, self.broken = packed, False

    def write(self, data: bytes) -> int:
        return len(data) if self.broken or self._packed.closed else self._packed.write(data)


class _WriteError(Exception):
    def __init__(self, cause: OSError) -> None:
        self.cause = cause


class _Hashed:
    """A file whose content is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data
