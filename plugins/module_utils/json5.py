"""Read JSON5, as people write it: comments, bare names, single quotes, commas at the end.

Keeps: standard library only; what cannot be read is a ValueError that names the line and repeats nothing of the text, which
may hold secrets. Leaves to others: what the values mean, and `$include` (openclaw_old).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["read"]

_TOKEN = re.compile(
    r"""(?P<space>[\s\ufeff]+|//[^\n\r\u2028\u2029]*|/\*.*?\*/)
    |(?P<text>"(?:\\(?:\r\n|.)|[^"\\\n\r])*"|'(?:\\(?:\r\n|.)|[^'\\\n\r])*')
    |(?P<mark>[{}\[\]:,])
    |(?P<word>[^\s\ufeff{}\[\]:,"'/]+)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(\r\n|.))", re.DOTALL)
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}
_NAME = re.compile(r"(?:[^\W\d]|[$_]|\\u[0-9a-fA-F]{4})(?:\w|[$\u200c\u200d]|\\u[0-9a-fA-F]{4})*")
_NUMBER = re.compile(r"([+-]?)(?:(Infinity|NaN)|0[xX]([0-9a-fA-F]+)|((?:(?:0|[1-9]\d*)\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))")
_DEEP = 64
_PLAIN = ("true", "false", "null")
_ENDS = ("\n", "\r", "\r\n", "\u2028", "\u2029")


def read(text: str) -> Any:
    """The value that a text stands for; raises ValueError."""
    tokens = list(_tokens(text))
    parts: list[str] = []
    lines: list[int] = []
    depth = 0
    for at, (kind, word, line) in enumerate(tokens):
        if kind == "text":
            part = json.dumps(_ESCAPE.sub(_letter, word[1:-1]))
        elif kind == "word":
            is_name = tokens[at + 1 : at + 2] and tokens[at + 1][1] == ":"
            part = _name(word, line) if is_name else _plain(word, line)
        else:
            part = word
            depth += (word in "{[") - (word in "}]")
            if depth > _DEEP:
                raise ValueError("it is nested too deeply")
            if word in "}]" and parts[-1:] == [","] and parts[-2:-1] not in (["{"], ["["]):
                del parts[-1], lines[-1]
        parts.append(part)
        lines.append(line)
    try:
        # One a line, so that what is said of a line is of one of them.
        return json.loads("\n".join(parts))
    except json.JSONDecodeError as error:
        raise _wrong(lines[min(error.lineno, len(lines)) - 1] if lines else 1) from None


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    at, line = 0, 1
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise _wrong(line)
        if found.lastgroup != "space":
            yield str(found.lastgroup), found.group(), line
        line += found.group().count("\n")
        at = found.end()


def _name(word: str, line: int) -> str:
    if not _NAME.fullmatch(word):
        raise _wrong(line)
    return json.dumps(_ESCAPE.sub(_letter, word))


def _plain(word: str, line: int) -> str:
    if word in _PLAIN:
        return word
    number = _NUMBER.fullmatch(word)
    if number is None:
        raise _wrong(line)
    sign, named, hexadecimal, decimal = number.groups()
    if hexadecimal:
        return f"{sign}{int(hexadecimal, 16)}".lstrip("+")
    if named:
        return "NaN" if named == "NaN" else f"{sign}{named}".lstrip("+")
    return f"{sign}{decimal}".lstrip("+") if decimal.isdigit() else repr(float(f"{sign}{decimal}"))


def _letter(found: re.Match[str]) -> str:
    code, byte, letter = found.groups()
    if code or byte:
        return chr(int(code or byte, 16))
    return "" if letter in _ENDS else _LETTERS.get(letter, letter)


def _wrong(line: int) -> ValueError:
    return ValueError(f"line {line} is no JSON5")
