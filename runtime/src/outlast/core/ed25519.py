"""Ed25519 (RFC 8032): sign and verify with raw 32-byte keys.

Rules kept here: nothing is imported before it is needed, because most nodes sign with HMAC only; without the library one
clear SignatureError, never an ImportError; malformed keys and signatures never verify, and raise nothing else.

Left to others: prefixes and base64 (core.webhook), which keys are accepted (core.keys), randomness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outlast.errors import SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["KEY_BYTES", "SIGNATURE_BYTES", "public", "sign", "verify"]

KEY_BYTES = 32
SIGNATURE_BYTES = 64

_MISSING = "Ed25519 needs a library that is not installed here: set `outlast_keys: {kind: ed25519}` and run site.yml"


def public(secret: bytes) -> bytes:
    """The 32-byte public half of a 32-byte secret. Raises SignatureError for a key of another length."""
    return _private(secret).public_key().public_bytes_raw()


def sign(secret: bytes, content: bytes) -> bytes:
    """The 64-byte signature of ``content`` by a 32-byte secret. Raises SignatureError for a key of another length."""
    return _private(secret).sign(content)


def verify(key: bytes, content: bytes, signature: bytes) -> bool:
    """Did the holder of the secret half of this 32-byte public ``key`` sign ``content``?

    Raises SignatureError only where the library is missing.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise SignatureError(_MISSING) from None
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True


def _private(secret: bytes) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise SignatureError(_MISSING) from None
    if len(secret) != KEY_BYTES:
        raise SignatureError(f"an Ed25519 secret has {KEY_BYTES} bytes, not {len(secret)}")
    return Ed25519PrivateKey.from_private_bytes(secret)
