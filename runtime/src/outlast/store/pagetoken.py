"""The token of who looks at the dashboard from beyond loopback.

Rules kept here: it is made once, from 32 random bytes, and is its owner's alone (0600); a file that others may read, or that
holds something else, is refused and never mended in silence. To have a new one, remove the file and restart the node.

Left to others: asking for it (core.onlooker), showing it to a person (cli.dashboard).
"""

from __future__ import annotations

import re
import secrets
import stat
from pathlib import Path

from outlast.errors import KeyFileError
from outlast.store import durable, regular

__all__ = ["made", "read"]

_SHAPE = re.compile(r"[A-Za-z0-9_-]{32,128}\n?")
_MEND = "remove it, and restart the node: it makes a new one"


def made(path: Path) -> str:
    """The token; made where there is none. Raises KeyFileError, DurabilityError."""
    if not path.exists():
        durable.replace(path, f"{secrets.token_urlsafe(32)}\n".encode())
    return read(path)


def read(path: Path) -> str:
    """The token. Raises KeyFileError, also where there is none."""
    try:
        mode = stat.S_IMODE(path.lstat().st_mode)
        with regular.opened(path) as file:
            text = file.read(256).decode("ascii", "replace")
    except FileNotFoundError:
        mend = "set outlast_dashboard: {host: …} to an address beyond loopback, and run ansible-playbook site.yml"
        raise KeyFileError(str(path), "there is no token, none is needed on loopback", mend) from None
    except OSError as error:
        raise KeyFileError(str(path), f"it cannot be read ({error.strerror})", _MEND) from error
    if mode & 0o077:
        raise KeyFileError(str(path), f"others may use it (mode {mode:04o})", _MEND)
    if _SHAPE.fullmatch(text) is None:
        raise KeyFileError(str(path), "it holds no token", _MEND)
    return text.strip()
