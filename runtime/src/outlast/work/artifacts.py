"""Artifacts: the results of work, ``artifacts/UNIT/``, each with a manifest that says whose it is and what it holds.

Rules kept here: an artifact appears whole, by one rename, or not at all; publishing twice changes nothing; what the
manifest says is checked against what the disk gives back.

Left to others: who made it (work.runner), what is told of it (work.tasks).
"""

from __future__ import annotations

from hashlib import file_digest
from pathlib import Path

import msgspec

from outlast.core.state import Verdict
from outlast.messages import ArtifactFile
from outlast.store import durable

__all__ = ["MANIFEST", "Manifest", "publish", "verify"]

MANIFEST = ".outlast.json"


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """What became of a task, and the files it left; enough to rebuild STATE.json from the artifact alone."""

    unit: str
    task: str
    sender: str
    trace_id: str
    verdict: Verdict
    detail: str
    exit_code: int | None
    ended: str
    files: tuple[ArtifactFile, ...]


def publish(work: Path, artifact: Path) -> None:
    """Make the agent's folder the artifact. Done already is fine. Raises DurabilityError."""
    if work.exists() and not artifact.exists():
        durable.move(work, artifact)


def verify(artifact: Path, manifest: Manifest) -> str:
    """Read every file back. Returns what is wrong with the first that differs, or ``""``."""
    for file in manifest.files:
        try:
            with open(artifact / file.path, "rb") as stream:
                digest = file_digest(stream, "sha256").hexdigest()
        except (OSError, ValueError) as error:
            return f"{file.path}: {getattr(error, 'strerror', None) or error}"
        if digest != file.sha256:
            return f"{file.path} has other content"
    return ""
