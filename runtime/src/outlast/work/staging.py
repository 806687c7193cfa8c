"""Where a step's files are made, ``var/steps/UNIT/work/``: who may work there, and how a file gets there.

Rules kept here: whoever runs a step's command has the place to itself, its command included, for as long as either lives,
and a crash frees it; a file is staged whole and on the disk, or not at all.

Left to others: what is promised and what becomes of it (work.steps).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from outlast.errors import BadInput, DurabilityError
from outlast.store import durable

__all__ = ["STAGED", "at_work", "busy", "is_made", "stage", "take"]

STAGED = r"\.[0-9a-f]{16}\.staged"
"""What a file is called until the step takes it."""

_CHUNK = 1 << 18


@contextlib.contextmanager
def at_work(folder: Path, *, alone: bool) -> Iterator[int]:
    """Be at work in the folder of a step, which is made; ``alone``: with nobody else, else with others that are not.

    Gives the descriptor that holds the place: who inherits it holds it as well. Raises BadInput where it is taken.
    """
    fd = _hold(folder, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
    try:
        yield fd
    finally:
        # Nothing was begun, or all is done: an empty folder is nobody's.
        with contextlib.suppress(OSError):
            os.rmdir(folder)
        os.close(fd)


def busy(folder: Path) -> bool:
    """Is anybody at work in the folder of a step?"""
    try:
        os.close(_open(folder, fcntl.LOCK_EX))
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def stage(folder: Path, source: BinaryIO, most_bytes: int) -> str:
    """Copy ``source`` to the disk of a step's folder. Returns the name it has until it is taken.

    Raises BadInput where it is empty or holds more than ``most_bytes``, DurabilityError.
    """
    name = f".{secrets.token_hex(8)}.staged"
    path, size = folder / name, 0
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, durable.SHARED_FILE)
        try:
            while chunk := source.read(_CHUNK):
                size += len(chunk)
                if size > most_bytes:
                    raise BadInput("--from", f"it holds more than {most_bytes} bytes", "raise agent.artifact_limit")
                durable.write_all(fd, chunk)
            if not size:
                raise BadInput("--from", "it is empty", "stage what the step has made")
            durable.fsync_file(fd)
        finally:
            os.close(fd)
    except BaseException as error:
        with contextlib.suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise DurabilityError(f"the file could not be staged: {error.strerror or error}") from error
        raise
    return name


def take(work: Path, name: str, staged: Path) -> None:
    """Give what was staged its name below ``work``. Raises BadInput where it is gone, DurabilityError."""
    if not is_made(staged):
        raise BadInput("--from", "what was to be staged is gone", "stage it again")
    for parent in reversed((work / name).parents):
        if parent.is_relative_to(work):
            durable.make_dir(parent, mode=durable.SHARED_FOLDER)
    durable.move(staged, work / name)


def is_made(path: Path) -> bool:
    """Is this a file, no link to one, with something in it?"""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def _hold(folder: Path, how: int) -> int:
    while True:
        durable.make_dir(folder)
        try:
            fd = _open(folder, how)
        except FileNotFoundError:
            continue
        except BlockingIOError:
            wrong = f"{folder.name} is being worked on: `outlast step run`, or a command that one left behind"
            raise BadInput("--unit", wrong, "wait for it, or end it") from None
        # Whoever had it before may have removed the folder that we hold.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), os.stat(folder)):
                return fd
        os.close(fd)


def _open(folder: Path, how: int) -> int:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BaseException:
        os.close(fd)
        raise
    return fd
