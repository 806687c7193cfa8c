"""Making what is kept smaller, and giving up the large one only when the small one is known to hold all of it.

Rules kept here:

* what is new is written beside, fsynced, read back and compared; only then does the original go, so that a crash or a full
  disk at any moment leaves at least one whole copy;
* doing it again after a crash goes on from whatever is there, and never loses a byte of what was written meanwhile;
* symbolic links are never followed.

Left to others: which log or artifact (core.cleaning), and who is told (work.cleaning).
"""

from __future__ import annotations

import contextlib
import gzip
import os
import secrets
import shutil
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, BinaryIO, cast

from outlast.errors import CorruptError, OutlastError
from outlast.store import durable

__all__ = ["Changed", "Going", "compress", "contents", "drop", "pack", "unpacked", "walk"]

_PIECE = 1 << 20
Going = Callable[[], None]
"""Called before every piece is read; raises whatever is to end the work (a stop of the node)."""


class Changed(OutlastError):
    """It is not what can be packed, or not any more: it stays as it is."""


def walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file, folder and link of ``root``, itself first (as ``""``): path below it and lstat. Raises OSError."""
    yield "", os.lstat(root)
    if root.is_symlink() or not root.is_dir():
        return
    for folder, folders, files in os.walk(root, onerror=_raise):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = os.path.join(folder, name)
            yield os.path.relpath(path, root), os.lstat(path)


def contents(root: Path, going: Going) -> dict[str, str]:
    """What ``root`` holds: by path, the SHA-256 of a file, ``folder``, or ``link to …``. Raises OSError, Changed."""
    found: dict[str, str] = {}
    for name, info in walk(root):
        path = root / name
        if stat.S_ISREG(info.st_mode):
            with _plain(path, going) as file:
                found[name] = _sum(file)[0]
        elif stat.S_ISLNK(info.st_mode):
            found[name] = f"link to {os.readlink(path)}"
        elif stat.S_ISDIR(info.st_mode):
            found[name] = "folder"
        else:
            raise Changed(f"{name or root.name} is neither file nor folder")
    return found


def compress(log: Path, going: Going) -> int:
    """Turn ``X`` into ``X.gz``; return how many bytes that frees. Raises Changed, CorruptError, OSError.

    What an earlier ``X.gz`` holds stays in front: gzip reads one after the other as one.
    """
    target = log.with_name(f"{log.name}.gz")
    before = os.lstat(log)
    had, had_digest, had_size = target.exists(), "", 0
    if had:
        had_digest, had_size = _sum_gz(target, going)
    with _plain(log, going) as file:
        digest, _ = _sum(file)
    old_bytes = target.stat().st_size if had else 0
    # Equal: a crash came before the original went.
    if not had or digest != had_digest:
        with _beside(target) as (half, new):
            if had:
                with _plain(target, going) as file:
                    shutil.copyfileobj(file, new, _PIECE)
            with _plain(log, going) as file, gzip.GzipFile("", "wb", 6, new, mtime=0) as packed:
                shutil.copyfileobj(file, packed, _PIECE)
            new.flush()
            durable.fsync_file(new.fileno())
            if _sum_gz(half, going, skip=had_size)[0] != digest:
                raise CorruptError(f"{log.name} does not read back as it was written")
            os.utime(half, ns=(before.st_atime_ns, before.st_mtime_ns))
            os.chmod(half, stat.S_IMODE(before.st_mode))
    now = os.lstat(log)
    if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
        raise Changed(f"{log.name} was written to meanwhile")
    log.unlink()
    durable.fsync_dir(log.parent)
    return max(0, before.st_size - (target.stat().st_size - old_bytes))


def pack(root: Path, archive: Path, going: Going) -> dict[str, str]:
    """Write a file or folder as ``archive`` (tar.gz) and read it back. Returns what it holds, as ``contents`` does.

    Raises Changed, CorruptError, OSError.
    """
    with _beside(archive) as (half, file):
        with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
            for name, info in walk(root):
                _add(tar, root / name, os.path.join(root.name, name) if name else root.name, info, going)
        file.flush()
        durable.fsync_file(file.fileno())
        held = unpacked(half, going)
        if held != contents(root, going):
            raise Changed(f"{root.name} was written to meanwhile")
    return held


def unpacked(archive: Path, going: Going) -> dict[str, str]:
    """What an archive that ``pack`` wrote holds, as ``contents`` does. Raises OSError, CorruptError."""
    held: dict[str, str] = {}
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for entry in tar:
                path = entry.name.partition("/")[2]
                if entry.isreg():
                    with cast(BinaryIO, tar.extractfile(entry)) as file:
                        held[path] = _sum(_Watched(file, going))[0]
                else:
                    held[path] = f"link to {entry.linkname}" if entry.issym() else "folder"
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise CorruptError(f"{archive.name} does not read back: {error}") from error
    return held


def drop(copy: Path, held: dict[str, str], going: Going) -> bool:
    """Delete a copy that holds nothing but what ``held`` does; else it stays, and false is returned. Raises OSError."""
    if contents(copy, going) != held:
        return False
    if copy.is_dir():
        shutil.rmtree(copy)
    else:
        copy.unlink()
    # Where the power goes now it is there again, and the next cleaning drops it.
    return True


def _add(tar: tarfile.TarFile, path: Path, name: str, info: os.stat_result, going: Going) -> None:
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode) or stat.S_ISLNK(info.st_mode)):
        raise Changed(f"{name} is neither file nor folder")
    entry = tar.gettarinfo(str(path), arcname=name)
    if not stat.S_ISREG(info.st_mode):
        tar.addfile(entry)
        return
    # Not as a hard link to another member: each is whole by itself.
    entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", info.st_size
    with _plain(path, going) as file:
        tar.addfile(entry, cast(BinaryIO, file))


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file that becomes ``target`` when the block ends well, and is gone when it does not."""
    half = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        fd = os.open(half, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            yield half, file
        os.rename(half, target)
        durable.fsync_dir(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            half.unlink(missing_ok=True)
        raise


class _Watched:
    """A file whose reader can be ended between two pieces, also where tarfile does the reading."""

    def __init__(self, file: IO[bytes], going: Going) -> None:
        self._file, self._going = file, going

    def read(self, size: int = -1) -> bytes:
        self._going()
        return self._file.read(size)


@contextlib.contextmanager
def _plain(path: Path, going: Going) -> Iterator[_Watched]:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        yield _Watched(file, going)


def _sum(file: _Watched, skip: int = 0) -> tuple[str, int]:
    """The SHA-256 of what ``file`` gives after its first ``skip`` bytes, and how many bytes that are."""
    digest, size = sha256(), 0
    while skip and (piece := file.read(min(skip, _PIECE))):
        skip -= len(piece)
    while piece := file.read(_PIECE):
        digest.update(piece)
        size += len(piece)
    return digest.hexdigest(), size


def _sum_gz(path: Path, going: Going, skip: int = 0) -> tuple[str, int]:
    """The same of what a gzip file holds. Raises CorruptError where it is none, or not whole."""
    try:
        with gzip.open(path, "rb") as file:
            return _sum(_Watched(cast(BinaryIO, file), going), skip)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise CorruptError(f"{path.name} is no whole gzip file; move it away, and clean again") from error


def _raise(error: OSError) -> None:
    raise error
