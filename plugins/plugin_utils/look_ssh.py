"""Runs on a node, in the Python of its release, as the node's user: print as JSON the public SSH keys that it has and knows.

Keeps: standard library only; changes nothing; of the node's private key only the public half, which stands in it in the
clear, is told, and only where the key is a plain file of its user's alone. Leaves to others: making a key, and believing
what the node says (action/ssh_identity.py).
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import re
import stat
import sys

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}"
# A key that needs no passphrase.
PLAIN = b"openssh-key-v1\0\0\0\0\x04none"
# What precedes the 32 bytes of an Ed25519 key, as OpenSSH writes one.
LEAD = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
PRIVATE = re.compile(rb"-----BEGIN OPENSSH PRIVATE KEY-----\n([A-Za-z0-9+/=\n]+)-----END OPENSSH PRIVATE KEY-----\n")


def own(path: str) -> str:
    """The public half of the key at path; empty where there is none that ssh would use."""
    try:
        folder, file = os.lstat(os.path.dirname(path)), os.lstat(path)
        if not stat.S_ISREG(file.st_mode) or (folder.st_mode | file.st_mode) & 0o077 or file.st_uid != os.geteuid():
            return ""
        with open(path, "rb") as stream:
            body = PRIVATE.fullmatch(stream.read(8192))
        whole = base64.b64decode(body[1]) if body else b""
    except (OSError, ValueError):
        return ""
    at = whole.find(LEAD)
    return "" if at < 0 or not whole.startswith(PLAIN) else base64.b64encode(whole[at : at + len(LEAD) + 32]).decode()


def named(path: str, line: str) -> dict[str, str]:
    """The keys in a file that Ansible wrote, by the peers' names."""
    found = re.findall(line, text(path), re.MULTILINE | re.ASCII)
    # A name is shorter than a key.
    return {min(one, key=len): max(one, key=len) for one in found}


def text(path: str) -> str:
    """A text file's content; empty where it cannot be read."""
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read(1 << 20)
    except OSError:
        return ""


def main(home: str, host_key: str) -> None:
    """Print all of it."""
    host = re.match(f"ssh-ed25519 ({KEY})( |$)", text(host_key), re.MULTILINE)
    name = "([a-z][a-z0-9-]{0,31})"
    told = {
        "account_home": pwd.getpwuid(os.geteuid()).pw_dir,
        "own": own(os.path.join(home, "etc", "ssh", "id_ed25519")),
        "host": host[1] if host else "",
        "let_in": named(os.path.join(home, ".ssh", "authorized_keys"), f"^restrict,.* ssh-ed25519 ({KEY}) {name}$"),
        "known": named(os.path.join(home, ".ssh", "known_hosts"), f"^{name} ssh-ed25519 ({KEY})$"),
    }
    print(json.dumps(told))


main(*sys.argv[1:])
