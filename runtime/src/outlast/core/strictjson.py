"""JSON that has one meaning: what two readers could take for two different things is refused before it is read.

Rules kept here: UTF-8 and nothing else (no byte order mark, no lone surrogate, escaped or not); no name twice in an object,
however it is spelled; no NaN, no infinity, no number too large to be one; at most ``MAX_DEPTH`` objects and lists inside
each other. Only :class:`NotStrict` leaves this module, and its text holds nothing of what was sent.

Left to others: which fields there are, of which type and how long (messages); how large the whole is (net.http).
"""

from __future__ import annotations

import json
import re
from math import isinf
from typing import Never

__all__ = ["MAX_DEPTH", "NotStrict", "check"]

MAX_DEPTH = 16

_TOO_DEEP = f"it is more than {MAX_DEPTH} deep"
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class NotStrict(ValueError):
    """This is not JSON, or not JSON with one meaning."""


def check(data: bytes) -> None:
    """Raises NotStrict unless ``data`` is one JSON value as above. Linear in the size of ``data``."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise NotStrict("it is not UTF-8") from None
    try:
        _DECODER.decode(text)
    except NotStrict:
        raise
    except RecursionError:
        raise NotStrict(_TOO_DEEP) from None
    except ValueError:
        # That is also how Python refuses a number of many thousand digits.
        raise NotStrict("it is not JSON") from None
    # Only now: in a text that does not end, looking for texts would not be linear.
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise NotStrict(_TOO_DEEP)
    if "\\u" in text and _lone(text):
        raise NotStrict("it has half a surrogate pair")


def _depth(text: str) -> int:
    """How deep lists and objects are inside each other, at most."""
    deepest = depth = 0
    for bracket in _BRACKETS.findall(_TEXT.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _lone(text: str) -> bool:
    """Does an escape make half a pair? Two halves that are escaped one after the other have become one character."""
    return any(_SURROGATE.search(json.loads(found)) for found in _TEXT.findall(text) if "\\u" in found)


def _unique(pairs: list[tuple[str, object]]) -> None:
    if len(pairs) > 1 and len({name for name, _ in pairs}) != len(pairs):
        raise NotStrict("a name is in an object twice")


def _constant(_: str) -> Never:
    raise NotStrict("it has a number that is none")


def _float(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise NotStrict("it has a number that is too large")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_float=_float)
