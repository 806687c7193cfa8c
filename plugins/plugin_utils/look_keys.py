"""Runs on a node as its user, in the Python of its release: print as JSON which keys it holds, who else holds old ones, and
whether it has been told where alerts go.

Keeps: standard library only; changes nothing; of a secret no more is told than the id that every node calls it by. Where
there is no /proc, nothing is said of processes. Leaves to others: what follows from it (rotation.py).
"""

from __future__ import annotations

import base64
import binascii
import glob
import hashlib
import json
import os
import re
import stat
import sys

MOST_BYTES = 1 << 17
# Any text that may be a secret of 24 bytes or more, with or without what it starts with in a key file.
SECRET = re.compile(rb"(?:wh(?:sec|sk|pk)_)?([A-Za-z0-9+/]{32,88}={0,2})")
KINDS = {"whsec_": "hmac", "whsk_": "ed25519", "whpk_": "ed25519"}


def rings(folder: str) -> list[dict[str, str]]:
    """Every key of every ring, newest first within one; a file that nobody may read is left out."""
    told = []
    for path in sorted(glob.glob("*.key", root_dir=folder) + glob.glob("outside/*.key", root_dir=folder)):
        try:
            with open(os.open(os.path.join(folder, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                plain = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
                lines = file.read(MOST_BYTES).decode("ascii").splitlines() if plain else []
        except (OSError, UnicodeDecodeError):
            continue
        agent = os.path.basename(path).removesuffix(".key")
        outside = os.path.dirname(path)
        for number, line in enumerate(lines[bool(outside) :]):
            told += one(agent, number, line.split(" "), outside)
    return told


def one(agent: str, number: int, words: list[str], outside: str) -> list[dict[str, str]]:
    """One line, of which there is nothing to tell where it is none."""
    kind = KINDS.get(words[0].partition("_")[0] + "_", "")
    who = {"agent": agent, "kind": kind, "outside": outside}
    if len(words) == 5:
        return [{**who, **dict(zip(("id", "state", "made", "rotation"), words[1:], strict=True))}]
    if len(words) == 1 and kind == "hmac":
        # As files were before there were rings.
        name = identity(words[0].removeprefix("whsec_").encode())
        return [{**who, "id": name[0], "state": "accepted" if number else "active", "made": "-", "rotation": "-"}]
    return []


def identity(text: bytes) -> list[str]:
    """What nodes would call this secret, were it one: of an Ed25519 pair the public half, which comes last, counts."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        return []
    return [hashlib.sha256(b"outlast key id\0" + key).hexdigest()[:10] for key in (data, data[-32:])]


def held(old: set[str]) -> list[dict[str, str]]:
    """The processes of this user that have an old secret in their environment or command line."""
    found = []
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            if os.stat(folder).st_uid != os.geteuid():
                continue
            for where, name in (("environment", "environ"), ("command line", "cmdline")):
                with open(os.path.join(folder, name), "rb") as file:
                    texts = SECRET.findall(file.read())
                if ids := sorted({name for text in texts for name in identity(text)} & old):
                    with open(os.path.join(folder, "comm"), encoding="utf-8", errors="replace") as file:
                        program = file.read().strip()
                    pid = os.path.basename(folder)
                    found.append({"pid": pid, "program": program, "where": where, "id": ids[0]})
        except OSError:
            # It has ended meanwhile, or does not let us look.
            continue
    return found


keys = rings(os.path.join(sys.argv[1], "etc", "keys"))
told = {"keys": keys, "alerts": os.path.lexists(os.path.join(sys.argv[1], "etc", "keys", "alerts"))}
if "processes" in sys.argv[2:]:
    told["held"] = held({key["id"] for key in keys if key["state"] in {"retired", "revoked"}})
print(json.dumps(told))
