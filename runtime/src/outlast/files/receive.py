"""Takes in what a peer sends of an artifact, into an empty folder. The stream is hostile until it is proved good.

Rules kept here: only files that the manifest lists are made, new and plain, below the folder and of the size it says;
each is on the disk and read back against its SHA-256 before anybody is told that it is there; what is left behind by a
failure is only in that folder.

Left to others: the stream's grammar (files.wire), where the folder goes (files.fetch).
"""

from __future__ import annotations

import os
from io import BufferedIOBase
from pathlib import Path

from outlast.errors import FilesError
from outlast.files import wire
from outlast.store import durable
from outlast.work.artifacts import MANIFEST, Manifest, verify

__all__ = ["receive"]

_CHUNK = 1 << 18


def receive(stream: BufferedIOBase, manifest: Manifest, data: bytes, folder: Path) -> None:
    """Read the files of ``manifest``, which came as ``data``, into ``folder``. Raises FilesError, OSError, DurabilityError."""
    folders = {folder}
    for file in manifest.files:
        if wire.read_header(stream, file.path) != file.size:
            raise FilesError(f"{file.path} has another size than its manifest says; it is not taken")
        target = folder / file.path
        _make_folders(folder, target.parent)
        folders.update(parent for parent in target.parents if parent.is_relative_to(folder))
        _write(stream, file.size, target)
        wire.exactly(stream, wire.padding(file.size))
    if wire.exactly(stream, len(wire.END)) != wire.END:
        raise FilesError(f"{manifest.unit}: more came than its manifest lists; it is not taken")
    if wrong := verify(folder, manifest):
        raise FilesError(f"{manifest.unit}: {wrong} than its manifest says; it is not taken")
    for place in sorted(folders, reverse=True):
        durable.fsync_dir(place)
    # Last, as where artifacts are made: a folder with a manifest is whole.
    durable.replace(folder / MANIFEST, data, mode=durable.SHARED_FILE)


def _make_folders(folder: Path, wanted: Path) -> None:
    """Make ``wanted`` below ``folder``; mkdir's own ``parents`` would give those in between another mode."""
    for place in reversed([wanted, *wanted.parents]):
        if place.is_relative_to(folder) and place != folder:
            place.mkdir(mode=durable.SHARED_FOLDER, exist_ok=True)


def _write(stream: BufferedIOBase, left: int, target: Path) -> None:
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, durable.SHARED_FILE)
    try:
        while left:
            chunk = wire.exactly(stream, min(left, _CHUNK))
            durable.write_all(fd, chunk)
            left -= len(chunk)
        durable.fsync_file(fd)
    finally:
        os.close(fd)
