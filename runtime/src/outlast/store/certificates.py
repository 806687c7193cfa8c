"""The node's certificates for TLS (``etc/keys/tls``).

Rules kept here: a private key never leaves its node and is never shown; a certificate and its key are one file, so that they
change in one step; the next certificate lies beside the one that is shown until every peer may know its pin.

Left to others: carrying pins to the peers (Ansible, ``PEER.pin`` beside them), TLS itself (net.tls).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from outlast.core.certificate import fingerprint, not_after
from outlast.errors import BadInput, KeyFileError
from outlast.settings import Tls
from outlast.store import durable

__all__ = ["Certificate", "held", "make", "read", "use"]

NEXT = "next.pem"
_LIFE = timedelta(days=730)
# A certificate is made valid a little before, for peers whose clocks are behind.
_BEFORE = timedelta(days=1)
_SOON_S = 90 * 86_400.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """What peers pin, and when it ends, in Unix seconds."""

    pin: str
    ends: float


def read(path: Path) -> Certificate:
    """The first certificate in a PEM file. Raises KeyFileError."""
    import ssl

    mend = "move it away, then: outlast keys tls"
    try:
        # A key may stand before it.
        _, found, rest = path.read_text(encoding="ascii").partition("-----BEGIN CERTIFICATE-----")
        der = ssl.PEM_cert_to_DER_cert(
            found + rest.partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----"
        )
        return Certificate(fingerprint(der), not_after(der))
    except OSError as error:
        raise KeyFileError(str(path), f"it cannot be read ({error.strerror})", "make it: outlast keys tls") from error
    except ValueError:
        raise KeyFileError(str(path), "it holds no certificate", mend) from None


def held(folder: Path, tls: Tls) -> list[Certificate]:
    """The certificate that is shown, and the next one where there is one. Raises KeyFileError."""
    paths = (folder / tls.certificate, folder / NEXT)
    return [read(path) for path in paths if path.exists()]


def make(folder: Path, tls: Tls, node: str, now: float, *, renew: bool = False) -> bool:
    """Make a certificate where there is none, or the next one: where the one that is shown ends soon, or ``renew`` asks.

    True if one was made. Raises DurabilityError; BadInput for a certificate that somebody else made.
    """
    shown = folder / tls.certificate
    if not shown.exists():
        _own(tls)
        _write(shown, node, now)
        return True
    if not renew and read(shown).ends - now > _SOON_S:
        return False
    _own(tls)
    if (folder / NEXT).exists():
        return False
    _write(folder / NEXT, node, now)
    return True


def use(folder: Path, tls: Tls, pin: str) -> bool:
    """Show the next certificate, which must be the one with this pin, from the next start on; the former one is erased.

    True if that changed anything. Raises BadInput, KeyFileError, DurabilityError.
    """
    if read(folder / tls.certificate).pin == pin:
        return False
    if not (folder / NEXT).exists() or read(folder / NEXT).pin != pin:
        raise BadInput("--use", "the next certificate is another one, or there is none", "see: outlast keys tls")
    _own(tls)
    durable.move(folder / NEXT, folder / tls.certificate)
    return True


def _own(tls: Tls) -> None:
    if tls.certificate != tls.key:
        mend = f"put a new one there yourself, or leave both fields out: then {Tls().certificate} is made and renewed"
        raise BadInput("listen.tls", "a certificate and key in files of your own are not made here", mend)


def _write(path: Path, node: str, now: float) -> None:
    # Here, because most nodes never make one: the library is seven megabytes of memory.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    begins = datetime.fromtimestamp(now, UTC).replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins - _BEFORE)
        .not_valid_after(begins + _LIFE)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    durable.make_dir(path.parent)
    durable.replace(path, secret + certificate.public_bytes(serialization.Encoding.PEM))
