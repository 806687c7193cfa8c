"""Asking git where something that is lost may still be had.

Rules kept here: git is only read, without a shell, for a bounded time, and never takes a lock; what a repository's own
configuration could have it run (pagers, filters, signature checks, monitors) is off. A repository that belongs to another user
is not asked: git refuses it (``safe.directory``), and that is not overridden, because its configuration is that user's.

Left to others: what to do with the answer (store.memory), and committing (backups).
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["holder"]

_NEVER = ("core.fsmonitor=false", "core.untrackedCache=false", "log.showSignature=false", "core.pager=cat")


def holder(folder: Path, text: str, timeout_s: float) -> str:
    """The commit that brought ``text`` into the daily files of ``folder``, as 40 hexadecimal digits.

    Empty where there is none, where git or a repository is missing, or where git does not answer within ``timeout_s`` seconds.
    """
    import subprocess

    # A hook or an alias that we were called from must not tell which repository is meant.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    # Older gits fetch what a partial clone lacks all the same, by a program that its configuration names.
    environment["GIT_ALLOW_PROTOCOL"] = ""
    settings = [word for setting in _NEVER for word in ("-c", setting)]
    asked = ["log", "--all", "--format=%H", "--no-textconv", "--no-ext-diff", "--no-show-signature", f"-S{text}"]
    try:
        done = subprocess.run(
            ["git", "--no-pager", *settings, *asked, "--", "*.md"],
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
    # Newest first: the last one brought it, a later one may have taken it away.
    commits = done.stdout.decode("ascii", "replace").split()
    return commits[-1] if done.returncode == 0 and commits else ""
