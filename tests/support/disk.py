"""A disk that forgets: a file tree, and the log of what was written, named and fsynced in it.

Rules kept here (what POSIX promises, and no more):

* what was written to a file is there after its fsync; until then each write may be missing, torn or read as zeros, alone;
* a name (made, renamed, removed) is there after the fsync of its folder, and that of a new folder after the fsync of the
  one above; until then each may be kept or forgotten by itself, whatever became of those before it and of the data;
* a rename within a folder is atomic; from folder to folder it may show under both names, and never under none: that much
  every file system with a journal does;
* a failed fsync drops what it was to bring to the disk: programs still read it, and no later fsync writes it;
* ``mark`` puts what somebody was told (begun, acknowledged) between these operations, so that it can be said what each
  power cut was after; ``settle`` says that all until then is on the disk, and that cuts begin here.

Left to others: which trees a power cut may leave of it (support.cuts), serving it to real processes (support.forgetful).
"""

from __future__ import annotations

import errno
import stat
from dataclasses import dataclass, field

__all__ = [
    "LINK",
    "ROOT",
    "Disk",
    "Failed",
    "Mark",
    "Name",
    "Named",
    "Node",
    "Op",
    "Settled",
    "Sized",
    "Synced",
    "Tree",
    "Written",
    "rename_name",
    "size_bytes",
    "write_bytes",
]

ROOT = 1
Tree = dict[str, bytes | None]
"""What is on a disk: relative path to content; None is a folder. What a symbolic link says is led by ``LINK``."""
LINK = b"\0link\0"


@dataclass(frozen=True, slots=True)
class Name:
    """In ``folder``, ``name`` now means ``node``; None: it is gone, and meant ``was``."""

    folder: int
    name: str
    node: int | None
    was: int | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """Names changed, in one system call: the changes within one folder are one, a removal elsewhere needs the addition."""

    names: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """``data`` went to ``at`` in a file."""

    node: int
    at: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Sized:
    """A file was cut or stretched to ``size``."""

    node: int
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """A file's data, or a folder's names, are on the disk."""

    node: int


@dataclass(frozen=True, slots=True)
class Failed:
    """An fsync said that it failed."""

    node: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Somebody was told something."""

    text: str


@dataclass(frozen=True, slots=True)
class Settled:
    """All is on the disk."""


Op = Named | Written | Sized | Synced | Failed | Mark | Settled


@dataclass(slots=True)
class Node:
    """A file, folder or symbolic link, as running programs see it."""

    id: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    names: dict[str, int] = field(default_factory=dict)
    mtime: float = 0.0
    links: int = 1

    @property
    def folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


class Disk:
    """The live tree, and ``log``: every operation since it was empty. Paths are absolute; errors are OSError."""

    def __init__(self) -> None:
        self.nodes = {ROOT: Node(ROOT, stat.S_IFDIR | 0o755)}
        self.log: list[Op] = []
        self.failing = 0

    def at(self, path: str) -> Node:
        """The node of a path."""
        node = self.nodes[ROOT]
        for name in path.split("/"):
            if name:
                if name not in node.names:
                    raise OSError(errno.ENOENT, path)
                node = self.nodes[node.names[name]]
        return node

    def make(self, path: str, mode: int, data: bytes = b"") -> Node:
        """Make a file, folder or symbolic link (``data`` is what it says, at once)."""
        folder, name = self._above(path)
        if name in folder.names:
            raise OSError(errno.EEXIST, path)
        node = Node(len(self.nodes) + 1, mode, bytearray(data))
        self.nodes[node.id] = node
        self._name(Name(folder.id, name, node.id))
        if data:
            self.log += [Written(node.id, 0, data), Synced(node.id)]
        return node

    def write(self, node: Node, at: int, data: bytes) -> None:
        """Write to a file; a hole before ``at`` reads as zeros."""
        write_bytes(node.data, at, data)
        self.log.append(Written(node.id, at, bytes(data)))

    def size(self, node: Node, size: int) -> None:
        """Cut or stretch a file."""
        if size != len(node.data):
            size_bytes(node.data, size)
            self.log.append(Sized(node.id, size))

    def sync(self, node: Node) -> None:
        """fsync of a file or a folder."""
        self.failing -= 1
        if self.failing == 0:
            self.log.append(Failed(node.id))
            raise OSError(errno.EIO, "fsync")
        self.log.append(Synced(node.id))

    def fail(self, nth: int) -> None:
        """The ``nth`` fsync from now on (1 is the next) fails, once."""
        self.failing = nth

    def mark(self, text: str) -> None:
        """Remember that ``text`` was said now."""
        self.log.append(Mark(text))

    def settle(self) -> None:
        """All that was done until now is on the disk, and no power cut of interest."""
        self.log.append(Settled())

    def until(self, number: int) -> Disk:
        """The disk as programs saw it after its first ``number`` operations, nothing of it more durable than it was."""
        disk = Disk()
        disk.nodes |= {node.id: Node(node.id, node.mode) for node in self.nodes.values() if node.id != ROOT}
        disk.log = self.log[:number]
        for op in disk.log:
            if isinstance(op, Named):
                for name in op.names:
                    rename_name(disk.nodes[name.folder].names, name)
            elif isinstance(op, Written):
                write_bytes(disk.nodes[op.node].data, op.at, op.data)
            elif isinstance(op, Sized):
                size_bytes(disk.nodes[op.node].data, op.size)
        return disk

    def remove(self, path: str) -> None:
        """unlink or rmdir."""
        folder, name = self._above(path)
        node = self.at(path)
        if node.names:
            raise OSError(errno.ENOTEMPTY, path)
        self._name(Name(folder.id, name, None, node.id))

    def link(self, old: str, new: str) -> None:
        """Another name of a file."""
        folder, name = self._above(new)
        if name in folder.names:
            raise OSError(errno.EEXIST, new)
        node = self.at(old)
        node.links += 1
        self._name(Name(folder.id, name, node.id))

    def rename(self, old: str, new: str) -> None:
        """rename, over a file or an empty folder too."""
        node, (source, name), (target, other) = self.at(old), self._above(old), self._above(new)
        over = self.nodes[target.names[other]] if other in target.names else None
        if over is node:
            return
        if over is not None and over.names:
            raise OSError(errno.ENOTEMPTY, new)
        self._name(Name(target.id, other, node.id), Name(source.id, name, None, node.id))

    def _above(self, path: str) -> tuple[Node, str]:
        above, _, name = path.rstrip("/").rpartition("/")
        folder = self.at(above)
        if not folder.folder:
            raise OSError(errno.ENOTDIR, path)
        return folder, name

    def _name(self, *names: Name) -> None:
        for change in names:
            rename_name(self.nodes[change.folder].names, change)
        self.log.append(Named(names))


def write_bytes(data: bytearray, at: int, new: bytes) -> None:
    data.extend(bytes(max(0, at - len(data))))
    data[at : at + len(new)] = new


def size_bytes(data: bytearray, size: int) -> None:
    del data[size:]
    data.extend(bytes(size - len(data)))


def rename_name(names: dict[str, int], change: Name) -> None:
    if change.node is not None:
        names[change.name] = change.node
    elif names.get(change.name) == change.was:
        del names[change.name]
