"""Text of others in Markdown: shown as it is, on one line, and doing nothing else.

Rules kept here: no text ends the line or the code span that it is in, or is taken for emphasis, a link, an image or HTML; none
is longer than is said. Left to others: what is quoted, and terminals (cli.show).
"""

from __future__ import annotations

import re

from outlast.core.record import one_line

__all__ = ["escaped", "quoted"]

_MEANING = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>#|~&"})


def quoted(text: str, limit: int = 160) -> str:
    """A code span with fences longer than any in the text."""
    line = one_line(text, limit)
    if line and "`" not in line:
        return f"`{line}`"
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    return f"{fence} {line} {fence}"


def escaped(text: str, limit: int = 400) -> str:
    """Running text in which no character has a meaning."""
    return one_line(text, limit).translate(_MEANING)
