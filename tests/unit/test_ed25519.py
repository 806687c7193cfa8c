"""Ed25519 as RFC 8032 has it, and what a node does without the library."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core import ed25519
from outlast.errors import SignatureError

# RFC 8032, section 7.1: secret, public, message, signature.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize("vector", VECTORS)
def test_vectors(vector: tuple[str, str, str, str]) -> None:
    """The vectors of RFC 8032."""
    secret, public, message, signature = map(bytes.fromhex, vector)
    assert ed25519.public(secret) == public
    assert ed25519.sign(secret, message) == signature
    assert ed25519.verify(public, message, signature)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(min_value=0), st.binary(max_size=80))
def test_one_bit(secret: bytes, message: bytes, place: int, junk: bytes) -> None:
    """A signature with one other bit does not verify, nor does junk, of any length; nothing is raised."""
    public, signature = ed25519.public(secret), bytearray(ed25519.sign(secret, message))
    signature[place // 8 % 64] ^= 1 << place % 8
    assert not ed25519.verify(public, message, bytes(signature))
    assert not ed25519.verify(public, message, junk)
    assert not ed25519.verify(junk, message, ed25519.sign(secret, message))


def test_order_of_the_group() -> None:
    """S + L is refused: there is one signature of a message by a key, not two."""
    secret, public, message, signature = map(bytes.fromhex, VECTORS[0])
    order = 2**252 + 27742317777372353535851937790883648493
    other = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    assert not ed25519.verify(public, message, other)


@pytest.mark.parametrize("secret", [b"", bytes(31), bytes(33), bytes(64)])
def test_length(secret: bytes) -> None:
    """A secret of another length is one clear error, which does not show it."""
    with pytest.raises(SignatureError, match="32 bytes"):
        ed25519.sign(secret, b"x")


def test_library_is_not_loaded_and_not_needed_before() -> None:
    """A node that does not use Ed25519 does not load the library; without it, there is one line and no ImportError."""
    program = (
        "import sys, outlast.serving; assert 'cryptography' not in sys.modules; sys.modules['cryptography'] = None\n"
        "from outlast.core import ed25519\n"
        "from outlast.errors import SignatureError\n"
        "for call in (lambda: ed25519.sign(bytes(32), b''), lambda: ed25519.verify(bytes(32), b'', bytes(64))):\n"
        "    try: call()\n"
        "    except SignatureError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.count("not installed") == 2, done.stderr
