"""Homes with something in them to lose, without a process: for tests of backups."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from outlast.clock import SystemClock
from outlast.home import Home
from outlast.openclaw.place import Place
from outlast.openclaw.settings import OpenClaw
from outlast.store.keyring import make_key
from outlast.store.ledger import Ledger
from outlast.store.memory import Memory

from .live import free_port

__all__ = ["MARKED", "copy_of_openclaw", "laid_out", "marks", "place_of"]

# A file of each part that is put back.
MARKED = (
    "workspace/note.md",
    "workspace/artifacts/coz-d1zjz7qv76sw/report.md",
    "workspace/deep/er/file",
    "var/jobs.json",
    "var/ended/coz-d1zjz7qv76sw/output",
    "var/home/.openclaw/state/openclaw.sqlite",
    "var/home/.openclaw/workspace-scribe/AGENTS.md",
)


def laid_out(root: Path, mark: str, node: str = "axiom", records: int = 3) -> Home:
    """A home as a node leaves it, every part of which says ``mark``."""
    home = Home(root)
    for folder in (home.config.parent, home.keys, home.socket.parent, home.workspace):
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    home.config.write_text(
        f"node: {node}\nlisten: {{host: 127.0.0.1, port: {free_port()}}}\nagent: {{command: [/bin/true]}}\n"
    )
    home.config.chmod(0o600)
    make_key(home.keys / f"{node}.key")
    clock = SystemClock()
    memory = Memory(home, node, clock)
    for number in range(records):
        memory.note("fact", f"{mark} {number}")
    memory.flush()
    memory.close()
    Ledger(home.ledger, home.trash, clock, begun=True).close()
    for name in MARKED:
        path = root / name
        path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        path.write_text(mark)
    return home


def marks(home: Home) -> set[str]:
    """What its parts say."""
    return {(home.root / name).read_text() if (home.root / name).exists() else "nothing" for name in MARKED}


def place_of(home: Home, release: str = "/nowhere") -> Place:
    """Its OpenClaw, which is not there."""
    return Place(home, OpenClaw(release=release, port=free_port()))


def copy_of_openclaw(place: Place, mark: str, *, name: str = "state/openclaw.sqlite") -> Path:
    """A copy of a state in the layout that ``openclaw backup create`` writes."""
    root = "2026-11-21T22-07-03.256+00-00-openclaw-backup"
    state = f"{root}/payload/posix{place.state}"
    manifest = {"assets": [{"kind": "state", "sourcePath": str(place.state), "archivePath": state}]}
    path = place.snapshots / "openclaw-20261121T220703Z.tar.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for member, data in (
            (f"{state}/{name}", mark.encode()),
            (f"{root}/manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo(f"{state}/workspace")
        link.type, link.linkname = tarfile.SYMTYPE, "/somewhere/else"
        tar.addfile(link)
    return path
