"""The ring of keys: what each step of a rotation makes of it, and what a copy of it becomes; and its text."""

from __future__ import annotations

import base64

import msgspec
import pytest

from outlast.core import ed25519, keys
from outlast.core.keys import Key, Ring, Secret
from outlast.core.ringtext import outside_text, parse_outside, parse_ring, ring_text
from outlast.errors import SignatureError

NOON = 1_795_262_400.0


def secret(number: int) -> Secret:
    return Secret(bytes([number]) * 32)


def ring(*, at: float = NOON) -> Ring:
    """What a node begins with."""
    return keys.use(keys.prepare((), secret(1), at, ""))


def states(one: Ring) -> list[str]:
    return [key.state for key in one]


def test_a_rotation_is_prepared_used_and_retired() -> None:
    """Each step changes what it says and nothing else, and may be taken twice."""
    first = ring()
    assert keys.rotation_state(first) == "settled"
    second = keys.prepare(first, secret(2), NOON + 60, "r1")
    assert states(second) == ["accepted", "active"] and keys.rotation_state(second) == "prepared"
    assert keys.signing(second).secret == secret(1)
    assert keys.prepare(second, secret(3), NOON + 90, "r2") == second, "an unfinished rotation keeps its key"
    third = keys.use(second)
    assert states(third) == ["active", "accepted"] and keys.rotation_state(third) == "used"
    assert keys.signing(third).secret == secret(2) and keys.use(third) == third
    fourth = keys.retire(third)
    assert states(fourth) == ["active", "retired"] and keys.rotation_state(fourth) == "settled"
    assert keys.retire(fourth) == fourth
    assert fourth[1].secret is None and keys.accepted(fourth) == fourth[:1]


def test_retiring_keeps_the_key_that_waits() -> None:
    """A key that is newer than the one that signs survives: peers hold it already."""
    waiting = keys.prepare(ring(), secret(2), NOON + 60, "r1")
    assert keys.retire(waiting) == waiting


def test_a_clock_that_was_set_back_makes_no_key_the_older_one() -> None:
    """The order of keys is that of their making, whatever the clock says."""
    made = keys.prepare(ring(), secret(2), NOON - 10 * 86_400, "r1")
    assert made[0].made > made[1].made


def test_what_is_revoked_stays_so() -> None:
    """Neither an old copy, nor the owner's, nor one that comes only later brings a revoked key back."""
    own = keys.prepare(ring(), secret(2), NOON + 60, "r1")
    copy = keys.revoke(own, {own[1].id})
    assert states(copy) == ["accepted", "revoked"] and copy[1].secret is None
    assert states(keys.merge(copy, own)) == ["accepted", "revoked"]
    early = keys.revoke((), {own[0].id})
    assert [key.id for key in keys.accepted(keys.merge(early, own))] == [own[1].id]
    assert not keys.accepted(keys.revoke(own)) and not keys.signs(keys.revoke(own))


def test_a_node_whose_keys_are_all_revoked_goes_on_with_a_new_one() -> None:
    """It signs nothing until it has prepared and used a key."""
    gone = keys.revoke(ring())
    with pytest.raises(SignatureError):
        keys.signing(gone)
    again = keys.prepare(gone, secret(2), NOON + 60, "leak")
    assert keys.rotation_state(again) == "prepared"
    assert keys.signing(keys.use(again)).secret == secret(2)


def test_a_copy_follows_its_owner() -> None:
    """A key that the owner retired, or does not know of any more, is accepted by nobody; an old copy undoes nothing."""
    first = ring()
    second = keys.use(keys.prepare(first, secret(2), NOON + 60, "r1"))
    copy = keys.merge(first, second)
    assert states(copy) == ["active", "accepted"]
    assert keys.merge(copy, first) == copy, "a ring that was read before the new key was made"
    assert states(keys.merge(copy, keys.retire(second))) == ["active", "retired"]
    lost = keys.use(keys.prepare((), secret(9), NOON + 600, ""))
    assert states(keys.merge(copy, lost)) == ["active", "retired", "retired"], "its file was lost, and made anew"


def test_files_from_before_the_rings_agree_with_those_after() -> None:
    """A copy whose time is only that of its file does not outrank a newer key of the owner, whose clock is behind."""
    own, copy = parse_ring(f"{secret(1).text}\n", NOON), parse_ring(f"{secret(1).text}\n", NOON + 7200)
    rotated = keys.use(keys.prepare(own, secret(2), NOON + 60, "r1"))
    assert states(keys.merge(copy, rotated)) == ["active", "accepted"]


def test_a_ring_does_not_grow_without_end() -> None:
    """Years of rotations fit into a file; what was forgotten as retired is still known to be."""
    one = first = ring()
    for number in range(200):
        one = keys.retire(keys.use(keys.prepare(one, Secret(number.to_bytes(32, "big")), NOON + number * 60, "r")))
    assert len(ring_text(one)) < 8192
    assert keys.accepted(keys.merge(one, first)) == keys.accepted(one)


