"""A real small ext4 on a loop device, and what can happen to one: full, broken, read-only, gone from one moment to the next.

Rules kept here: only a device that was made here is touched; what was mounted and attached is taken away again, also when a
test fails. Needs root and loop devices (see ``support.needs``).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.needs import missing

__all__ = ["SmallDisk", "small_disk"]

# FS_IOC_SHUTDOWN, without flushing the log: as if the power went.
_SHUTDOWN, _NO_FLUSH = 0x8004587D, 2


class SmallDisk:
    """One that is mounted at ``path``."""

    def __init__(self, device: str, path: Path) -> None:
        self.path = path
        self._device = device
        self._filler = path / "filler"

    def mount(self) -> None:
        """Have it there."""
        _run("mount", "-t", "ext4", "-o", "errors=remount-ro", self._device, str(self.path))

    def unmount(self) -> None:
        """Take it away, from those that have files of it open too."""
        _run("umount", "-l", str(self.path))

    def sync(self) -> None:
        """Bring all that is on it to it."""
        _run("sync", "-f", str(self.path))

    def fill(self) -> None:
        """Leave not one byte, as seen by whoever writes next."""
        with open(self._filler, "ab", buffering=0) as file:
            for piece in (1 << 22, 1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(piece))
                        os.fsync(file.fileno())
        assert os.statvfs(self.path).f_bavail == 0

    def make_room(self) -> None:
        """Give back what ``fill`` took."""
        self._filler.unlink()

    def cut_power(self) -> None:
        """Forget all that is not on the disk, and answer every call with an error from now on."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_FLUSH))
        finally:
            os.close(fd)

    def break_it(self) -> None:
        """Let the kernel find an error in the file system: it is read-only from now on."""
        trigger = Path("/sys/fs/ext4") / Path(self._device).name / "trigger_fs_error"
        trigger.write_text("a test\n")

    def power_on(self) -> None:
        """Mount it as a start after a power cut does, checked and with its log replayed."""
        self.unmount()
        _run("e2fsck", "-p", "-f", self._device, codes=(0, 1, 2))
        self.mount()


@contextlib.contextmanager
def small_disk(folder: Path, *, mib: int = 12) -> Iterator[SmallDisk]:
    """Make one, mounted below ``folder``. Skips, or fails where it must be there, if that cannot be."""
    if os.geteuid() != 0:
        missing("root, for a small disk")
    for program in ("losetup", "mkfs.ext4", "e2fsck", "mount"):
        if shutil.which(program) is None:
            missing(f"{program}, for a small disk")
    image, path = folder / "disk.img", folder / "disk"
    path.mkdir(parents=True)
    with open(image, "wb") as file:
        file.truncate(mib << 20)
    _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
    try:
        device = _run("losetup", "-f", "--show", str(image)).strip()
    except OSError as error:
        missing(f"loop devices, for a small disk: {error}")
    disk = SmallDisk(device, path)
    try:
        disk.mount()
        yield disk
    finally:
        for _ in range(3):
            if os.path.ismount(path):
                disk.unmount()
        _run("losetup", "-d", device)
        image.unlink()


def _run(*command: str, codes: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        raise OSError(errno.EIO, f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
