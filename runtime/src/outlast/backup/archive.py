"""What a backup is: ``outlast-NODE-TIME.tar.gz``, and how it is read so that nothing in it is believed that is not whole.

Rules kept here: the last member, ``manifest.json``, names every other one with its size and SHA-256. Behind the gzip stream is
its seal: a second, empty one, whose comment is the SHA-256 of all before it, so that whatever byte of a backup is another,
reading it fails, and every gzip and tar takes both. No member leads out of the folder that it is unpacked into: names are plain
and relative, each is there once, none is below a link, and links are made last.

Left to others: what goes in (collect), writing it (make), what becomes of it on a node (restore).
"""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterable
from hashlib import sha256
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Literal, Protocol, cast

import msgspec

from outlast.core.plainjson import from_json
from outlast.core.record import one_line
from outlast.errors import CorruptError
from outlast.store import regular

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

__all__ = [
    "MANIFEST",
    "OPENCLAW",
    "VERSION",
    "Left",
    "Manifest",
    "Member",
    "Unzipped",
    "apart",
    "extract",
    "plain",
    "read",
]

VERSION = 1
MANIFEST = "manifest.json"
# OpenClaw's own copy of its state, as it made it.
OPENCLAW = "openclaw.tar.gz"
_SEAL = b"\x1f\x8b\x08\x10\x00\x00\x00\x00\x00\xff%s\0\x03\x00" + bytes(8)
_SEAL_BYTES = len(_SEAL) - len("%s") + 64
_PIECE = 1 << 20
_MANIFEST_BYTES = 256 << 20

Kind = Literal["file", "folder", "link"]


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One of its members, or of the folder that it was made from. ``target``: where a link leads."""

    path: str
    kind: Kind = "file"
    mode: int = 0o600
    size: int = 0
    sha256: str = ""
    target: str = ""


class Left(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that is not in it, or not as it should be, and why."""

    path: str
    why: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a backup says of itself. ``made``: ISO 8601, UTC; ``keys``: whether the node's keys and tokens are in it;
    ``openclaw``: when the copy of OpenClaw's state that is in it was made, empty where there is none.
    """

    version: int
    outlast: str
    node: str
    home: str
    made: str
    keys: bool
    openclaw: str
    left: tuple[Left, ...]
    members: tuple[Member, ...]

    @property
    def size(self) -> int:
        """How many bytes its files hold."""
        return sum(member.size for member in self.members)


class _Version(msgspec.Struct):
    version: int


def seal(data: Hash) -> bytes:
    """What stands behind a gzip stream that hashes to this."""
    return _SEAL % data.hexdigest().encode()


class _Sealed:
    """A backup up to its seal, hashed as it is read."""

    def __init__(self, file: BinaryIO, seen: Callable[[int], None]) -> None:
        self._file, self._seen, self._hash = file, seen, sha256()
        self._left = os.fstat(file.fileno()).st_size - _SEAL_BYTES

    def read(self, size: int) -> bytes:
        data = self._file.read(max(0, min(size, self._left)))
        self._left -= len(data)
        self._hash.update(data)
        self._seen(len(data))
        return data

    def check(self) -> None:
        """All of it was read: is it what was sealed? Raises CorruptError."""
        while self.read(_PIECE):
            pass
        if self._file.read(_SEAL_BYTES + 1) != seal(self._hash):
            raise CorruptError("it is damaged: its seal does not match")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Unzipped(io.RawIOBase):
    """What one gzip stream holds that ends where its file ends. Raises CorruptError."""

    def __init__(self, file: _Readable) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(31)
        self._ready = b""

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes; none at its end. Raises CorruptError, OSError."""
        while not self._ready:
            if self._inflate.eof:
                if self._inflate.unused_data or self._file.read(1):
                    raise CorruptError("something follows its end")
                return b""
            data = self._inflate.unconsumed_tail or self._file.read(_PIECE)
            if not data:
                raise CorruptError("its end is missing")
            try:
                self._ready = self._inflate.decompress(data, _PIECE)
            except zlib.error as error:
                raise CorruptError(f"it is damaged ({one_line(str(error), 80)})") from error
        cut = len(self._ready) if size < 0 else size
        piece, self._ready = self._ready[:cut], self._ready[cut:]
        return piece

    def drain(self) -> int:
        """Read to the end; how many bytes that were, and fail where they were not all zero."""
        count = 0
        while piece := self.read(_PIECE):
            if piece.strip(b"\0"):
                raise CorruptError("something follows its last member")
            count += len(piece)
        return count


def plain(name: str) -> str:
    """The name of a member, which must not lead elsewhere. Raises CorruptError."""
    parts = name.split("/")
    if not name or name.startswith("/") or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise CorruptError(f"a member is named {one_line(ascii(name), 60)}, which leads out of it")
    return name


