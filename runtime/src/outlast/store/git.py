"""Asking git where something that is lost may still be had, and how old the newest commit is.

Rules kept here: git is only read, without a shell, for a bounded time, and never takes a lock; what a repository's own
configuration could have it run (pagers, filters, signature checks, monitors) is off. A repository that belongs to another user
is not asked: git refuses it (``safe.directory``), and that is not overridden, because its configuration is that user's.

Left to others: what to do with the answer (store.memory), and committing (backups).
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["holder", "newest", "shown"]

_NEVER = ("core.fsmonitor=false", "core.untrackedCache=false", "log.showSignature=false", "core.pager=cat")


def holder(folder: Path, text: str, timeout_s: float) -> str:
    """The commit that brought ``text`` into the daily files of ``folder``, as 40 hexadecimal digits.

    Empty where there is none, where git or a repository is missing, or where git does not answer within ``timeout_s`` seconds.
    """
    asked = ["log", "--all", "--format=%H", "--no-textconv", "--no-ext-diff", "--no-show-signature", f"-S{text}"]
    # Newest first: the last one brought it, a later one may have taken it away.
    commits = _git(folder, [*asked, "--", "*.md"], timeout_s).split()
    return commits[-1] if commits else ""


def shown(folder: Path, commit: str, timeout_s: float) -> str:
    """What a commit changed in daily files, as a diff without context; nothing where git cannot say within so many seconds."""
    plain = ["--format=", "--unified=0", "--no-textconv", "--no-ext-diff", "--no-show-signature", "--no-color"]
    return _git(folder, ["show", *plain, commit, "--", "*.md"], timeout_s)


def newest(folder: Path, timeout_s: float, *, elsewhere: bool) -> tuple[str, float] | None:
    """The newest commit of the repository whose top is ``folder``, and when it was made, in seconds since 1970.

    ``elsewhere``: only what another place is known to have, pushed or fetched. None where there is none, or git does not
    answer within ``timeout_s`` seconds.
    """
    if not (folder / ".git").exists():
        return None
    refs = "refs/remotes/" if elsewhere else "refs/heads/"
    fields = ["--sort=-committerdate", "--count=1", "--format=%(objectname) %(committerdate:unix)"]
    commit, _, moment = _git(folder, ["for-each-ref", *fields, refs], timeout_s).strip().partition(" ")
    try:
        return (commit, float(moment)) if commit else None
    except ValueError:
        return None


def _git(folder: Path, words: list[str], timeout_s: float) -> str:
    """What git prints; nothing where it cannot."""
    import subprocess

    # A hook or an alias that we were called from must not tell which repository is meant.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    # Older gits fetch what a partial clone lacks all the same, by a program that its configuration names.
    environment["GIT_ALLOW_PROTOCOL"] = ""
    settings = [word for setting in _NEVER for word in ("-c", setting)]
    try:
        done = subprocess.run(
            ["git", "--no-pager", *settings, *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("ascii", "replace") if done.returncode == 0 else ""
