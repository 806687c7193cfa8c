"""What must be known of an X.509 certificate that is pinned: its fingerprint, and when it ends.

Rules kept here: pure, and without a library, so that a node that only talks over TLS needs none. The end is read only from
a certificate whose fingerprint was right before: bytes that somebody vouched for.

Left to others: making certificates (store.certificates), whether one may be believed (net.tls).
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

__all__ = ["fingerprint", "not_after"]

_SEQUENCE, _UTC_TIME, _TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


def fingerprint(der: bytes) -> str:
    """``sha256:`` and 64 hex digits: how node.yml names the certificate with these bytes."""
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def not_after(der: bytes) -> float:
    """When the certificate ends, in Unix seconds. Raises ValueError for bytes that are none."""
    _, certificate, _ = _item(der)
    _, signed, _ = _item(certificate)
    tag, _, after = _item(signed)
    # The version may be left out, the serial number, the algorithm and the issuer may not.
    for _ in range(3 if tag == _VERSION else 2):
        _, _, after = _item(after)
    tag, validity, _ = _item(after)
    if tag != _SEQUENCE:
        raise ValueError("not a certificate")
    _, _, rest = _item(validity)
    tag, ends, _ = _item(rest)
    text = ends.decode("ascii")
    if tag == _UTC_TIME:
        # RFC 5280: two digits mean 1950 to 2049.
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _TIME:
        raise ValueError("not a certificate")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _item(data: bytes) -> tuple[int, bytes, bytes]:
    """The tag and content of the first DER item, and what follows it."""
    if len(data) < 2:
        raise ValueError("not a certificate")
    tag, size, start = data[0], data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    if len(data) < start + size:
        raise ValueError("not a certificate")
    return tag, data[start : start + size], data[start + size :]
