"""Public SSH keys as nodes tell them: anything else could become a line in another machine's authorized_keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["believed", "key"]

_KEY = re.compile(r"AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}", re.ASCII)


def believed(seen: Mapping[str, Any]) -> dict[str, Any]:
    """What look_ssh.py printed on a node, as far as it is keys: `own`, `host`, and by peer `let_in` and `known`."""
    told: dict[str, Any] = {name: key(seen.get(name)) for name in ("own", "host")}
    for name in ("let_in", "known"):
        told[name] = {peer: key(value) for peer, value in dict(seen.get(name) or {}).items() if key(value)}
    return told


def key(value: object) -> str:
    """The value where it is a key, else nothing."""
    return value if isinstance(value, str) and _KEY.fullmatch(value) else ""
