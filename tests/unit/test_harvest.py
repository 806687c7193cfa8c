"""What an agent may leave: regular files within the limits, on the disk and hashed; anything else is refused whole."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from outlast.errors import AgentError, DurabilityError
from outlast.messages import ArtifactFile
from outlast.work import harvest


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def left(work: Path, script: str, most_bytes: int = 1 << 20) -> tuple[ArtifactFile, ...]:
    """Let a shell script be the agent, and harvest what it left."""
    subprocess.run(["/bin/sh", "-c", script], cwd=work, check=True)
    return asyncio.run(harvest.harvest(work, most_bytes, 8))


def test_files_are_reported_with_size_and_hash(work: Path) -> None:
    """Files in folders count too, also those without content or with spaces and accents; the list is sorted by path."""
    files = left(work, "mkdir -p b/c; printf abc > b/c/d; : > 'é a'; printf x > a")
    assert [(file.path, file.size) for file in files] == [("a", 1), ("b/c/d", 3), ("é a", 0)]
    assert files[1].sha256 == hashlib.sha256(b"abc").hexdigest()


def test_large_files_are_hashed_alike(work: Path) -> None:
    """A file large enough to be read outside the event loop gets the same hash."""
    files = left(work, "head -c 3000000 /dev/zero > big", 8 << 20)
    assert files[0].sha256 == hashlib.sha256(bytes(3_000_000)).hexdigest()


REFUSED = {
    "nothing": ("true", "no artifact"),
    "only a folder": ("mkdir a", "no artifact"),
    "a link to a secret": ("ln -s /etc/passwd a", "a is a symbolic link"),
    "a linked folder": ("echo x > b; ln -s /etc a", "a is a symbolic link"),
    "a pipe": ("mkfifo a", "pipe"),
    "a socket": (f"{sys.executable} -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"a\")'", "socket"),
    "a hard link": ("echo x > ../outside; ln ../outside a", "hard link"),
    "the reserved name": ("echo x > .outlast.json", "Outlast's own"),
    "the reserved name on a Mac": ("echo x > .OUTLAST.json", "Outlast's own"),
    "a name with a line break": ("echo x > 'a\nb'", "do not print"),
    "a name that is no UTF-8": ("echo x > \"$(printf 'a\\377')\"", "do not print"),
    "a name too long": (f"echo x > {'n' * 201}", "longer than"),
    "a file too big": ("head -c 1048577 /dev/zero > a", "too big"),
    "a file too big that takes no space": (f'{sys.executable} -c \'open("a", "w").truncate(1 << 40)\'', "too big"),
    "files too big together": ("head -c 600000 /dev/zero > a; cp a b", "too big"),
    "too many files": ("for i in 1 2 3 4 5 6 7 8 9; do echo x > $i; done", "too big"),
    "too many folders": ("echo x > a; mkdir 1 2 3 4 5 6 7 8", "too big"),
}


@pytest.mark.parametrize(("script", "says"), REFUSED.values(), ids=REFUSED)
def test_refused(work: Path, script: str, says: str) -> None:
    """The artifact is refused as a whole, on one line that names the file and says why."""
    with pytest.raises(AgentError, match=re.escape(says)) as refusal:
        left(work, script)
    assert str(refusal.value).isprintable()


def test_every_file_and_folder_is_fsynced(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file, and each folder after what is in it, is brought to the disk."""
    synced: list[int] = []
    monkeypatch.setattr(harvest, "fsync_file", lambda fd: synced.append(os.fstat(fd).st_ino))
    monkeypatch.setattr(harvest, "fsync_dir", lambda path: synced.append(os.stat(path).st_ino))
    left(work, "mkdir -p b/c; echo x > b/c/d; echo x > a")
    assert synced == [(work / name).stat().st_ino for name in ("a", "b/c/d", "b/c", "b", ".")]


def test_file_that_changes_while_it_is_read(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is swapped or grows between check and hash is refused: the hash is of what was judged."""
    honest = os.open

    def swapping(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if Path(path) == work / "a":
            (work / "a").rename(work.parent / "moved")
            (work / "a").write_bytes(b"")
        return honest(path, flags, mode)

    monkeypatch.setattr(os, "open", swapping)
    with pytest.raises(AgentError, match="changed while"):
        left(work, ": > a")


def test_unreadable_file(work: Path) -> None:
    """A file without read permission is named."""
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    with pytest.raises(AgentError, match="a could not be read or kept: Permission denied"):
        left(work, "echo x > a; chmod 0 a")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_failing_disk_is_not_the_agents_fault(work: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Where the disk does not take what the agent left nothing is known of its outcome: that is no verdict on its work."""

    def broken(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(harvest, "fsync_file", broken)
    with pytest.raises(DurabilityError, match=os.strerror(number)):
        left(work, "echo x > a")


def test_holds_more_follows_no_link(work: Path) -> None:
    """What counts during a run is what lies below the folder, not what a link leads to."""
    subprocess.run(["/bin/sh", "-c", "mkdir b; head -c 600 /dev/zero > b/c; ln -s / d; mkfifo e"], cwd=work, check=True)
    assert harvest.holds_more(work, 599)
    assert not harvest.holds_more(work, 1000)
    assert not harvest.holds_more(work / "missing", 0)
