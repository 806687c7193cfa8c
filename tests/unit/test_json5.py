"""JSON5 as people write it is read as the reader that OpenClaw uses reads it."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.openclaw import release

sys.path.append(str(Path(__file__).parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.module_utils.json5 import read  # noqa: E402

# Numbers as they are, what is no number to JSON by name, mappings as lists: order and all.
READ = """const J = require(process.argv[1]), texts = JSON.parse(require('fs').readFileSync(0, 'utf8'))
const told = v => typeof v === 'number' ? (Number.isFinite(v) ? v : {is: String(v)}) : Array.isArray(v) ? v.map(told)
  : v && typeof v === 'object' ? {of: Object.entries(v).map(([a, b]) => [a, told(b)])} : v
console.log(JSON.stringify(texts.map(text => { try { return [told(J.parse(text))] } catch { return [] } })))"""
BLANK = ("", "", " ", "\n", '// c "x" }\n', "/* , } */", "\t", "\ufeff", " \r\n")
WORDS = (
    "true",
    "false",
    "null",
    "1",
    "-2",
    "+3",
    "0x1F",
    ".5",
    "5.",
    "-1.5e3",
    "Infinity",
    "-Infinity",
    "NaN",
    "12345678901",
)
LETTERS = (
    "a",
    "{",
    "//",
    "/*",
    "\\'",
    '\\"',
    "\\n",
    "\\x41",
    "\\u00e9",
    "\\ud83d\\ude00",
    "é",
    "\\\n",
    "\\\r\n",
    "\\q",
    "\\\\",
    ",",
)
NAMES = ("a", "$b", "_c1", "'d e'", '"f"', "é", "\\u0061b", "null", "Infinity")


def text(r: random.Random, depth: int = 0) -> str:
    """Some JSON5."""
    kind = r.randrange(9 if depth < 4 else 6)
    if kind < 3:
        return r.choice(WORDS)
    if kind < 6:
        quote = r.choice("'\"")
        return quote + "".join(r.choice(LETTERS) for _ in range(r.randrange(6))) + quote
    count = r.randrange(4)
    inner = [r.choice(BLANK) + text(r, depth + 1) + r.choice(BLANK) for _ in range(count)]
    if kind == 7:
        inner = [f"{r.choice(BLANK)}{r.choice(NAMES)}{r.choice(BLANK)}:{one}" for one in inner]
    comma = "," if count and r.random() < 0.5 else ""
    return "{" + ",".join(inner) + comma + "}" if kind == 7 else "[" + ",".join(inner) + comma + "]"


def told(value: Any) -> Any:
    """A value as the other reader tells it."""
    if isinstance(value, dict):
        return {"of": [[name, told(inner)] for name, inner in value.items()]}
    if isinstance(value, list):
        return [told(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"is": "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"}
    return value


def test_it_is_read_as_openclaw_reads_it() -> None:
    """Thousands of texts, whole and damaged: the same values, and what is refused here is refused there."""
    r = random.Random(5)
    texts = [r.choice(BLANK) + text(r) + r.choice(BLANK) for _ in range(3000)]
    for whole in [one for one in texts if one.strip()][:1500]:
        at = r.randrange(len(whole))
        texts.append(whole[:at] + r.choice(("", "}", "x", "\n", '"')) + whole[at + 1 :])
    folder = release()
    command = [str(folder / "node/bin/node"), "-e", READ, str(folder / "node_modules/json5")]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True)
    refused = 0
    for one, theirs in zip(texts, json.loads(done.stdout), strict=True):
        try:
            ours = [told(read(one))]
        except ValueError:
            ours = []
        if theirs:
            assert ours == theirs, one
        refused += not ours
    assert 200 < refused < 2000


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("", "line 1"),
        ("{\n a: 'hush\n}", "line 2"),
        ("{\n a: hush}", "line 2"),
        ("{a: 1,\n\n 1b: 2}", "line 3"),
        ("[1 2]", "line 1"),
        ("{a: 1", "line 1"),
        ("{,}", "line 1"),
        ("{a: [1, [\n,]]}", "line 2"),
        ("/* hush", "line 1"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_none_is_named_by_its_line_and_not_repeated(wrong: str, line: str) -> None:
    """It may be a secret."""
    with pytest.raises(ValueError, match=line) as caught:
        read(wrong)
    assert "hush" not in str(caught.value)
