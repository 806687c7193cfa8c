"""Judges what an agent left in its working directory, and brings it to the disk.

Rules kept here:

* An artifact is regular files and directories within the limits, under names that a person can read and no other
  program trips over. A link, pipe, socket or device refuses the whole of it and is never followed or opened.
* Each file that is reported was read, hashed and fsynced as the very file that was judged, and so were the directories.

Left to others: ending the agent first (work.runner), and moving the artifact to its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import sys
from hashlib import sha256
from pathlib import Path

from outlast.core.record import one_line
from outlast.errors import AgentError, DurabilityError
from outlast.messages import ArtifactFile
from outlast.store.durable import fsync_dir, fsync_file, is_disks
from outlast.work.trees import through

__all__ = ["RESERVED", "harvest", "holds_more", "measure"]

RESERVED = ".outlast.json"
"""The one name at the top of an artifact that is Outlast's."""

_PATH_BYTES = 200  # 256 such paths fit into one message to the node that asked
_THREAD_BYTES = 1 << 20
_CHUNK = 1 << 18
_KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe (FIFO)", stat.S_IFSOCK: "a socket"}


async def harvest(work: Path, most_bytes: int, most_files: int) -> tuple[ArtifactFile, ...]:
    """Check, fsync and hash all that is in ``work`` (nothing may write there any more), sorted by path.

    Files of 1 MiB and more are read outside the event loop. Raises AgentError that says what is not acceptable;
    DurabilityError where the disk is, and not what was left on it.
    """
    try:
        files, folders = _survey(work, most_bytes, most_files)
        if not files:
            raise AgentError("left no artifact: no file in its working directory")
        if sum(status.st_size for status in files.values()) < _THREAD_BYTES:
            return _seal(work, files, folders)
        return await asyncio.to_thread(_seal, work, files, folders)
    except OSError as error:
        name = os.path.relpath(os.fsdecode(error.filename), work) if error.filename else "the artifact"
        if is_disks(error):
            raise DurabilityError(f"{_shown(name)} could not be kept: {error.strerror}") from error
        raise AgentError(f"{_shown(name)} could not be read or kept: {error.strerror or error}") from error


def holds_more(folder: Path, most_bytes: int) -> bool:
    """Whether the files below ``folder`` are more than ``most_bytes`` together. What vanishes meanwhile is not counted."""
    return measure(folder, most_bytes)[0] > most_bytes


def measure(folder: Path, most_bytes: int, most_files: int = sys.maxsize) -> tuple[int, int]:
    """Bytes of the files below ``folder``, and how many files and folders; counted until either is more than this."""
    total = files = 0

    def enter(here: int) -> list[str] | None:
        nonlocal total, files
        inside: list[str] = []
        with contextlib.suppress(OSError), os.scandir(here) as entries:
            for entry in entries:
                files += 1
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        inside.append(entry.name)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
                if total > most_bytes or files > most_files:
                    return None
        return inside

    with contextlib.suppress(OSError):
        through(folder, enter)
    return total, files


def _survey(work: Path, most_bytes: int, most_files: int) -> tuple[dict[str, os.stat_result], list[Path]]:
    """The files below ``work`` and the directories, ``work`` first. Raises AgentError; OSError."""
    files: dict[str, os.stat_result] = {}
    folders = [work]
    total = 0
    for folder in folders:  # grows while it is walked
        with os.scandir(folder) as entries:
            for entry in entries:
                path = os.path.relpath(entry.path, work)
                _check_name(path)
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    folders.append(Path(entry.path))
                else:
                    _check_kind(path, status)
                    files[path] = status
                    total += status.st_size
                if len(files) + len(folders) - 1 > most_files:
                    raise AgentError(
                        f"output too big: more than {most_files} files and directories; pack them into one"
                    )
                if total > most_bytes:
                    raise AgentError(f"output too big: its files are more than {most_bytes} bytes together")
    return files, folders


def _check_name(path: str) -> None:
    if path.casefold() == RESERVED:
        raise AgentError(f"the name {path} is Outlast's own; choose another for the artifact")
    if not path.isprintable():  # neither are bytes that are no UTF-8
        raise AgentError(f"the name {_shown(path)} holds characters that do not print; use plain names")
    if len(path.encode()) > _PATH_BYTES:
        raise AgentError(f"the name {_shown(path)} is longer than {_PATH_BYTES} bytes")


def _check_kind(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
        raise AgentError(f"{path} is {kind}; leave regular files and directories only")
    if status.st_nlink > 1:  # whoever holds the other name could change the artifact later
        raise AgentError(f"{path} is a hard link to a file that has another name; leave a copy")


def _seal(work: Path, files: dict[str, os.stat_result], folders: list[Path]) -> tuple[ArtifactFile, ...]:
    """Hash and fsync the surveyed files, then the directories. Raises AgentError; OSError."""
    sealed = tuple(_seal_file(work, path, files[path]) for path in sorted(files))
    for folder in reversed(folders):
        fsync_dir(folder)
    return sealed


def _seal_file(work: Path, path: str, surveyed: os.stat_result) -> ArtifactFile:
    fd = os.open(work / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        digest, size = sha256(), 0
        same = (status.st_dev, status.st_ino) == (surveyed.st_dev, surveyed.st_ino)
        while same and size <= surveyed.st_size and (chunk := os.read(fd, _CHUNK)):
            digest.update(chunk)
            size += len(chunk)
        if not same or size != surveyed.st_size:
            raise AgentError(f"{path} was changed while it was read; the agent left something running")
        fsync_file(fd)
    finally:
        os.close(fd)
    return ArtifactFile(path, size, digest.hexdigest())


def _shown(name: str) -> str:
    """A name that may hold anything, for one line that a person reads."""
    return one_line(name.encode("ascii", "backslashreplace").decode(), 80)
