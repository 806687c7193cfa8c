"""Packages from npm that tests need, beside what is ours.

Rules kept here: they are installed once a machine, outside the checkout, from the lock in the folder that asks for them, and no
script of theirs is run at that.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from .needs import missing

__all__ = ["installed"]

_LOCK = ("package.json", "package-lock.json")


def installed(wanted: Path) -> Path:
    """The folder with the packages that ``wanted``'s lock names; made where it is not there yet."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            missing(f"{program}, for packages from npm")
    digest = hashlib.sha256(b"".join((wanted / name).read_bytes() for name in _LOCK)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outlast" / wanted.name
    folder = cache / digest
    if not folder.exists():
        # Beside it, and renamed when whole: two runs may do it at once.
        making = cache / f"{digest}.{os.getpid()}"
        making.mkdir(parents=True)
        for name in _LOCK:
            shutil.copy(wanted / name, making)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=making, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if done.returncode:
            shutil.rmtree(making)
            missing(f"npm's packages: {done.stderr.strip().splitlines()[-1:]}")
        try:
            making.rename(folder)
        except OSError:
            shutil.rmtree(making)
    return folder