def apart(names: Iterable[str], links: Collection[str]) -> None:
    """Is nothing below a link? Through one it would lie elsewhere. Raises CorruptError."""
    for name in names:
        parts = name.split("/")
        if any("/".join(parts[:count]) in links for count in range(1, len(parts))):
            raise CorruptError(f"{one_line(name, 80)} is below a link, which leads out of it")


def read(path: Path, into: Path | None = None, seen: Callable[[int], None] = lambda _: None) -> Manifest:
    """Read all of a backup, and compare every member with the manifest; ``into`` a folder that is empty, unpack it there.

    ``seen`` is told of every byte of the file. Raises CorruptError, OSError.
    """
    try:
        with regular.opened(path) as file:
            sealed = _Sealed(file, seen)
            manifest = _read(Unzipped(sealed), into)
            sealed.check()
            return manifest
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise CorruptError(f"it is no whole archive ({one_line(str(error), 80)})") from error


def extract(path: Path, name: str, into: Path) -> Path:
    """Take one file out of a backup that was read before. Raises CorruptError, OSError."""
    try:
        with (
            regular.opened(path) as file,
            tarfile.open(fileobj=cast(IO[bytes], Unzipped(_Sealed(file, lambda _: None))), mode="r|") as tar,
        ):
            for entry in tar:
                if entry.name == name:
                    _member(tar, entry, into.parent)
                    return into
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise CorruptError(f"it is no whole archive ({one_line(str(error), 80)})") from error
    raise CorruptError(f"{name} is not in it")


def _read(unzipped: Unzipped, into: Path | None) -> Manifest:
    found: dict[str, Member] = {}
    links: list[Member] = []
    folders: list[Member] = []
    manifest: Manifest | None = None
    with tarfile.open(fileobj=cast(IO[bytes], unzipped), mode="r|", bufsize=tarfile.RECORDSIZE) as tar:
        for entry in tar:
            if manifest is not None:
                raise CorruptError("something follows its manifest")
            if entry.name == MANIFEST and entry.isreg():
                manifest = _manifest(tar, entry)
                continue
            member = _member(tar, entry, into)
            if member.path in found:
                raise CorruptError(f"{one_line(member.path, 80)} is in it twice")
            found[member.path] = member
            (links if member.kind == "link" else folders if member.kind == "folder" else []).append(member)
    unzipped.drain()
    if manifest is None:
        raise CorruptError("its manifest is missing")
    if list(found.values()) != list(manifest.members):
        named = {member.path: member for member in manifest.members}
        odd = next((path for path in {**found, **named} if found.get(path) != named.get(path)), "the order")
        raise CorruptError(f"{one_line(odd, 80)} is not what its manifest says")
    apart(found, {member.path for member in links})
    if into is not None:
        for member in links:
            (into / member.path).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(member.target, into / member.path)
        for member in reversed(folders):
            os.chmod(into / member.path, member.mode)
    return manifest


def _manifest(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Manifest:
    if entry.size > _MANIFEST_BYTES:
        raise CorruptError("its manifest is larger than any that is written")
    with cast(BinaryIO, tar.extractfile(entry)) as file:
        data = file.read()
    try:
        version = msgspec.json.decode(data, type=_Version).version
        if version > VERSION:
            raise CorruptError(f"it is of version {version}, this release of Outlast knows {VERSION}: upgrade first")
        return from_json(data, Manifest)
    except (ValueError, UnicodeError) as error:
        raise CorruptError(f"its manifest does not parse ({one_line(str(error), 80)})") from error


def _member(tar: tarfile.TarFile, entry: tarfile.TarInfo, into: Path | None) -> Member:
    name, mode = plain(entry.name), entry.mode & 0o777
    target = into / name if into else None
    if entry.isdir():
        if target:
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Member(name, "folder", mode)
    if entry.issym():
        return Member(name, "link", mode, target=entry.linkname)
    if not entry.isreg():
        raise CorruptError(f"{one_line(name, 80)} is neither file, folder nor link")
    digest, size = sha256(), 0
    with cast(BinaryIO, tar.extractfile(entry)) as file:
        if target is None:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
        else:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "wb") as out:
                while piece := file.read(_PIECE):
                    digest.update(piece)
                    size += len(piece)
                    out.write(piece)
            if entry.mtime:
                os.utime(target, (entry.mtime, entry.mtime), follow_symlinks=False)
    if size != entry.size:
        raise CorruptError(f"{one_line(name, 80)} is cut off")
    return Member(name, "file", mode, size, digest.hexdigest())
