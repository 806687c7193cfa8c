"""Copy folders of a person's to where a node has them: read as the one, written as the other.

Keeps: standard library only. Where root does it, what reads has become the person and what writes has become the node's
user: neither can lead root astray, whatever links they put where. Links are copied as links; what is neither file, folder
nor link is left out; where a copy was cut off, the next one begins it anew.

Leaves to others: what is copied where (plugins/modules/openclaw_adopt.py), bringing it to the disk and to its place
(outlast.openclaw.adopting).
"""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

__all__ = ["CopyTrouble", "Part", "acting", "copy"]

_END = ".outlast-end"
_PIECE = 1 << 20
_ALONE = "nobody takes it any more; mend: run the same command again"


class Part(NamedTuple):
    """A folder, where its copy is to be, which paths below it stay behind, and whether its readers are to be let at it.

    ``follow``: paths below it where a link is copied as what it leads to.
    """

    source: str
    target: str
    skip: frozenset[str]
    shared: bool
    follow: frozenset[str] = frozenset()


class CopyTrouble(Exception):
    """Why it could not be copied: what is wrong, and the mend."""


def copy(part: Part, reader: int, writer: int) -> None:
    """Copy it, read as one user and written as another; what lies at its target is replaced. Raises CopyTrouble."""
    out, into = os.pipe()
    reading = _begin(reader, lambda: _read(part, into), out)
    writing = _begin(writer, lambda: _write(part, out), into)
    for end in (out, into):
        os.close(end)
    read, written = _outcome(reading), _outcome(writing)
    # Where one of the two ends, so does the other: the one that did not is the reason.
    if wrong := written if read == _ALONE else read or written:
        raise CopyTrouble(wrong)


def acting(user: int, what: Callable[[], None]) -> None:
    """Do something as a user. Raises CopyTrouble."""
    if wrong := _outcome(_begin(user, what, None)):
        raise CopyTrouble(wrong)


def _begin(user: int, what: Callable[[], None], foreign: int | None) -> tuple[int, int]:
    """A child that becomes a user and does something: its process id, and where it says what went wrong."""
    hear, say = os.pipe()
    child = os.fork()
    if child:
        os.close(say)
        return child, hear
    wrong = "ended early; mend: run the same command again"
    try:
        os.close(hear)
        if foreign is not None:
            os.close(foreign)
        _become(user)
        what()
        wrong = ""
    except OSError as error:
        wrong = _in_words(error)
    except (tarfile.TarError, ValueError) as error:
        wrong = f"{error}; mend: run the same command again"
    finally:
        # Nothing of the module's goes on in here.
        os.write(say, wrong.encode("utf-8", "replace"))
        os._exit(bool(wrong))


def _become(user: int) -> None:
    if os.geteuid() or not user:
        return
    try:
        known = pwd.getpwuid(user)
        os.initgroups(known.pw_name, known.pw_gid)
        os.setgid(known.pw_gid)
    except KeyError:
        os.setgroups([])
        os.setgid(user)
    os.setuid(user)


def _outcome(begun: tuple[int, int]) -> str:
    child, hear = begun
    with os.fdopen(hear, "rb") as told:
        said = told.read().decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    return said or ("was killed; mend: run the same command again" if status else "")


def _in_words(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no room on the disk for a copy; mend: make room there, and run the same command again"
    if error.errno == errno.EPIPE:
        return _ALONE
    where = f"{error.filename}: " if error.filename else ""
    if isinstance(error, FileNotFoundError) or not error.errno:
        return f"{where}it changed while it was copied; mend: see that nobody uses it, and run the same command again"
    return f"{where}{error.strerror}; mend: see that its owner can read it, and run the same command again"


def _read(part: Part, into: int) -> None:
    with os.fdopen(into, "wb") as out, tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for path, name in _below(part):
            is_followed = name in part.follow
            status = os.stat(path) if is_followed else os.lstat(path)
            entry = tarfile.TarInfo(name)
            entry.mode, entry.mtime = status.st_mode & 0o777, status.st_mtime
            if stat.S_ISDIR(status.st_mode):
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            elif stat.S_ISLNK(status.st_mode):
                entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)
                tar.addfile(entry)
            elif stat.S_ISREG(status.st_mode):
                with open(os.open(path, os.O_RDONLY | (0 if is_followed else os.O_NOFOLLOW)), "rb") as file:
                    entry.size = os.fstat(file.fileno()).st_size
                    tar.addfile(entry, file)
        tar.addfile(tarfile.TarInfo(_END))


def _below(part: Part) -> Iterator[tuple[str, str]]:
    """What is to be copied, folders before what is in them. Raises OSError."""

    def stop(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(part.source, onerror=stop):
        inside = os.path.relpath(folder, part.source)
        names = {one: os.path.normpath(os.path.join(inside, one)) for one in sorted([*folders, *files])}
        folders[:] = [one for one in sorted(folders) if names[one] not in part.skip]
        for one, name in names.items():
            if name not in part.skip:
                yield os.path.join(folder, one), name


def _write(part: Part, out: int) -> None:
    shutil.rmtree(part.target, ignore_errors=True)
    os.makedirs(os.path.dirname(part.target), 0o700, exist_ok=True)
    os.mkdir(part.target, 0o750 if part.shared else 0o700)
    links = []
    ended = False
    with os.fdopen(out, "rb") as pipe, tarfile.open(fileobj=pipe, mode="r|") as tar:
        for entry in tar:
            if entry.name == _END:
                ended = True
                continue
            place = os.path.join(part.target, entry.name)
            if os.path.isabs(entry.name) or ".." in entry.name.split("/"):
                raise ValueError(f"{entry.name!r} is no name in it")
            if entry.isdir():
                os.mkdir(place, 0o750 if part.shared else 0o700)
            elif entry.issym():
                links.append((entry.linkname, place))
            else:
                _file(tar, entry, place, shared=part.shared)
    if not ended:
        raise ValueError("the copy was cut off")
    # Last of all: nothing is written through one.
    for target, place in links:
        os.symlink(target, place)


def _file(tar: tarfile.TarFile, entry: tarfile.TarInfo, place: str, *, shared: bool) -> None:
    mode = (0o640 if shared else 0o600) | ((0o110 if shared else 0o100) if entry.mode & 0o100 else 0)
    content = tar.extractfile(entry)
    if content is None:
        raise ValueError(f"{entry.name!r} is neither file, folder nor link")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with content, open(os.open(place, flags, mode), "wb") as file:
        shutil.copyfileobj(content, file, _PIECE)
    os.utime(place, (entry.mtime, entry.mtime))
