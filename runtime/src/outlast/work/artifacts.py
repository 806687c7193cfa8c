"""Artifacts: the results of work, ``artifacts/UNIT/``, each with a manifest that says whose it is and what it holds.

Rules kept here: an artifact appears whole, by one rename, or not at all; publishing twice changes nothing; what the
manifest says is checked against what the disk gives back.

Left to others: who made it (work.runner), what is told of it (work.tasks).
"""

from __future__ import annotations

from hashlib import file_digest
from pathlib import Path

import msgspec

from outlast.core.state import Kind, Verdict
from outlast.messages import ArtifactFile
from outlast.store import durable, regular
from outlast.store.evidence import MANIFEST

__all__ = ["MANIFEST", "Manifest", "publish", "verify"]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"sender": "from"}):
    """What became of a task or a step, and the files it left; enough to rebuild STATE.json from the artifact alone.

    Of a step ``sender`` is the node itself, and ``makes`` are the names that its INTENT promised.
    """

    unit: str
    task: str
    sender: str
    trace_id: str
    verdict: Verdict
    detail: str
    exit_code: int | None
    ended: str
    files: tuple[ArtifactFile, ...]
    kind: Kind = "task"
    makes: tuple[str, ...] = ()


def publish(work: Path, artifact: Path) -> None:
    """Make the agent's folder the artifact. Done already is fine. Raises DurabilityError."""
    if artifact.exists():
        # Who asks again may do so because the name could not be brought to the disk.
        durable.moved(work, artifact)
    elif work.exists():
        durable.move(work, artifact)


def verify(artifact: Path, manifest: Manifest) -> str:
    """Read every file back. Returns what is wrong with the first that differs, or ``""``."""
    for file in manifest.files:
        try:
            with regular.opened(artifact / file.path) as stream:
                digest = file_digest(stream, "sha256").hexdigest()
        except (OSError, ValueError) as error:
            return f"{file.path}: {getattr(error, 'strerror', None) or error}"
        if digest != file.sha256:
            return f"{file.path} has other content"
    return ""
