"""What lies in ``artifacts/``, as evidence: names, and what manifests say.

Rules kept here: names are listed without being held, so that a hundred thousand cost a start little; a manifest that is
missing, unreadable, or no regular file is no evidence, and never an error.

Left to others: what follows from it (core.recovery), making and verifying artifacts (work.artifacts).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from outlast.core.recovery import Evidence

__all__ = ["MANIFEST", "artifact_names", "read_evidence"]

MANIFEST = ".outlast.json"
# A thousand files with the longest of names are less.
_MOST = 1 << 20
_decoder = msgspec.json.Decoder(Evidence)


def artifact_names(artifacts: Path) -> Iterator[str]:
    """Every name in the folder but hidden ones; none where there is no folder. Raises OSError."""
    try:
        entries = os.scandir(artifacts)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            if entry.name[0] != ".":
                yield entry.name


def read_evidence(artifacts: Path, name: str) -> Evidence | None:
    """What the manifest of this artifact says."""
    try:
        # A pipe in the manifest's place must not make us wait.
        fd = os.open(f"{artifacts}/{name}/{MANIFEST}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        # Room for what is there and no more: making a megabyte's costs several times the reading.
        return _decoder.decode(os.read(fd, min(found.st_size, _MOST))) if stat.S_ISREG(found.st_mode) else None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    finally:
        os.close(fd)
