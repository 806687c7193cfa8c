"""What lies there that takes room: logs and traces, artifacts and the trash, looked at without changing anything.

Rules kept here: symbolic links are neither followed nor counted; a folder of ours in whose place somebody put a link is
empty to us; what cannot be read is said to be so, and is no reason to fail.

Left to others: logs (work.oldlogs), what is to go (core.cleaning).
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from outlast.core.cleaning import Disk, Seen, Stays, Thing
from outlast.home import Home
from outlast.work import ballast
from outlast.work.oldlogs import entries, guarded, look_at_logs, put_there
from outlast.work.packing import Going, walk

__all__ = ["look"]


def look(
    home: Home, disk: Disk, now: float, *, busy: Collection[str], protected: Collection[str], going: Going
) -> Seen:
    """All of it. ``now``: seconds since 1970; ``busy``: the names in artifacts/ of open work; ``protected``: globs.

    Raises OSError, and what ``going`` raises.
    """

    def thing(entry: os.DirEntry[str], stays: Stays = "") -> Thing:
        going()
        size, newest = 0, 0.0
        try:
            for name, info in walk(Path(entry.path)):
                size += info.st_size
                newest = max(newest, info.st_mtime)
                stays = stays or guarded(home, os.path.join(entry.path, name) if name else entry.path, protected)
        except OSError:
            stays = "unreadable"
        return Thing(entry.name, size, now - newest, stays)

    def trashed(entry: os.DirEntry[str]) -> Thing:
        seen = thing(entry)
        return Thing(seen.name, seen.size, now - put_there(entry), seen.stays)

    logs = look_at_logs(home, disk, now, protected=protected)
    return Seen(
        disk,
        ballast.taken(home),
        logs.logs,
        tuple(thing(entry, "open" if entry.name in busy else "") for entry in entries(home.artifacts)),
        tuple(trashed(entry) for entry in entries(home.trash) if entry.name != home.old_logs.name),
        logs.past,
        logs.purged,
    )
