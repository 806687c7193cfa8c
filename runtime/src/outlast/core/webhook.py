"""Standard Webhooks 1.0.0, symmetric scheme (``v1``): signing and strict verification.

Rules kept here: only one spelling of every field is accepted, so that no two messages share a MAC and nothing is
guessed; every accepted secret is compared with every signature, in constant time and without an early exit; only
:class:`~outlast.errors.SignatureError` leaves this module, and no text of it holds a secret or what a stranger sent.

Left to others: remembering ids (replay) for at least twice the tolerance, reading key files, and everything about the
body. The three headers are all that is signed besides the body: whatever else matters belongs into the body.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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

_HEADERS = (HEADER_ID, HEADER_TIMESTAMP, HEADER_SIGNATURE)
_PREFIX = "whsec_"
_MIN_KEY, _MAX_KEY = 24, 64
_MAX_SIGNATURE_HEADER = 1024
# No dot: "a" + "1.2" and "a.1" + "2" would be the same signed content.
_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID_LENGTH}}}")
_TIMESTAMP = re.compile(r"[1-9][0-9]{0,11}")


@dataclass(frozen=True, slots=True)
class Secret:
    """One shared key, 24 to 64 bytes. Its repr never shows it. Raises SignatureError on any other length."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not _MIN_KEY <= len(self.key) <= _MAX_KEY:
            raise SignatureError(f"a secret has {_MIN_KEY} to {_MAX_KEY} bytes, not {len(self.key)}")


@dataclass(frozen=True, slots=True)
class Signed:
    """What a verified message's headers say: its id (also its nonce) and when it was signed, in whole Unix seconds."""

    id: str
    timestamp: int


def hmac_sha256(key: bytes, content: bytes) -> bytes:
    """The 32-byte HMAC-SHA256 (RFC 2104) of ``content``."""
    return hmac.digest(key, content, hashlib.sha256)


def parse_secret(text: str) -> Secret:
    """Read ``whsec_`` + canonical base64 of 24 to 64 bytes; nothing else, no white space. Raises SignatureError."""
    if not text.startswith(_PREFIX):
        raise SignatureError(f"a secret starts with {_PREFIX}")
    return Secret(_base64(text[len(_PREFIX) :], "secret"))


def new_secret(random_bytes: bytes) -> str:
    """Write 24 to 64 bytes from a cryptographic source as ``whsec_...``. Raises SignatureError on any other length."""
    return _PREFIX + base64.b64encode(Secret(random_bytes).key).decode("ascii")


def sign(secrets: Sequence[Secret], msg_id: str, timestamp: int, body: bytes) -> str:
    """Return the ``webhook-signature`` header: one ``v1`` signature per secret, in the order given.

    ``timestamp`` is in whole Unix seconds. Raises SignatureError when there is no secret, when there are more than
    MAX_SIGNATURES, or when :func:`verify` would refuse the id or the timestamp.
    """
    if not 0 < len(secrets) <= MAX_SIGNATURES:
        raise SignatureError(f"a message is signed with 1 to {MAX_SIGNATURES} secrets, not {len(secrets)}")
    content = _content(msg_id, str(timestamp), body)
    return " ".join("v1," + base64.b64encode(hmac_sha256(secret.key, content)).decode("ascii") for secret in secrets)


def verify(
    secrets: Sequence[Secret], headers: Mapping[str, str], body: bytes, now: float, tolerance_s: float
) -> Signed:
    """Check that ``body`` was signed by a holder of one of ``secrets``, at most ``tolerance_s`` seconds from ``now``.

    ``headers`` has lower-case names; others than the three are not looked at. ``now`` is in Unix seconds. The signature
    is judged before the time, so that what a log says about time was really said by a peer. Raises SignatureError.
    """
    msg_id, timestamp, signature = _three(headers)
    content = _content(msg_id, timestamp, body)
    offered = _signatures(signature)
    matched = False
    for secret in secrets:
        expected = hmac_sha256(secret.key, content)
        for candidate in offered:
            matched |= hmac.compare_digest(expected, candidate)
    if not matched:
        raise SignatureError("no signature matches")
    signed = Signed(msg_id, int(timestamp))
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


def _signatures(header: str) -> list[bytes]:
    """The ``v1`` signatures of a header. Other versions are left out; one malformed ``v1`` refuses the whole."""
    if len(header) > _MAX_SIGNATURE_HEADER or not header.isascii():
        raise SignatureError(f"{HEADER_SIGNATURE} is not at most {_MAX_SIGNATURE_HEADER} ASCII characters")
    entries = header.split(" ")
    if len(entries) > MAX_SIGNATURES:
        raise SignatureError(f"{HEADER_SIGNATURE} has more than {MAX_SIGNATURES} signatures")
    found = []
    for entry in entries:
        version, comma, text = entry.partition(",")
        if not comma:
            raise SignatureError(f"{HEADER_SIGNATURE} has an entry that is not version,signature")
        if version == "v1":
            mac = _base64(text, HEADER_SIGNATURE)
            if len(mac) != hashlib.sha256().digest_size:
                raise SignatureError(f"{HEADER_SIGNATURE} has a v1 signature that is not 32 bytes")
            found.append(mac)
    if not found:
        raise SignatureError(f"{HEADER_SIGNATURE} has no v1 signature")
    return found


def _base64(text: str, what: str) -> bytes:
    """Decode the one canonical spelling: padded, no white space, no stray last bits."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        # From None: the original error may quote the text, and a secret is among what is read here.
        raise SignatureError(f"{what} is not base64") from None
    if base64.b64encode(data).decode("ascii") != text:
        raise SignatureError(f"{what} is not canonical base64")
    return data
