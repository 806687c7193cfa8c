"""What a backup holds: the one question that is asked before anything leaves the artifacts.

Rules kept here: only what another place is known to have counts, so a commit on this disk alone is no backup; what cannot
be asked is not backed up; links and special files are not, because git does not hold what they point to.

Left to others: making backups.
"""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from outlast.work.packing import Going, walk

__all__ = ["backed_up"]

_PATIENCE_S = 60.0
_PIECE = 1 << 20


def backed_up(workspace: Path, going: Going) -> Callable[[Path], bool]:
    """A question about files and folders below ``workspace``: does a backup hold all of it, byte for byte?

    Today a backup is the newest commit that a remote-tracking branch of the workspace's own git repository holds: what was
    pushed, or fetched. Git is asked when the first question comes.
    """
    newest: list[str] = []

    def question(path: Path) -> bool:
        if not newest:
            newest.append(_newest(workspace))
        return bool(newest[0]) and _holds(workspace, newest[0], path, going)

    return question


def _newest(workspace: Path) -> str:
    """The commit; empty where there is none."""
    if not (workspace / ".git").exists():
        return ""
    fields = ["--sort=-committerdate", "--count=1", "--format=%(objectname)", "refs/remotes/"]
    return _git(workspace, "for-each-ref", *fields).decode().strip()


def _holds(workspace: Path, commit: str, path: Path, going: Going) -> bool:
    listing = _git(
        workspace, "ls-tree", "-r", "-z", "--full-tree", commit, "--", path.relative_to(workspace).as_posix()
    )
    blobs = {}
    for line in filter(None, listing.split(b"\0")):
        about, _, file_name = line.partition(b"\t")
        blobs[os.fsdecode(file_name)] = about.split()[2].decode()
    files = 0
    try:
        for name, info in walk(path):
            if stat.S_ISDIR(info.st_mode):
                continue
            file = path / name
            known = blobs.get(file.relative_to(workspace).as_posix(), "")
            if not stat.S_ISREG(info.st_mode) or not known or _blob(file, info.st_size, known, going) != known:
                return False
            files += 1
    except OSError:
        return False
    return files > 0


def _blob(path: Path, size: int, like: str, going: Going) -> str:
    """What git would call the content of a file; ``like`` tells which hash its repository uses."""
    digest = hashlib.new("sha1" if len(like) == 40 else "sha256", b"blob %d\0" % size, usedforsecurity=False)
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        while piece := file.read(_PIECE):
            going()
            digest.update(piece)
    return digest.hexdigest()


def _git(workspace: Path, *words: str) -> bytes:
    """What git prints; nothing where it cannot."""
    # Nothing that the agents' repository says may be run, and nothing is written.
    settings = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # No protocol: a partial clone would fetch what it lacks by a program that its configuration names.
    own |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *settings, "--literal-pathspecs", "-C", str(workspace), *words],
            env=own,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return b""
    return done.stdout
