"""A node's own SSH key: made where there is none that ssh would use.

Keeps: the private key is its user's alone from the first moment, appears whole or not at all, and stays where it is; what
lies in its place and is no key is kept in the trash. Leaves to others: being that user, and whether it has to be looked at.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from typing import Any

from . import durable

__all__ = ["KeyTrouble", "ensure"]


class KeyTrouble(Exception):
    """One line that says what is wrong and the mend."""


def keygen(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ssh-keygen, which never asks; raises KeyTrouble where there is none."""
    try:
        return subprocess.run(
            ["ssh-keygen", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise KeyTrouble("ssh-keygen: it is not installed; mend: install OpenSSH's client there") from None


def public(path: str) -> str:
    """The public half of the key at path, in base64; empty where it is none. Raises KeyTrouble, OSError."""
    if os.path.islink(path) or not os.path.isfile(path):
        return ""
    os.chmod(path, 0o600)
    words = keygen("-y", "-P", "", "-f", path).stdout.split()
    return words[1] if words[:1] == ["ssh-ed25519"] else ""


def make(path: str, node: str) -> None:
    """Make a key at path, whole and on the disk, with its public half beside it. Raises KeyTrouble, OSError."""
    folder = os.path.dirname(path)
    place = tempfile.mkdtemp(prefix=".new.", dir=folder)
    try:
        new = os.path.join(place, "key")
        done = keygen("-q", "-t", "ed25519", "-N", "", "-C", node, "-f", new)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise KeyTrouble(
                f"{path}: {said[-1] if said else 'no key was made'}; mend: see that {folder} can be written"
            )
        for made, target in ((f"{new}.pub", f"{path}.pub"), (new, path)):
            with open(made, "rb") as file:
                os.fsync(file.fileno())
            os.rename(made, target)
        durable.sync_directory(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def ensure(home: str, node: str) -> dict[str, Any]:
    """Make the node's key where there is none that ssh would use. Raises KeyTrouble, OSError."""
    folder = os.path.join(home, "etc", "ssh")
    path = os.path.join(folder, "id_ed25519")
    if not os.path.isdir(folder) or os.stat(folder).st_uid != os.geteuid():
        raise KeyTrouble(f"{folder}: it is not there, or not the node's user's; mend: run ansible-playbook site.yml")
    os.chmod(folder, 0o700)
    before = oct(os.lstat(path).st_mode) if os.path.lexists(path) else ""
    if own := public(path):
        return {"changed": before != oct(os.lstat(path).st_mode), "own": own}
    if before:
        trash = os.path.join(home, "var", "trash")
        os.makedirs(trash, mode=0o700, exist_ok=True)
        os.rename(path, os.path.join(trash, f"{time.strftime('%Y-%m-%dT%H%M%S')}-id_ed25519"))
    make(path, node)
    return {"changed": True, "own": public(path)}
