"""Signing and verification: known vectors, other people's clients, and everything that must be refused."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import math
import secrets as random_source
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix.webhooks

from outlast.core import ed25519, webhook
from outlast.errors import SignatureError

TEXT = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRET = webhook.parse_secret(TEXT)
OTHER = webhook.Secret(b"o" * 32)
PRIVATE = webhook.Secret(b"p" * 32, ed25519.public(b"p" * 32))
PUBLIC = webhook.Secret(b"", PRIVATE.public)
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIME = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

ED_SIGNATURE = webhook.sign([PRIVATE], ID, TIME, BODY)

Client = Callable[[str], "standardwebhooks.Webhook | svix.webhooks.Webhook"]


def headers(**changes: str) -> dict[str, str]:
    """The known vector's headers, with changes (signature=, timestamp=, id=)."""
    found = {"webhook-id": ID, "webhook-timestamp": str(TIME), "webhook-signature": SIGNATURE}
    found.update({f"webhook-{name}": value for name, value in changes.items()})
    return found


def verify(given: dict[str, str], body: bytes = BODY, now: float = TIME, tolerance_s: float = 300) -> webhook.Signed:
    return webhook.verify([SECRET], given, body, now, tolerance_s)


def forge(msg_id: str, timestamp: str, body: bytes = BODY) -> dict[str, str]:
    """Headers whose MAC is right over fields that no honest signer would write."""
    content = b".".join([msg_id.encode(), timestamp.encode(), body])
    mac = hmac.new(SECRET.key, content, hashlib.sha256).digest()
    return headers(id=msg_id, timestamp=timestamp, signature="v1," + base64.b64encode(mac).decode())


# Known vectors


def test_published_vector_is_produced_and_accepted() -> None:
    """The convention's published example is signed and verified exactly."""
    assert webhook.sign([SECRET], ID, TIME, BODY) == SIGNATURE
    assert verify(headers()) == webhook.Signed(ID, TIME, SECRET.id)


