"""Strict JSON: what passes has one meaning for every reader, and nothing but NotStrict is ever raised."""

from __future__ import annotations

import contextlib
import json

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pytest import mark, raises

from outlast.core.strictjson import MAX_DEPTH, NotStrict, check

_PLAIN = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
_TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
VALUES = st.recursive(
    _PLAIN | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)


def depth(value: object) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


@settings(max_examples=1000)
@given(VALUES, st.booleans())
def test_what_is_written_as_it_should_be_passes(value: object, ascii_only: bool) -> None:
    """Every value, however its characters are written, unless it is deeper than the limit; and msgspec reads the same."""
    data = json.dumps(value, ensure_ascii=ascii_only).encode()
    if depth(value) > MAX_DEPTH:
        with raises(NotStrict):
            check(data)
    else:
        check(data)
        assert msgspec.json.decode(data) == value


@settings(max_examples=1000)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\ue0123456789dD.-+NaInfity\n ', max_size=60).map(str.encode))
@example(b'"' + b'\\"' * 60_000)
@example(b"[" * 100_000)
@example(b'{"a":' * 30_000)
@example(b"9" * 5000)
def test_only_not_strict_is_raised(data: bytes) -> None:
    """Whatever the bytes are; and what passes Python and msgspec read alike."""
    with contextlib.suppress(NotStrict):
        check(data)
        with contextlib.suppress(msgspec.ValidationError):
            assert json.dumps(json.loads(data)) == json.dumps(msgspec.json.decode(data))


@settings(max_examples=1000)
@given(st.lists(st.tuples(_TEXTS, _PLAIN), min_size=1, max_size=5), st.data())
def test_a_name_that_comes_twice_is_refused(pairs: list[tuple[str, object]], data: st.DataObject) -> None:
    """At any depth, in any spelling."""
    twice = data.draw(st.sampled_from(pairs))[0]
    escaped = '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else c for c in twice) + '"'
    members = [f"{json.dumps(name)}:{json.dumps(value)}" for name, value in dict(pairs).items()]
    body = ",".join(data.draw(st.permutations([*members, f"{escaped}:1"])))
    nested = data.draw(st.integers(0, 5))
    with raises(NotStrict, match="twice"):
        check(("[" * nested + "{" + body + "}" + "]" * nested).encode())


@mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_the_limit_of_depth_is_exact(depth: int) -> None:
    """Brackets within texts do not count; those of lists and objects do."""
    data = b'{"[[[[[[[[[[[[[[[[[[[[":' * (depth - 1) + b'["]]]]"]' + b"}" * (depth - 1)
    with contextlib.nullcontext() if depth <= MAX_DEPTH else raises(NotStrict, match="deep"):
        check(data)


@mark.parametrize(
    "data",
    [b'"\\ud800"', b'"\\udc00\\ud800"', b'{"\\ud83d":1}', b"[NaN]", b"-Infinity", b"1e999", b"\xef\xbb\xbf1", b'"\xed\xa0\x80"',
     b"'a'", b"1 2", b"", b" ", b'{"a":1,}', b"01", b"+1", b'"\n"', "1".encode("utf-16"), "1".encode("utf-32-le")],
)  # fmt: skip
def test_what_has_no_one_meaning(data: bytes) -> None:
    """Half of a pair, no number, a byte order mark, another encoding, another dialect."""
    with raises(NotStrict):
        check(data)
