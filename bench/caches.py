"""What an installation with OpenClaw takes, kept from one run to the next: then one can be measured that fetches nothing.

Rules kept here: it lies beside the images of test hosts, outside the checkout; wheels lie under the digest of their locks, and
are whole once they are marked so.

Left to others: npm's cache is filled by the installation that is told of it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from bench.processes import run, say

__all__ = ["npm_cache", "wheelhouse"]

_CHECKOUT = Path(__file__).resolve().parent.parent
_LOCKS = (_CHECKOUT / "runtime" / "requirements.txt", _CHECKOUT / "files" / "openclaw" / "requirements.txt")
_LIMIT_S = 600.0


def npm_cache() -> Path:
    """A folder for npm's cache."""
    return _kept() / "npm"


def wheelhouse() -> Path:
    """A folder with all of Python's packages that a node and its OpenClaw take. Raises BenchError."""
    digest = hashlib.sha256(b"".join(lock.read_bytes() for lock in _LOCKS)).hexdigest()[:12]
    folder = _kept() / f"wheels-{digest}"
    if not (folder / ".complete").exists():
        say("openclaw: fetching Python's packages")
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--require-hashes", "--only-binary", ":all:", "--dest", str(folder)]
        for lock in _LOCKS:
            command += ["--requirement", str(lock)]
        run(command, folder, {}, _LIMIT_S)
        (folder / ".complete").touch()
    return folder


def _kept() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    images = os.environ.get("OUTLAST_IMAGES") or cache / "outlast" / "images"
    return Path(images).parent / "bench"