@pytest.mark.parametrize(
    ("key", "data", "mac"),
    [
        (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
        (
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            b"\xaa" * 131,
            b"This is a test using a larger than block-size key and a larger than block-size data. "
            b"The key needs to be hashed before being used by the HMAC algorithm.",
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ],
)
def test_rfc_4231(key: bytes, data: bytes, mac: str) -> None:
    """The MAC is HMAC-SHA256 as RFC 4231's test cases 1 to 4, 6 and 7 define it."""
    assert webhook.hmac_sha256(key, data).hex() == mac


# Clients that we did not write


@pytest.fixture(params=[standardwebhooks.Webhook, svix.webhooks.Webhook], ids=["standardwebhooks", "svix"])
def client(request: pytest.FixtureRequest) -> Client:
    made: Client = request.param
    return made


def test_they_sign_we_verify(client: Client) -> None:
    """What another implementation signs now, we accept."""
    text = webhook.new_secret(random_source.token_bytes(32))
    now = datetime.now(UTC).replace(microsecond=0)
    given = headers(timestamp=str(int(now.timestamp())), signature=client(text).sign(ID, now, BODY.decode()))
    signed = webhook.verify([webhook.parse_secret(text)], given, BODY, now.timestamp(), 300)
    assert signed == webhook.Signed(ID, int(now.timestamp()), webhook.parse_secret(text).id)


def test_we_sign_they_verify(client: Client) -> None:
    """What we sign now, another implementation accepts, and refuses when it is changed."""
    text = webhook.new_secret(random_source.token_bytes(24))
    now = int(datetime.now(UTC).timestamp())
    given = headers(timestamp=str(now), signature=webhook.sign([webhook.parse_secret(text)], ID, now, BODY))
    client(text).verify(BODY, given)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        client(text).verify(BODY + b" ", given)


def test_they_verify_while_we_rotate(client: Client) -> None:
    """Signed with the new and the old key, a message passes at a peer that knows only one of them."""
    texts = [webhook.new_secret(random_source.token_bytes(32)) for _ in range(2)]
    now = int(datetime.now(UTC).timestamp())
    both = webhook.sign([webhook.parse_secret(text) for text in texts], ID, now, BODY)
    for text in texts:
        client(text).verify(BODY, headers(timestamp=str(now), signature=both))


# Rotation


def test_any_accepted_secret_may_match_any_signature() -> None:
    """During a rotation either side may be ahead."""
    both = headers(signature=webhook.sign([OTHER, SECRET], ID, TIME, BODY))
    for accepted in ([SECRET], [OTHER], [SECRET, OTHER], [webhook.Secret(b"x" * 24), SECRET]):
        assert webhook.verify(accepted, both, BODY, TIME, 300).id == ID
    with pytest.raises(SignatureError, match="no signature matches"):
        webhook.verify([webhook.Secret(b"x" * 24)], both, BODY, TIME, 300)


def test_every_secret_is_compared_with_every_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long verification takes does not tell which secret or signature matched: there is no early exit."""
    calls = []

    def compare(one: bytes, other: bytes) -> bool:
        calls.append((one, other))
        return one == other

    monkeypatch.setattr("outlast.core.webhook.hmac.compare_digest", compare)
    given = headers(signature=webhook.sign([SECRET, OTHER], ID, TIME, BODY))
    webhook.verify([SECRET, OTHER], given, BODY, TIME, 300)
    assert len(calls) == 4


def test_no_secret_accepts_nothing() -> None:
    """A peer without a key cannot be believed, nor can we sign without one."""
    with pytest.raises(SignatureError):
        webhook.verify([], headers(), BODY, TIME, 300)
    with pytest.raises(SignatureError):
        webhook.sign([], ID, TIME, BODY)


def test_other_versions_are_passed_over() -> None:
    """A signature of another version, or of the other kind, beside ours does no harm, and alone is no signature."""
    verify(headers(signature=f"v2,??? {SIGNATURE} v1A,x {ED_SIGNATURE}"))
    for alone in (SIGNATURE.replace("v1,", "V1,"), SIGNATURE.replace("v1,", "v2,"), "v2,x v3,y", ED_SIGNATURE):
        with pytest.raises(SignatureError):
            verify(headers(signature=alone))


def test_it_is_told_which_key_matched() -> None:
    """Of several accepted keys the one that signed is named, wherever it stands among keys and signatures."""
    for keys in ([SECRET, OTHER], [OTHER, SECRET], [PRIVATE, OTHER, SECRET]):
        found = webhook.verify(keys, headers(), BODY, TIME, 300)
        assert found.key == SECRET.id != OTHER.id


# Ed25519


def test_ed25519_is_verified_with_the_public_half() -> None:
    """What the secret half signs the public half verifies, also beside HMAC keys; another key, body or id does not."""
    assert webhook.sign([PRIVATE], ID, TIME, BODY) == ED_SIGNATURE
    for keys in ([PUBLIC], [SECRET, PUBLIC, OTHER], [PRIVATE]):
        assert webhook.verify(keys, headers(signature=ED_SIGNATURE), BODY, TIME, 300).key == PUBLIC.id
    another = ed25519.public(b"q" * 32)
    for keys, given, body in (
        ([webhook.Secret(b"", another)], headers(signature=ED_SIGNATURE), BODY),
        ([PUBLIC], headers(signature=ED_SIGNATURE), BODY + b" "),
        ([PUBLIC], headers(signature=ED_SIGNATURE, id="msg_other"), BODY),
    ):
        with pytest.raises(SignatureError, match="no signature matches"):
            webhook.verify(keys, given, body, TIME, 300)


def test_a_public_key_is_no_shared_secret() -> None:
    """Who takes a peer's public half, which is no secret, for an HMAC key signs nothing; nor does a downgraded version."""
    content = f"{ID}.{TIME}.".encode() + BODY
    forged = "v1," + base64.b64encode(hmac.digest(PUBLIC.public, content, "sha256")).decode()
    for signature in (forged, ED_SIGNATURE.replace("v1a,", "v1,"), SIGNATURE.replace("v1,", "v1a,")):
        with pytest.raises(SignatureError):
            webhook.verify([PUBLIC, SECRET], headers(signature=signature), BODY, TIME, 300)


def test_a_public_half_signs_nothing() -> None:
    """A node that holds only a peer's public half cannot speak for it."""
    with pytest.raises(SignatureError, match="signs nothing"):
        webhook.sign([PUBLIC], ID, TIME, BODY)


# What must be refused


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_missing_or_doubled_header(name: str) -> None:
    """Each of the three headers is there exactly once, under its one spelling."""
    without = headers()
    value = without.pop(name)
    for given in (without, without | {name: ""}, without | {name.title(): value}, headers() | {name.upper(): value}):
        with pytest.raises(SignatureError):
            verify(given)
    with pytest.raises(SignatureError):
        verify(headers() | {name: f"{value}, {value}"})


@pytest.mark.parametrize(
    "timestamp",
    [
        "12.9", "1e9", "1_614_265_330", " 1614265330", "1614265330 ", "+1614265330", "-1614265330", "01614265330",
        "0x60", "0", "", "1614265330\n", "\u0661\u0666\u0661\u0664", "\u00b9", "nan", "inf", "9" * 13, "9" * 5000,
        "1614265330.0", "1614265330,1614265330",
    ],
)  # fmt: skip
def test_timestamp_has_one_spelling(timestamp: str) -> None:
    """Only plain ASCII digits are a time, even when the MAC over another spelling is right."""
    with pytest.raises(SignatureError, match="webhook-timestamp"):
        verify(forge(ID, timestamp))


@pytest.mark.parametrize("msg_id", ["a.b", "", "a b", "a\n", "ä", "a/b", "x" * 65, ".", "a,b", "a\x00", "\u0430"])
def test_id_has_a_small_alphabet(msg_id: str) -> None:
    """An id is 1 to 64 of A-Z a-z 0-9 _ -, for us as for others."""
    with pytest.raises(SignatureError, match="webhook-id"):
        verify(forge(msg_id, str(TIME)))
    with pytest.raises(SignatureError, match="webhook-id"):
        webhook.sign([SECRET], msg_id, TIME, BODY)


def test_a_dot_cannot_move_between_fields() -> None:
    """Two messages that would share one MAC (`a` at `1.2…` and `a.1` at `2…`) are never both messages."""
    first = forge("a", str(TIME), b"1614265331.rest")
    assert verify(first, b"1614265331.rest").id == "a"
    moved = first | {"webhook-id": f"a.{TIME}", "webhook-timestamp": "1614265331"}
    with pytest.raises(SignatureError, match="webhook-id"):
        verify(moved, b"rest", now=1614265331)


RAW = SIGNATURE.removeprefix("v1,")


@pytest.mark.parametrize(
    "signature",
    [
        RAW, f"v1{RAW}", f"v1, {RAW}", f"v1,{RAW}=", f"v1,{RAW[:-1]}", f"v1,{RAW[:-2]}F=", f"v1,{RAW[:8]}\n{RAW[8:]}",
        f"v1,{RAW[:8]}!{RAW[8:]}", f"v1,{RAW[:8]}={RAW[8:]}", f"v1,{RAW.replace('+', '-').replace('/', '_')}", "v1,",
        "v1,AAAA", f"v1,{base64.b64encode(bytes(33)).decode()}", f"v1,{base64.b64encode(bytes(31)).decode()}",
        f" {SIGNATURE}", f"{SIGNATURE} ", f"{SIGNATURE}  {SIGNATURE}", f"{SIGNATURE}\t{SIGNATURE}", f"{SIGNATURE},",
        f"{SIGNATURE} v1,AAAA", f"{SIGNATURE} junk", "v1,ü", f"{SIGNATURE} v2,ü", " ".join([SIGNATURE] * 9), "v1," + "A" * 2000,
        f"{SIGNATURE} v2," + "A" * 2000, "\ud800", ",", " ",
    ],
)  # fmt: skip
def test_signature_has_one_spelling(signature: str) -> None:
    """A signature is canonical base64 of 32 bytes, at most eight of them; one malformed spoils the header."""
    with pytest.raises(SignatureError):
        verify(headers(signature=signature))


def test_eight_signatures_are_accepted() -> None:
    """The count's bound is inclusive, for signer and verifier."""
    many = [webhook.Secret(bytes([n]) * 24) for n in range(7)]
    given = headers(signature=webhook.sign([*many, SECRET], ID, TIME, BODY))
    assert verify(given).id == ID
    with pytest.raises(SignatureError):
        webhook.sign([*many, SECRET, OTHER], ID, TIME, BODY)


@pytest.mark.parametrize("off", [-300, 0, 300])
def test_fresh_enough(off: int) -> None:
    """The tolerance is inclusive in both directions."""
    assert verify(headers(), now=TIME + off).timestamp == TIME


@pytest.mark.parametrize("now", [TIME + 301, TIME - 301, 0, math.nan, math.inf, -math.inf])
def test_too_old_too_new_or_no_clock(now: float) -> None:
    """A message from another time is refused; a clock that is not a number refuses everything."""
    with pytest.raises(SignatureError, match="out of time"):
        verify(headers(), now=now)


def test_time_is_judged_after_the_signature() -> None:
    """A stranger cannot make us speak about clocks."""
    with pytest.raises(SignatureError, match="no signature matches"):
        verify(headers(), BODY + b"x", now=0)


@pytest.mark.parametrize("timestamp", [0, -1, 10**12])
def test_we_do_not_sign_what_we_would_refuse(timestamp: int) -> None:
    """A time that verification refuses is not signed."""
    with pytest.raises(SignatureError):
        webhook.sign([SECRET], ID, timestamp, BODY)


# Secrets


@pytest.mark.parametrize("length", [24, 32, 64])
def test_secrets_round_trip(length: int) -> None:
    """A new secret reads back as the bytes it was made of."""
    key = random_source.token_bytes(length)
    assert webhook.parse_secret(webhook.new_secret(key)).key == key


@pytest.mark.parametrize("length", [0, 1, 23, 65])
def test_secret_length(length: int) -> None:
    """Shorter or longer keys are refused, however they come."""
    with pytest.raises(SignatureError):
        webhook.new_secret(bytes(length))
    with pytest.raises(SignatureError):
        webhook.parse_secret("whsec_" + base64.b64encode(bytes(length)).decode())


GOOD = base64.b64encode(b"k" * 25).decode()


@pytest.mark.parametrize(
    "text",
    ["", "whsec_", GOOD, f"whsk_{GOOD}", f"WHSEC_{GOOD}", f" whsec_{GOOD}", f"whsec_{GOOD}\n", f"whsec_{GOOD[:-1]}",
     f"whsec_{GOOD[:-2]}", f"whsec_{GOOD}=", f"whsec_{GOOD[:5]} {GOOD[5:]}", f"whsec_{GOOD[:-3]}x==", "whsec_ü" + GOOD],
)  # fmt: skip
def test_secret_has_one_spelling(text: str) -> None:
    """A malformed secret is refused, and the error does not repeat it, nor does its cause."""
    with pytest.raises(SignatureError) as caught:
        webhook.parse_secret(text)
    assert GOOD[:8] not in str(caught.value)
    assert caught.value.__cause__ is None


def test_secret_is_never_shown() -> None:
    """Neither repr, str, nor formatting of a secret tells its bytes."""
    for shown in (repr(SECRET), str(SECRET), f"{SECRET}", repr([SECRET])):
        assert "Secret" in shown
        assert SECRET.key.hex() not in shown and repr(SECRET.key) not in shown and TEXT[6:] not in shown
    with pytest.raises(dataclasses.FrozenInstanceError):
        SECRET.key = b""  # type: ignore[misc]
