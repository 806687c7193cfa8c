"""Properties of signatures: what holds for every message, and for every stranger's input."""

from __future__ import annotations

import contextlib
import math

from hypothesis import example, given
from hypothesis import strategies as st
from pytest import raises

from outlast.core import webhook
from outlast.errors import SignatureError

KEYS = st.binary(min_size=24, max_size=64).map(webhook.Secret)
IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
TIMES = st.integers(1, 10**12 - 1)
NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")
SECRET = webhook.Secret(b"s" * 32)


def signed(secrets: list[webhook.Secret], msg_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    return dict(zip(NAMES, (msg_id, str(timestamp), webhook.sign(secrets, msg_id, timestamp, body)), strict=True))


@given(st.lists(KEYS, min_size=1, max_size=8), st.data(), IDS, TIMES, st.binary(max_size=500))
def test_round_trip(keys: list[webhook.Secret], data: st.DataObject, msg_id: str, timestamp: int, body: bytes) -> None:
    """Whatever we sign, a peer that knows any one of the keys accepts, and reads the same id and time, and which key it was."""
    one = data.draw(st.sampled_from(keys))
    accepted = data.draw(st.permutations([one, webhook.Secret(b"?" * 24)]))
    found = webhook.verify(accepted, signed(keys, msg_id, timestamp, body), body, timestamp, 0)
    assert found == webhook.Signed(msg_id, timestamp, one.id)


@given(IDS, TIMES, st.binary(min_size=1, max_size=200), st.sampled_from([*NAMES, "body"]), st.data())
def test_any_flipped_bit_is_refused(msg_id: str, timestamp: int, body: bytes, where: str, data: st.DataObject) -> None:
    """No single bit of id, time, body or signature can change unnoticed, whatever the tolerance."""
    headers = signed([SECRET], msg_id, timestamp, body)
    target = bytearray(body if where == "body" else headers[where].encode())
    bit = data.draw(st.integers(0, len(target) * 8 - 1))
    target[bit // 8] ^= 1 << bit % 8
    if where == "body":
        body = bytes(target)
    else:
        headers[where] = target.decode("latin-1")
    with raises(SignatureError):
        webhook.verify([SECRET], headers, body, timestamp, math.inf)


@given(KEYS, KEYS, IDS, TIMES, st.binary(max_size=50))
def test_another_key_is_refused(one: webhook.Secret, other: webhook.Secret, msg_id: str, at: int, body: bytes) -> None:
    """Who does not hold the key cannot sign; only keys that HMAC pads to the same block are the same key."""
    headers = signed([one], msg_id, at, body)
    if one.key.ljust(64, b"\0") == other.key.ljust(64, b"\0"):
        return
    with raises(SignatureError):
        webhook.verify([other], headers, body, at, 300)


PIECES = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="v1a,= +/AZ09._-\t\x00é", max_size=200),
    IDS,
    TIMES.map(str),
    st.binary(min_size=32, max_size=32).map(lambda mac: webhook.sign([SECRET], "a", 1, mac)),
)


@given(
    st.dictionaries(st.one_of(st.sampled_from([*NAMES, "Webhook-Id"]), st.text(max_size=20)), PIECES, max_size=6),
    st.binary(max_size=100),
    st.floats(),
    st.floats(),
)
@example(dict.fromkeys(NAMES, "9" * 12), b"", 0.0, math.inf)
def test_junk_raises_signature_error_only(headers: dict[str, str], body: bytes, now: float, tolerance_s: float) -> None:
    """Whatever a stranger sends is refused as a bad signature; nothing else is ever raised."""
    with raises(SignatureError):
        webhook.verify([SECRET], headers, body, now, tolerance_s)


@given(st.one_of(st.text(max_size=120), st.text(alphabet="whsec_AZaz09+/= \n", max_size=120).map("whsec_".__add__)))
def test_junk_secrets(text: str) -> None:
    """A secret's text is either refused, or is exactly what we would write for the same bytes."""
    with contextlib.suppress(SignatureError):
        assert webhook.new_secret(webhook.parse_secret(text).key) == text
