"""What a step may be called, and the files that it promises: names that fit into a record, a folder and a person's eye.

Rules kept here: a step is never taken for a hand-off, nor for what the runtime's own records are about; its files lie below
its artifact, and none of them is Outlast's manifest. Left to others: everything that is done with the names (work.steps).
"""

from __future__ import annotations

import re

from outlast.core.ids import valid_unit
from outlast.core.record import one_line
from outlast.core.state import intent_phrase
from outlast.errors import BadInput

__all__ = ["RESERVED", "check_names", "check_unit"]

RESERVED = frozenset(
    ("artifacts", "clean", "days", "disk", "emergency", "fact", "facts", "gap", "heartbeat", "journal", "ledger")
    + ("memory", "mode", "node", "queue", "shared", "state", "steps", "subagents")
)
"""What the runtime's own records are about."""

_UNIT = re.compile("[a-z0-9][a-z0-9-]{0,63}")
_OWN = ".outlast.json"
_PATH_BYTES = 200


def check_unit(unit: str) -> str:
    """The name of a step's unit, as it is. Raises BadInput for one that cannot be."""
    if not _UNIT.fullmatch(unit):
        wrong = f"{one_line(unit, 60)!r} is no name for a unit"
        raise BadInput("--unit", wrong, "use 1 to 64 of a-z, 0-9 and -, not - first")
    if valid_unit(unit):
        raise BadInput("--unit", f"{unit} is a name that hand-offs have", "use a shorter one")
    if unit in RESERVED:
        raise BadInput("--unit", f"{unit} is a name of the runtime's own", f"say more, {unit}-1 for example")
    return unit


def check_names(names: list[str]) -> tuple[str, ...]:
    """The names of the files that a step promises, each once. Raises BadInput for those that cannot be."""
    for name in names:
        parts, shown = name.split("/"), repr(one_line(name, 60))
        if {"", ".", ".."} & set(parts):
            raise BadInput("--artifact", f"{shown} is not a path below the artifact", "write it like plots/fig.png")
        if not name.isprintable() or len(name.encode()) > _PATH_BYTES:
            wrong = f"{shown} does not print, or is longer than {_PATH_BYTES} bytes"
            raise BadInput("--artifact", wrong, "use plain names")
        if name.casefold() == _OWN:
            raise BadInput("--artifact", f"{shown} is Outlast's own", "choose another name")
        if any("/".join(parts[:above]) in names for above in range(1, len(parts))):
            raise BadInput("--artifact", f"{shown} lies in a file that is promised too", "choose another name")
    promised = tuple(dict.fromkeys(names))
    # Whether they fit into the record of the promise.
    intent_phrase("step", "", "-", promised)
    return promised
