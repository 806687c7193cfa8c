"""Runs on a node, in the Python of its release: print as JSON what lies below a directory.

Keeps: standard library only; changes nothing; content is told by its digest, because Ansible's debug log holds all that
is printed here. Leaves to others: what is to lie there (glance.py's callers).
"""

from __future__ import annotations

import glob
import grp
import hashlib
import json
import os
import pwd
import stat
import sys

# Nothing that is compared comes near it.
MOST_BYTES = 1 << 24


def look(root: str, patterns: list[str]) -> dict[str, dict[str, str]]:
    """Each path that is there, relative to root, to kind, owner and mode of what it is, and its digest or target."""
    seen = {}
    for pattern in patterns:
        for path in glob.glob(pattern, root_dir=root):
            place = os.path.join(root, path)
            try:
                seen[path] = one(place)
            except OSError:
                # What cannot be read is for the module to complain about.
                continue
    return seen


def one(place: str) -> dict[str, str]:
    """One path; raises OSError."""
    if os.path.islink(place):
        return {"kind": "link", "target": os.readlink(place)}
    status = os.stat(place)
    told = {"mode": f"{stat.S_IMODE(status.st_mode):04o}", **owned(status)}
    if stat.S_ISDIR(status.st_mode):
        return {"kind": "directory", **told}
    if not stat.S_ISREG(status.st_mode):
        return {"kind": "other", **told}
    if status.st_size > MOST_BYTES:
        return {"kind": "file", **told}
    # Where agents write, something else may have taken its place meanwhile.
    with open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        return {"kind": "file", **told, "sha256": hashlib.sha256(file.read(MOST_BYTES)).hexdigest()}


def owned(status: os.stat_result) -> dict[str, str]:
    """Owner and group by name, or by number where they have none."""
    try:
        owner = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        owner = str(status.st_uid)
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    return {"owner": owner, "group": group}


print(json.dumps(look(sys.argv[1], sys.argv[2:])))
