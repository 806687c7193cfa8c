"""Bodies that are signed and still wrong: JSON with two readings, with none, and of the wrong shape."""

from __future__ import annotations

import json
from typing import Any

from fault.scenes import envelope

from .attack import UNIT

__all__ = ["BAD_JSON", "DEEP", "task"]

# Deep enough for any reader that recurses, and small enough for any file that is read in part.
DEEP = "[" * 8000 + "]" * 8000


def task(**changes: Any) -> str:
    """A message that would cause work."""
    return envelope(UNIT, **changes)


BAD_JSON = {
    "a name twice": b'{"v":1,"v":1,' + task().encode()[len('{"v": 1, ') :],
    "a name twice, one escaped": b'{"\\u0076":1,' + task().encode()[1:],
    "a name twice, deep": task().replace('"type": "task",', '"type": "task", "type": "ping",').encode(),
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    "deep in a field": task(correlation_id=0).replace("0", "[" * 5000 + "]" * 5000, 1).encode(),
    "NaN": task().replace('"seq": 1', '"seq": NaN').encode(),
    "Infinity": task().replace('"seq": 1', '"seq": Infinity').encode(),
    "-Infinity": task().replace('"seq": 1', '"seq": -Infinity').encode(),
    "a huge number": task().replace('"seq": 1', '"seq": ' + "9" * 100_000).encode(),
    "a huge exponent": task().replace('"seq": 1', '"seq": 1e999999999').encode(),
    "a tiny exponent": task().replace('"seq": 1', '"seq": 1e-999999999').encode(),
    "a fraction": task().replace('"seq": 1', '"seq": 1.5').encode(),
    "a negative zero": task().replace('"seq": 1', '"seq": -0.5').encode(),
    "more than 53 bits": task().replace('"seq": 1', f'"seq": {1 << 53}').encode(),
    "a leading zero": task().replace('"seq": 1', '"seq": 01').encode(),
    "true for one": task().replace('"seq": 1', '"seq": true').encode(),
    "a text for a number": task().replace('"seq": 1', '"seq": "1"').encode(),
    "a byte order mark": b"\xef\xbb\xbf" + task().encode(),
    "UTF-16": task().encode("utf-16"),
    "UTF-32": task().encode("utf-32"),
    "not UTF-8": task().replace("host report", "host \xff").encode("latin-1"),
    "overlong UTF-8": task().encode().replace(b"host report", b"\xc0\xaf"),
    "a surrogate": task().encode().replace(b"host report", b"\xed\xa0\x80"),
    "half an escaped pair": task().replace("host report", "\\ud800").encode(),
    "the other half": task().replace("host report", "\\udc00\\ud800").encode(),
    "a control character": task().replace("host report", "a\x00b").encode(),
    "an unknown escape": task().replace("host report", "\\x41").encode(),
    "something after it": task().encode() + b"{}",
    "two of them": task().encode() * 2,
    "a comment": task().encode() + b"/* */",
    "a trailing comma": task().encode()[:-1] + b",}",
    "single quotes": task().replace('"', "'").encode(),
    "nothing": b"",
    "white space": b" \n\t",
    "null": b"null",
    "a list": b"[" + task().encode() + b"]",
    "a text": json.dumps(task()).encode(),
    "an unknown field": task(more=1).encode(),
    "an unknown field, deep": task(message={"type": "task", "unit": UNIT, "task": "x", "more": 1}).encode(),
    "a prototype": task(__proto__={"v": 1}).encode(),
    "another type": task(message={"type": "exec", "unit": UNIT, "task": "x"}).encode(),
    "a type in a list": task(message={"type": ["task"], "unit": UNIT, "task": "x"}).encode(),
    "no type": task(message={"unit": UNIT, "task": "x"}).encode(),
    "a way out": task(message={"type": "task", "unit": "../../../etc/cron.d/x", "task": "x"}).encode(),
    "a zero byte in a name": task(message={"type": "task", "unit": f"{UNIT}\x00", "task": "x"}).encode(),
    "a line break in a name": task(message={"type": "task", "unit": f"{UNIT}\n", "task": "x"}).encode(),
    "digits of another script": task(trace_id="\u0660" * 32).encode(),
    "too long": task(message={"type": "task", "unit": UNIT, "task": "x" * 16_385}).encode(),
    "an id that is too long": task(correlation_id="x" * 513).encode(),
    "another version": task(v=2).encode(),
    "a negative number": task(seq=-1).encode(),
    "an unknown channel": task(channel="side").encode(),
}
