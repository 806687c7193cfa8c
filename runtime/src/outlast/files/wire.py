"""What two nodes say to each other over SSH: a request of one line, an answer of one stream.

* ``list artifacts``: a JSON array, the newest artifact first
* ``get artifacts UNIT``: a tar of the artifact's manifest and then, in the manifest's order, the files that it lists

Rules kept here: a request is one of these two, to the letter, and no shell ever sees it. A manifest from outside is about
the unit that was asked for, and lists plain relative paths, each once, that together stay within a size. Of tar only as much
is understood as that takes: regular files, and the GNU way of writing a long name.

Left to others: who may ask (sshd, the role ``siblings``), what lies on the disk (files.serve, files.receive).
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Literal

import msgspec

from outlast.core.ids import valid_unit
from outlast.errors import FilesError
from outlast.messages import UnitName
from outlast.work.artifacts import MANIFEST, Manifest

__all__ = [
    "BLOCK",
    "END",
    "MANIFEST_LIMIT",
    "Listed",
    "Request",
    "Truncated",
    "exactly",
    "header",
    "padding",
    "parse",
    "read_header",
    "read_manifest",
]

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)
MANIFEST_LIMIT = 1 << 20
# A path has 512 characters at most (messages.ArtifactFile), of four bytes at most, and a zero byte ends it.
_NAME_LIMIT = 4 * 512 + 1


class Truncated(FilesError):
    """The stream ended in the middle: what ssh or the peer say is the better reason."""


class Listed(msgspec.Struct, frozen=True):
    """One artifact in a list: its unit, when it ended (ISO 8601), what was said of it, its files and their bytes together."""

    unit: UnitName
    ended: str
    detail: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Request:
    """What one node asks of another; ``unit`` is empty for a list."""

    verb: Literal["list", "get"]
    unit: str = ""

    def __str__(self) -> str:
        """The line that asks it."""
        return " ".join(filter(None, [self.verb, "artifacts", self.unit]))


def parse(line: str) -> Request | None:
    """Read a request; None for everything that is not one, to the letter."""
    match line.split(" "):
        case ["list", "artifacts"]:
            return Request("list")
        case ["get", "artifacts", unit] if valid_unit(unit):
            return Request("get", unit)
    return None


def header(name: str, size: int) -> bytes:
    """What stands before a file's content of ``size`` bytes: one block, or three where the name is long."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o600
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def padding(size: int) -> int:
    """How many bytes follow a file's content of ``size`` bytes, up to the next block."""
    return -size % BLOCK


def exactly(stream: BufferedIOBase, size: int) -> bytes:
    """Read ``size`` bytes. Raises Truncated."""
    data = bytearray()
    # One read of the system's at a time: between two of them within one call, Python does not see that it was interrupted.
    while len(data) < size:
        if not (piece := stream.read1(size - len(data))):
            raise Truncated("the stream ended too early; ask again")
        data += piece
    return bytes(data)


def read_header(stream: BufferedIOBase, name: str) -> int:
    """Read the header of the file ``name``, which must be the next one; return its size in bytes. Raises FilesError."""
    info = _header(stream)
    if info.type == tarfile.GNUTYPE_LONGNAME:
        if not 0 < info.size <= _NAME_LIMIT:
            raise FilesError(f"the stream has a name of {info.size} bytes before {name}; it is not taken")
        long = exactly(stream, info.size + padding(info.size))[: info.size].removesuffix(b"\0")
        info = _header(stream)
        if long != name.encode():
            raise FilesError(f"the stream has something else in place of {name}; it is not taken")
    elif info.name != name:
        raise FilesError(f"the stream has something else in place of {name}; it is not taken")
    if info.type != tarfile.REGTYPE or info.size < 0:
        raise FilesError(f"{name} is no plain file in the stream; it is not taken")
    return info.size


def read_manifest(stream: BufferedIOBase, unit: str, most_bytes: int) -> tuple[Manifest, bytes]:
    """Read the manifest that leads a stream, as value and as the bytes it came in. Raises FilesError."""
    size = read_header(stream, MANIFEST)
    if size > MANIFEST_LIMIT:
        raise FilesError(f"{unit}: its manifest is larger than {MANIFEST_LIMIT} bytes; it is not taken")
    data = exactly(stream, size + padding(size))[:size]
    return check(data, unit, most_bytes), data


def check(data: bytes, unit: str, most_bytes: int) -> Manifest:
    """Read a manifest that somebody else may have written. Raises FilesError with what is wrong and the mend."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise FilesError(f"{unit}: its manifest is damaged; it is not taken") from None
    if manifest.unit != unit:
        raise FilesError(f"{unit}: its manifest is about another unit; it is not taken")
    paths = [file.path for file in manifest.files]
    if not all(map(_plain, paths)) or len(set(paths)) != len(paths):
        raise FilesError(f"{unit}: its manifest lists paths that are not plain; it is not taken")
    if any(file.size < 0 for file in manifest.files):
        raise FilesError(f"{unit}: its manifest lists an impossible size; it is not taken")
    if (total := sum(file.size for file in manifest.files)) > most_bytes:
        raise FilesError(f"{unit}: it has {total} bytes, {most_bytes} are allowed (files.size_limit)")
    return manifest


def _header(stream: BufferedIOBase) -> tarfile.TarInfo:
    try:
        # A long name is in its header too, cut off at some byte; only where it is compared must it be right.
        return tarfile.TarInfo.frombuf(exactly(stream, BLOCK), "utf-8", "replace")
    except tarfile.HeaderError:
        raise FilesError("the stream is damaged; ask again") from None


def _plain(path: str) -> bool:
    parts = path.split("/")
    return path.isprintable() and parts[0].casefold() != MANIFEST and not {"", ".", ".."} & {*parts}
