"""Standard Webhooks 1.0.0, HMAC (``v1``) and Ed25519 (``v1a``): signing and strict verification.

Rules kept here: only one spelling of every field is accepted, so that no two messages share a MAC and nothing is
guessed; every accepted secret is compared with every signature of its own kind, in constant time and without an early exit,
so that a public key is never taken for a shared secret; only :class:`~outlast.errors.SignatureError` leaves this module, and
no text of it holds a secret or what a stranger sent.

Left to others: remembering ids (replay) for at least twice the tolerance, which keys are accepted (core.keys), and
everything about the body. The three headers are all that is signed besides it: whatever else matters belongs into the body.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outlast.core import ed25519
from outlast.core.keys import Secret, decode_base64, new_secret, parse_secret
from outlast.errors import SignatureError

__all__ = [
    "HEADER_ID",
    "HEADER_SIGNATURE",
    "HEADER_TIMESTAMP",
    "MAX_ID_LENGTH",
    "MAX_SIGNATURES",
    "Secret",
    "Signed",
    "hmac_sha256",
    "new_secret",
    "parse_secret",
    "sign",
    "verify",
]

HEADER_ID = "webhook-id"
HEADER_TIMESTAMP = "webhook-timestamp"
HEADER_SIGNATURE = "webhook-signature"
MAX_ID_LENGTH = 64
MAX_SIGNATURES = 8

_LENGTHS = {"v1": hashlib.sha256().digest_size, "v1a": ed25519.SIGNATURE_BYTES}
_HEADERS = (HEADER_ID, HEADER_TIMESTAMP, HEADER_SIGNATURE)
_MAX_SIGNATURE_HEADER = 1024
# No dot: "a" + "1.2" and "a.1" + "2" would be the same signed content.
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID_LENGTH}}}")
_TIMESTAMP = re.compile(r"[1-9][0-9]{0,11}")


@dataclass(frozen=True, slots=True)
class Signed:
    """What a verified message's headers say: its id (also its nonce) and when it was signed, in whole Unix seconds.

    ``key`` is the id of the key that proved it.
    """

    id: str
    timestamp: int
    key: str


def hmac_sha256(key: bytes, content: bytes) -> bytes:
    """The 32-byte HMAC-SHA256 (RFC 2104) of ``content``."""
    return hmac.digest(key, content, hashlib.sha256)


def sign(secrets: Sequence[Secret], msg_id: str, timestamp: int, body: bytes) -> str:
    """Return the ``webhook-signature`` header: one signature per secret, in the order given.

    ``timestamp`` is in whole Unix seconds. Raises SignatureError when there is no secret, when there are more than
    MAX_SIGNATURES, when one is only a public half, or when :func:`verify` would refuse the id or the timestamp.
    """
    if not 0 < len(secrets) <= MAX_SIGNATURES:
        raise SignatureError(f"a message is signed with 1 to {MAX_SIGNATURES} secrets, not {len(secrets)}")
    content = _content(msg_id, str(timestamp), body)
    return " ".join(_signature(secret, content) for secret in secrets)


def _signature(secret: Secret, content: bytes) -> str:
    if secret.kind == "hmac":
        return "v1," + base64.b64encode(hmac_sha256(secret.key, content)).decode("ascii")
    if not secret.key:
        raise SignatureError("a public half signs nothing")
    return "v1a," + base64.b64encode(ed25519.sign(secret.key, content)).decode("ascii")


def verify(
    secrets: Sequence[Secret], headers: Mapping[str, str], body: bytes, now: float, tolerance_s: float
) -> Signed:
    """Check that ``body`` was signed by a holder of one of ``secrets``, at most ``tolerance_s`` seconds from ``now``.

    ``headers`` has lower-case names; others than the three are not looked at. ``now`` is in Unix seconds. The signature
    is judged before the time, so that what a log says about time was really said by a peer. Raises SignatureError.
    """
    msg_id, timestamp, signature = _three(headers)
    content = _content(msg_id, timestamp, body)
    macs, proofs = _signatures(signature)
    matched: Secret | None = None
    for secret in secrets:
        if secret.kind == "hmac":
            expected = hmac_sha256(secret.key, content)
            for mac in macs:
                matched = secret if hmac.compare_digest(expected, mac) else matched
        else:
            for proof in proofs:
                matched = secret if ed25519.verify(secret.public, content, proof) else matched
    if matched is None:
        raise SignatureError("no signature matches")
    signed = Signed(msg_id, int(timestamp), matched.id)
    # Asked this way round, a clock that is not a number refuses too.
    if not abs(now - signed.timestamp) <= tolerance_s:
        raise SignatureError(
            f"out of time: signed {signed.timestamp - now:+.0f} s from our clock, limit {tolerance_s:g} s"
        )
    return signed


def _three(headers: Mapping[str, str]) -> tuple[str, str, str]:
    for name in headers:
        if name not in _HEADERS and name.lower() in _HEADERS:
            raise SignatureError(f"header {name.lower()} is not spelled in lower case")
    values = []
    for name in _HEADERS:
        value = headers.get(name)
        if not value:
            raise SignatureError(f"header {name} is missing")
        values.append(value)
    return values[0], values[1], values[2]


def _content(msg_id: str, timestamp: str, body: bytes) -> bytes:
    if _ID.fullmatch(msg_id) is None:
        raise SignatureError(f"{HEADER_ID} is not 1 to {MAX_ID_LENGTH} of A-Z a-z 0-9 _ -")
    if _TIMESTAMP.fullmatch(timestamp) is None:
        raise SignatureError(f"{HEADER_TIMESTAMP} is not a plain decimal number of seconds")
    return f"{msg_id}.{timestamp}.".encode("ascii") + body


def _signatures(header: str) -> tuple[list[bytes], list[bytes]]:
    """The ``v1`` and the ``v1a`` signatures of a header.

    Other versions are left out; one malformed signature of these two refuses the whole.
    """
    if len(header) > _MAX_SIGNATURE_HEADER or not header.isascii():
        raise SignatureError(f"{HEADER_SIGNATURE} is not at most {_MAX_SIGNATURE_HEADER} ASCII characters")
    entries = header.split(" ")
    if len(entries) > MAX_SIGNATURES:
        raise SignatureError(f"{HEADER_SIGNATURE} has more than {MAX_SIGNATURES} signatures")
    found: dict[str, list[bytes]] = {"v1": [], "v1a": []}
    for entry in entries:
        version, comma, text = entry.partition(",")
        if not comma:
            raise SignatureError(f"{HEADER_SIGNATURE} has an entry that is not version,signature")
        if version in _LENGTHS:
            data = decode_base64(text, HEADER_SIGNATURE)
            if len(data) != _LENGTHS[version]:
                raise SignatureError(
                    f"{HEADER_SIGNATURE} has a {version} signature that is not {_LENGTHS[version]} bytes"
                )
            found[version].append(data)
    if not any(found.values()):
        raise SignatureError(f"{HEADER_SIGNATURE} has no signature of a version that is known here")
    return found["v1"], found["v1a"]
