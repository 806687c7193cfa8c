"""``support.disk`` for real processes: a FUSE file system whose every folder at the top is a disk of its own.

Rules kept here: everything is served from memory, one call after the other, so that ``log`` is the one order in which things
happened; ``mark`` puts a word into that order, from whichever process; what was mounted is unmounted, and its server ended,
also when a test fails.

What it cannot: fstat of an open file that is removed or replaced (ESTALE); reading, writing and fsync go on.

Where it cannot be: without /dev/fuse, libfuse 3 or the right to mount (see ``support.needs``).
"""

from __future__ import annotations

import contextlib
import ctypes.util
import errno
import os
import pickle
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.disk import LINK, Disk, Node
from support.needs import missing

__all__ = ["Forgetful", "forgetful"]

_LOG = ".log"


class Forgetful:
    """A mounted one: make a folder in ``path``, use it, ``mark`` what was said, and take its ``disk``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number = 0

    def fresh(self) -> Path:
        """A new disk, empty."""
        self._number += 1
        path = self.path / f"disk{self._number}"
        path.mkdir()
        return path

    def killed(self, disk: Path, after: int) -> Path:
        """A new disk, as ``disk`` was after so many operations: its programs were killed then, and the power stayed on."""
        self._number += 1
        path = self.path / f"disk{self._number}"
        os.setxattr(disk, "user.killed", f"{path.name} {after}".encode())
        return path

    @staticmethod
    def mark(disk: Path, text: str) -> None:
        """Put ``text`` between the operations of a disk. Any process that can see the path may do this."""
        os.setxattr(disk, "user.mark", text.encode())

    @staticmethod
    def settle(disk: Path) -> None:
        """All that is on a disk now stays there; power cuts are of interest from here on."""
        os.setxattr(disk, "user.settle", b"")

    @staticmethod
    def fail(disk: Path, nth: int) -> None:
        """The ``nth`` fsync of a disk from now on fails, once, and what it was to keep is lost."""
        os.setxattr(disk, "user.fail", str(nth).encode())

    @staticmethod
    def taken(disk: Path) -> Disk:
        """What happened on a disk until now."""
        found = pickle.loads((disk.parent / f"{disk.name}{_LOG}").read_bytes())
        assert isinstance(found, Disk)
        return found


@contextlib.contextmanager
def forgetful(path: Path) -> Iterator[Forgetful]:
    """Mount one on ``path``, a new folder; skips, or fails where it must be there, if that cannot be."""
    if not os.path.exists("/dev/fuse") or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        missing("/dev/fuse, for a file system that forgets")
    if ctypes.util.find_library("fuse3") is None:
        missing("libfuse 3 (Debian: fuse3), for a file system that forgets")
    path.mkdir(parents=True)
    server = subprocess.Popen(
        [sys.executable, "-m", "support.forgetful", str(path)],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 20
        while not os.path.ismount(path):
            if server.poll() is not None:
                said = server.stderr.read().decode() if server.stderr else ""
                missing(f"the right to mount a file system that forgets: {said.strip()[-200:]}")
            assert time.monotonic() < deadline, "the file system that forgets was not mounted in 20 s"
            time.sleep(0.01)
        yield Forgetful(path)
    finally:
        for command in (["umount", "-l"], ["fusermount3", "-u", "-z"]):
            with contextlib.suppress(FileNotFoundError):
                subprocess.run([*command, str(path)], capture_output=True, check=False)
            if not os.path.ismount(path):
                break
        server.terminate()
        server.communicate(timeout=20)


def _serve(mountpoint: str) -> None:
    import mfusepy

    class Server(mfusepy.Operations):  # type: ignore[misc]
        """FUSE's calls, as operations of a disk."""

        use_ns = True
        # A call on an open file comes without its path, which may be gone.
        flag_nopath = flag_nullpath_ok = True

        def __init__(self) -> None:
            self.disks: dict[str, Disk] = {}
            self.open_nodes: dict[int, tuple[Disk, Node]] = {}
            self.snapshots: dict[int, bytes] = {}
            self.next = 0
            self.born = time.time_ns()

        def _disk(self, path: str) -> tuple[Disk, str]:
            top, _, rest = path.lstrip("/").partition("/")
            if top not in self.disks:
                raise OSError(errno.ENOENT, path)
            return self.disks[top], f"/{rest}"

        def _node(self, path: str) -> Node:
            disk, rest = self._disk(path)
            return disk.at(rest)

        def _opened(self, disk: Disk, node: Node) -> int:
            self.next += 1
            self.open_nodes[self.next] = disk, node
            return self.next

        def _touched(self, node: Node) -> None:
            node.mtime = time.time_ns()

        def getattr(self, path: str | None, fh: int | None = None) -> dict[str, Any]:
            if fh in self.open_nodes:
                return self._attributes(*self.open_nodes[fh])
            if path is None or path == "/":
                return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2, "st_ino": 1}
            if path.endswith(_LOG) and path.count("/") == 1:
                size = len(pickle.dumps(self.disks[path[1 : -len(_LOG)]]))
                return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size, "st_ino": 2}
            disk, rest = self._disk(path)
            return self._attributes(disk, disk.at(rest))

        def _attributes(self, disk: Disk, node: Node) -> dict[str, Any]:
            number = 1 + list(self.disks.values()).index(disk)
            mtime = int(node.mtime) or self.born
            return {
                "st_mode": node.mode,
                "st_ino": number * 1_000_000 + node.id,
                "st_nlink": 2 if node.folder else node.links,
                "st_size": len(node.data) - (len(LINK) if stat.S_ISLNK(node.mode) else 0),
                "st_blocks": (len(node.data) + 511) // 512,
                "st_uid": os.getuid(),
                "st_gid": os.getgid(),
                "st_mtime": mtime,
                "st_ctime": mtime,
                "st_atime": mtime,
            }

        def readdir(self, path: str | None, fh: int) -> list[tuple[str, dict[str, Any], int]]:
            # An entry without an inode number is passed over by those who read.
            top = {"st_mode": stat.S_IFDIR, "st_ino": 1}
            found = [(".", top), ("..", top)]
            if fh in self.open_nodes:
                disk, folder = self.open_nodes[fh]
                found += [(name, self._attributes(disk, disk.nodes[node])) for name, node in folder.names.items()]
            else:
                found += [(name, top) for name in self.disks]
            return [(name, attributes, 0) for name, attributes in found]

        def opendir(self, path: str) -> int:
            return 0 if path == "/" else self._opened(self._disk(path)[0], self._node(path))

        def open(self, path: str, flags: int) -> int:
            if path.endswith(_LOG) and path.count("/") == 1:
                self.next += 1
                self.snapshots[self.next] = pickle.dumps(self.disks[path[1 : -len(_LOG)]])
                return self.next
            fh = self._opened(self._disk(path)[0], self._node(path))
            if flags & os.O_TRUNC:
                self.truncate(path, 0, fh)
            return fh

        def create(self, path: str, mode: int, fi: Any = None) -> int:
            disk, rest = self._disk(path)
            node = disk.make(rest, stat.S_IFREG | stat.S_IMODE(mode))
            self._touched(node)
            self._touched(disk.at(os.path.dirname(rest)))
            return self._opened(disk, node)

        def read(self, path: str | None, size: int, offset: int, fh: int) -> bytes:
            data = self.snapshots[fh] if fh in self.snapshots else self.open_nodes[fh][1].data
            return bytes(data[offset : offset + size])

        def write(self, path: str | None, data: bytes, offset: int, fh: int) -> int:
            disk, node = self.open_nodes[fh]
            disk.write(node, offset, data)
            self._touched(node)
            return len(data)

        def truncate(self, path: str | None, length: int, fh: int | None = None) -> int:
            disk, node = self.open_nodes[fh] if fh else (self._disk(path or "")[0], self._node(path or ""))
            disk.size(node, length)
            self._touched(node)
            return 0

        def fsync(self, path: str | None, datasync: int, fh: int) -> int:
            if fh in self.open_nodes:  # what is at the top is always there
                disk, node = self.open_nodes[fh]
                disk.sync(node)
            return 0

        fsyncdir = fsync

        def release(self, path: str | None, fh: int) -> int:
            self.open_nodes.pop(fh, None)
            self.snapshots.pop(fh, None)
            return 0

        releasedir = release

        def mkdir(self, path: str, mode: int) -> int:
            if path.count("/") == 1:
                self.disks[path[1:]] = Disk()
                return 0
            disk, rest = self._disk(path)
            disk.make(rest, stat.S_IFDIR | mode)
            self._touched(disk.at(os.path.dirname(rest)))
            return 0

        def symlink(self, target: str, source: str) -> int:
            disk, rest = self._disk(target)
            disk.make(rest, stat.S_IFLNK | 0o777, LINK + source.encode())
            return 0

        def readlink(self, path: str) -> str:
            return self._node(path).data.removeprefix(LINK).decode()

        def link(self, target: str, source: str) -> int:
            disk, rest = self._disk(target)
            disk.link(self._disk(source)[1], rest)
            return 0

        def unlink(self, path: str) -> int:
            disk, rest = self._disk(path)
            disk.remove(rest)
            self._touched(disk.at(os.path.dirname(rest)))
            return 0

        rmdir = unlink

        def rename(self, old: str, new: str) -> int:
            disk, rest = self._disk(old)
            other, target = self._disk(new)
            if other is not disk:
                raise OSError(errno.EXDEV, new)
            disk.rename(rest, target)
            for path in (rest, target):
                self._touched(disk.at(os.path.dirname(path)))
            return 0

        def chmod(self, path: str, mode: int) -> int:
            node = self._node(path)
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
            return 0

        def chown(self, path: str, uid: int, gid: int) -> int:
            return 0

        def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
            self._node(path).mtime = times[1] if times else time.time_ns()
            return 0

        def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> int:
            disk = self._disk(path)[0]
            if name == "user.mark":
                disk.mark(value.decode())
            elif name == "user.settle":
                disk.settle()
            elif name == "user.fail":
                disk.fail(int(value))
            elif name == "user.killed":
                new, _, after = value.decode().partition(" ")
                self.disks[new] = disk.until(int(after))
            else:
                raise OSError(errno.ENOTSUP, name)
            return 0

        def statfs(self, path: str) -> dict[str, int]:
            return {
                "f_bsize": 4096,
                "f_frsize": 4096,
                "f_blocks": 1 << 20,
                "f_bfree": 1 << 19,
                "f_bavail": 1 << 19,
                "f_namemax": 255,
            }

    class Fuse(mfusepy.FUSE):  # type: ignore[misc]
        """With ftruncate on a file whose path is gone, which the binding forgets."""

        def truncate_fuse_3(self, path: bytes | None, length: int, fip: Any) -> int:
            fh = fip.contents.fh if fip else None
            return self.operations.truncate(path.decode() if path else None, length, fh)

    # Removed is removed, also while it is open; and our own inode numbers tell a replaced file from the one before.
    Fuse(Server(), mountpoint, foreground=True, nothreads=True, hard_remove=True, use_ino=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
