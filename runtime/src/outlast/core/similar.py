"""What somebody who misspelt a name may have meant.

Left to others: where the names come from.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean"]

_SHOWN = 12


def did_you_mean(name: str, known: Iterable[str], none: str) -> str:
    """The mend for a name that is not known: the one that is like it, or all that there are; ``none`` where there are none."""
    # Imported where it is used: names are mostly spelt right.
    import difflib

    names = sorted(known)
    if close := difflib.get_close_matches(name, names, 1):
        return f"did you mean {close[0]}?"
    return f"one of: {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}" if names else none