def test_ids_are_the_same_for_all_and_tell_nothing() -> None:
    """Both halves of an Ed25519 key have one id, which is not part of any key."""
    pair = Secret(bytes(32), ed25519.public(bytes(32)))
    public = Secret(b"", pair.public)
    assert pair.id == public.id and len(pair.id) == 10 and pair.id != secret(1).id
    assert pair.kind == public.kind == "ed25519"
    assert keys.parse_secret(pair.text) == pair and keys.parse_secret(public.text) == public
    assert pair.text.startswith("whsk_") and len(base64.b64decode(pair.text[5:])) == 64


@pytest.mark.parametrize("sign", [0, 0x80])
@pytest.mark.parametrize("start", ["00", "01", "ec", "ed", "ee", "26e8958f", "c7176a70"])
def test_a_key_that_anybody_can_sign_for_is_none(start: str, sign: int) -> None:
    """The points of small order, however they are written: a signature that needs no secret would be right for them."""
    rest = {"00": "00" * 31, "01": "00" * 31, "26e8958f": "c2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a70": "3d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"}  # fmt: skip
    key = bytearray.fromhex(start + rest.get(start, "ff" * 30 + "7f"))
    key[-1] |= sign
    with pytest.raises(SignatureError, match="anybody"):
        Secret(b"", bytes(key))


def test_what_peers_are_given_of_an_ed25519_key_is_the_public_half() -> None:
    """No secret half leaves its node; HMAC keys are shared as they are."""
    pair = Secret(bytes(32), ed25519.public(bytes(32)))
    both = keys.use(keys.prepare(ring(), pair, NOON + 60, "r1"))
    given = ring_text(keys.shared(both))
    assert pair.text not in given and "whpk_" in given and secret(1).text in given
    assert [key.id for key in parse_ring(given)] == [key.id for key in both]


def test_a_ring_reads_back_as_it_was_written() -> None:
    """Text and ring say the same: a line a key, newest first."""
    one = keys.revoke(keys.use(keys.prepare(ring(), secret(2), NOON + 60.25, "2026-11-21T12:00:00Z")), {"0123456789"})
    assert parse_ring(ring_text(one)) == one
    assert ring_text(one).splitlines()[1].split()[2:] == ["accepted", "2026-11-21T12:00:00.000Z", "-"]
    assert ring_text(one).splitlines()[2] == "- 0123456789 revoked - -"


def test_old_files_are_read() -> None:
    """Bare secrets: the first signs, all verify."""
    old = parse_ring(f"{secret(1).text}\n{secret(2).text}\n", NOON)
    assert states(old) == ["active", "accepted"] and old[0].made == NOON and keys.rotation_state(old) == "used"
    assert parse_ring(ring_text(old)) == old
    with pytest.raises(SignatureError):
        parse_ring(f"{secret(1).text}\n")


LINE = ring_text(ring()).strip()
WRONG = [
    "hello",
    "whsec_AAAA",
    f"{LINE} more",
    LINE.replace(" active ", " asleep "),
    LINE.replace(" active ", " revoked "),
    f"- {LINE.split()[1]} active - -",
    LINE.replace(LINE.split()[1], "0123456789"),
    LINE.replace("2026-11-21T12:00:00.000Z", "2026-11-21T12:00:00"),
    LINE.replace("2026-11-21T12:00:00.000Z", "noon"),
    *(
        LINE.replace("2026-11-21T12:00:00.000Z", edge)
        for edge in ("0001-01-01T00:00:00+23:59", "1969-12-31T00:00:00Z", "9999-12-31T23:59:59-23:59")
    ),
    LINE[:-1] + "a/b",
    f"{LINE}\n{LINE}",
    f"{LINE}\n{ring_text(keys.use(keys.prepare((), secret(2), NOON, '')))}",
    f"{LINE}\n\n",
    f"{secret(2).text}\n{LINE}",
    LINE.replace("whsec_", "whsk_"),
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_ring_is_refused_and_not_shown(text: str) -> None:
    """One line that holds nothing of what was read, nor does its cause."""
    with pytest.raises(SignatureError) as caught:
        parse_ring(text, NOON)
    assert secret(1).text[6:] not in str(caught.value) and "\n" not in str(caught.value)
    assert "AAAA" not in str(caught.value)


def test_an_outside_service_has_its_types_and_rate_in_its_file() -> None:
    """What it may send stands above its ring; anything else there is refused."""
    text = f"# allow: note, state.changed; rate: 10\n{ring_text(ring())}"
    one = parse_outside(text)
    assert (one.allow, one.rate, one.ring) == (("note", "state.changed"), 10, ring())
    assert outside_text(one) == text
    for wrong in (
        "",
        LINE,
        "# allow: ; rate: 1\n",
        "# allow: note; rate: 0\n",
        "# allow: note,,; rate: 1\n",
        "# allow: note\n",
    ):
        with pytest.raises(SignatureError):
            parse_outside(wrong)


def test_no_repr_shows_a_secret() -> None:
    """Neither that of a key, of a ring, nor of what holds one."""
    one = ring()[0]
    for shown in (repr(one), str(one), repr(ring()), repr(parse_outside(f"# allow: note; rate: 1\n{LINE}"))):
        assert "\\x01" not in shown and secret(1).text[6:20] not in shown and one.id in shown
    assert isinstance(one, Key) and msgspec.structs.fields(Key)
