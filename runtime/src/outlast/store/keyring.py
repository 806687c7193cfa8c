"""Key files: one ``NAME.key`` an agent, one ``whsec_…`` a line; the first line signs, every line verifies.

Rules kept here: a key file that anybody else may read or write, or that belongs to somebody else, is refused; a secret is
never shown, not even in an error. A key is made on the node that signs with it.

Left to others: carrying keys to the other nodes (Ansible), signing and verifying (core.webhook).
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from outlast.core.webhook import Secret, new_secret, parse_secret
from outlast.errors import KeyFileError, SignatureError
from outlast.store import durable

__all__ = ["Keyring", "make_key", "read_key"]

_SIZE_LIMIT = 4096


def read_key(path: Path) -> tuple[Secret, ...]:
    """Read the secrets of one key file, the signing one first. Raises KeyFileError."""
    again = "run ansible-playbook site.yml"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise KeyFileError(str(path), "there is no such key file", again) from None
    except OSError as error:
        raise KeyFileError(str(path), f"it cannot be read ({error.strerror})", f"chmod 600 {path}") from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileError(str(path), "it is not a regular file", f"move it away and {again}")
        if found.st_uid != os.geteuid():
            raise KeyFileError(str(path), "it belongs to another user", f"chown it to the user that runs {path.stem}")
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise KeyFileError(str(path), f"others may use it (mode {mode:04o})", f"chmod 600 {path}")
        data = os.read(fd, _SIZE_LIMIT)
    finally:
        os.close(fd)
    try:
        return tuple(parse_secret(line) for line in data.decode("ascii").split()) or _empty(path)
    except (SignatureError, UnicodeDecodeError):
        mend = f"move it away and {again}: a new key is made"
        raise KeyFileError(str(path), "it does not hold whsec_ secrets, one a line", mend) from None


def _empty(path: Path) -> tuple[Secret, ...]:
    raise KeyFileError(str(path), "it is empty", "move it away and run ansible-playbook site.yml: a new key is made")


def make_key(path: Path) -> bool:
    """Make a key file unless there is one already, whatever is in it. True if one was made. Raises DurabilityError."""
    if path.exists():
        return False
    durable.make_dir(path.parent)
    durable.replace(path, f"{new_secret(secrets.token_bytes(32))}\n".encode())
    return True


class Keyring:
    """The node's own secrets and its peers'."""

    def __init__(self, folder: Path, own: str, peers: list[str]) -> None:
        """Read the node's own key and those of its peers. Raises KeyFileError for the first that is wrong.

        A peer whose key is not there yet is left out of ``peers``: a node can be made while its sibling sleeps, and works
        alone until the key comes.
        """
        self.own = read_key(folder / f"{own}.key")
        files = {peer: folder / f"{peer}.key" for peer in peers}
        self.peers = {peer: read_key(path) for peer, path in files.items() if os.path.lexists(path)}
