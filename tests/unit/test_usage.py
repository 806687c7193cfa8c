"""What a program uses, as the kernel of this machine tells it: all of it, and nothing twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from outlast.work.usage import Usage, usage_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a Mac tells is psutil's")
_MIB = 1 << 20
_HOLD = "\nprint('held', flush=True)\nsys.stdin.read()"


def used(folder: Path, script: str) -> Usage:
    """What a Python text uses that holds what it took."""
    command = [sys.executable, "-I", "-S", "-c", "import os, mmap, sys\n" + script + _HOLD]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        found = usage_of(process.pid)
        process.communicate()
    return found


_MEMFD = "fd = os.memfd_create('x')\nos.ftruncate(fd, 40 << 20)\n"


@pytest.mark.parametrize(
    ("script", "mib"),
    [
        ("", 0),
        ("for _ in range(40): os.write(fd, bytes(1 << 20))", 40),
        ("area = mmap.mmap(fd, 40 << 20)\nfor at in range(0, len(area), 4096): area[at] = 1", 40),
        ("area = mmap.mmap(fd, 40 << 20)\nfor at in range(0, 10 << 20, 4096): area[at] = 1\n"
         "os.lseek(fd, 10 << 20, 0)\nfor _ in range(30): os.write(fd, bytes(1 << 20))", 40),
        ("for _ in range(40): os.write(fd, bytes(1 << 20))\narea = mmap.mmap(fd, 40 << 20, flags=mmap.MAP_PRIVATE)\n"
         "for at in range(0, len(area), 4096): area[at] = 1", 80),
        ("for _ in range(40): os.write(fd, bytes(1 << 20))\nfor _ in range(9): os.dup(fd)\nos.fork()", 40),
    ],
)  # fmt: skip
def test_a_file_of_memory_counts_once(tmp_path: Path, script: str, mib: int) -> None:
    """Written, mapped, both, copied on write (which takes the memory twice), or held by many."""
    idle = used(tmp_path, "").memory_bytes
    # Two interpreters where it forks.
    found = used(tmp_path, _MEMFD + script).memory_bytes - idle * (2 if "fork" in script else 1)
    assert abs(found - mib * _MIB) < 4 * _MIB, found / _MIB


def test_a_deleted_file_that_is_open_counts_once(tmp_path: Path) -> None:
    """What has a name is seen in its folder, and not here."""
    script = (
        "named = open('named', 'wb', buffering=0)\nnamed.write(bytes(2 << 20))\n"
        "fd = os.open('gone', os.O_CREAT | os.O_RDWR)\nos.unlink('gone')\nos.write(fd, os.urandom(5 << 20))\nos.dup(fd)"
    )
    found = used(tmp_path, script).disk_bytes
    assert 5 * _MIB <= found < 6 * _MIB
    assert used(tmp_path, "").disk_bytes == 0
