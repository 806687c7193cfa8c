"""Homes with artifacts for tests of what goes from node to node over SSH, and an `ssh` that needs no network."""

from __future__ import annotations

import shlex
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import yaml

from outlast.home import Home
from outlast.messages import ArtifactFile
from outlast.store.keyring import make_key
from outlast.work.artifacts import MANIFEST, Manifest

__all__ = ["UNIT", "answering", "fake_ssh", "leave", "make_home", "manifest_of"]

UNIT = "coz-d1zkffdmvrmx"


def make_home(root: Path, name: str, **config: Any) -> Home:
    """A home as site.yml leaves it, without a runtime; ``config`` is laid over its node.yml."""
    home = Home(root / name)
    for folder in (
        home.config.parent,
        home.ssh_key.parent,
        home.artifacts,
        home.logs,
        home.root / "run",
        home.root / "var",
    ):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.ssh_key.write_text("not looked at\n")
    plain = {"node": name, "listen": {"host": "127.0.0.1", "port": 18801}, "agent": {"command": ["/bin/true"]}}
    home.config.write_text(yaml.safe_dump({**plain, **config}))
    make_key(home.keys / f"{name}.key")
    return home


def manifest_of(files: dict[str, bytes], unit: str = UNIT, **fields: Any) -> Manifest:
    """What a task that left these files has for a manifest."""
    listed = tuple(ArtifactFile(path, len(data), sha256(data).hexdigest()) for path, data in sorted(files.items()))
    plain: dict[str, Any] = {
        "unit": unit, "task": "host report", "sender": "coz", "trace_id": "0" * 32, "verdict": "done", "detail": "healthy",
        "exit_code": 0, "ended": "2026-11-21T05:09:07.123Z", "files": listed,
    }  # fmt: skip
    return Manifest(**{**plain, **fields})


def leave(home: Home, files: dict[str, bytes], unit: str = UNIT, **fields: Any) -> Path:
    """Publish an artifact of these files, path to content."""
    folder = home.artifacts / unit
    folder.mkdir(mode=0o700)
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest_of(files, unit, **fields)))
    return folder


def fake_ssh(folder: Path, script: str) -> Path:
    """Put a shell script named ``ssh`` into a folder for the PATH; `$last` is what it is to ask. Returns the folder."""
    folder.mkdir()
    program = folder / "ssh"
    program.write_text(f"#!/bin/sh\nfor last; do :; done\nprintf '%s\\n' \"$@\" > {folder}/argv\n{script}\n")
    program.chmod(0o700)
    return folder


def answering(home: Home) -> str:
    """The script of an ``ssh`` that reaches the node in ``home``, as coz."""
    program = shlex.join(
        [sys.executable, "-c", "from outlast.files.serve import main; main()", "--home", str(home.root)]
    )
    return f'SSH_ORIGINAL_COMMAND="$last" exec {program} --peer coz'
