"""Keys, and the ring of them that an agent has: which one signs, which are believed, which never again.

Rules kept here:

* A ring is newest first. A key is prepared (accepted, and newer than the active one), used (active), accepted as the one
  before, and retired: it never goes back. Retired and revoked keys have no secret and verify nothing.
* A ring never forgets what was revoked, and what is older than a retired key is retired: so it may forget old retired ones.
* Whoever merges rings of one agent, in whatever order, however old some are, has the same keys accepted in the end; none
  that was retired or revoked comes back, and none that its owner may still sign with goes.
* A secret is never shown, not even in an error.

Left to others: files (store.keyring), signing and verifying (core.webhook), the order in which nodes rotate (the play).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from outlast.errors import SignatureError

__all__ = [
    "KEY_ID",
    "LABEL",
    "Key",
    "KeyState",
    "Kind",
    "Ring",
    "RotationState",
    "Secret",
    "accepted",
    "decode_base64",
    "merge",
    "new_secret",
    "parse_secret",
    "pending",
    "prepare",
    "retire",
    "revoke",
    "rotation_state",
    "secrets_of",
    "shared",
    "signing",
    "signs",
    "use",
]

Kind = Literal["hmac", "ed25519"]
KeyState = Literal["active", "accepted", "retired", "revoked"]
RotationState = Literal["settled", "prepared", "used"]

KEY_ID = r"^[0-9a-f]{10}\Z"
LABEL = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z"

_HMAC, _PRIVATE, _PUBLIC = "whsec_", "whsk_", "whpk_"
_MIN_KEY, _MAX_KEY = 24, 64
_HALF = 32
# The points of small order, by their y (RFC 8032, 5.1): what is signed for one of them proves nothing.
_PRIME, _Y = 2**255 - 19, 2**255 - 1
_EIGHTH = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_WEAK = {0, 1, _PRIME - 1, _EIGHTH, _PRIME - _EIGHTH}
_LIVE: dict[str, int] = {"active": 0, "accepted": 0, "retired": 1, "revoked": 2}
_RETIRED_KEPT = 64


@dataclass(frozen=True, slots=True)
class Secret:
    """What one key signs or verifies with. Its repr never shows it. Raises SignatureError on a length that is none.

    HMAC: ``key`` is the shared secret, 24 to 64 bytes. Ed25519: ``public`` has 32 bytes, and ``key`` is the secret half, or
    empty where only the public one is known.
    """

    key: bytes = field(repr=False)
    public: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if self.public:
            if len(self.public) != _HALF or len(self.key) not in {0, _HALF}:
                raise SignatureError(f"each half of an Ed25519 key has {_HALF} bytes")
            if (int.from_bytes(self.public, "little") & _Y) % _PRIME in _WEAK:
                raise SignatureError("an Ed25519 key that anybody can sign for")
        elif not _MIN_KEY <= len(self.key) <= _MAX_KEY:
            raise SignatureError(f"a secret has {_MIN_KEY} to {_MAX_KEY} bytes, not {len(self.key)}")

    @property
    def kind(self) -> Kind:
        """How it signs."""
        return "ed25519" if self.public else "hmac"

    @property
    def id(self) -> str:
        """What all nodes call it: 10 hex digits that tell nothing of it."""
        return hashlib.sha256(b"outlast key id\0" + (self.public or self.key)).hexdigest()[:10]

    @property
    def text(self) -> str:
        """As a key file has it. For files and pipes alone."""
        if not self.public:
            return _HMAC + base64.b64encode(self.key).decode("ascii")
        data = self.key + self.public
        return (_PRIVATE if self.key else _PUBLIC) + base64.b64encode(data).decode("ascii")


def parse_secret(text: str) -> Secret:
    """Read ``whsec_``, ``whsk_`` (secret half, then public half) or ``whpk_``, each with canonical base64 and nothing else.

    Raises SignatureError.
    """
    for prefix in (_HMAC, _PRIVATE, _PUBLIC):
        if not text.startswith(prefix):
            continue
        data = decode_base64(text[len(prefix) :], "secret")
        if prefix == _HMAC:
            return Secret(data)
        if len(data) != (_HALF if prefix == _PUBLIC else 2 * _HALF):
            raise SignatureError(f"each half of an Ed25519 key has {_HALF} bytes")
        return Secret(data[:-_HALF], data[-_HALF:])
    raise SignatureError(f"a secret starts with {_HMAC}, {_PRIVATE} or {_PUBLIC}")


def new_secret(random_bytes: bytes) -> str:
    """Write 24 to 64 bytes from a cryptographic source as ``whsec_...``. Raises SignatureError on any other length."""
    return Secret(random_bytes).text


def decode_base64(text: str, what: str) -> bytes:
    """Decode the one canonical spelling: padded, no white space, no stray last bits. Raises SignatureError."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        # From None: the original error may quote the text, and a secret is among what is read here.
        raise SignatureError(f"{what} is not base64") from None
    if base64.b64encode(data).decode("ascii") != text:
        raise SignatureError(f"{what} is not canonical base64")
    return data


class Key(msgspec.Struct, frozen=True):
    """One key of an agent. ``made``: Unix seconds, 0 where that is not known; ``rotation``: the run that made it, or empty.

    ``secret`` is there as long as the key is active or accepted.
    """

    id: str
    state: KeyState
    made: float
    rotation: str
    secret: Secret | None

    @property
    def live(self) -> bool:
        """Does it verify?"""
        return _LIVE[self.state] == 0


Ring = tuple[Key, ...]


def accepted(ring: Ring) -> Ring:
    """The keys that verify, newest first."""
    return tuple(key for key in ring if key.live)


def signing(ring: Ring) -> Key:
    """The key that signs. Raises SignatureError where there is none."""
    for key in ring:
        if key.state == "active":
            return key
    raise SignatureError("there is no active key")


def signs(ring: Ring) -> bool:
    """Is there a key that signs? Of the ring of a node whose keys were revoked none does until the next one is used."""
    return any(key.state == "active" for key in ring)


def pending(ring: Ring) -> Key | None:
    """The key that is accepted and newer than the active one, if there is one."""
    for key in ring:
        if key.state == "active":
            return None
        if key.state == "accepted":
            return key
    return None


def rotation_state(ring: Ring) -> RotationState:
    """How far a rotation has come: ``prepared`` (a newer key waits), ``used`` (the one before is still accepted)."""
    if pending(ring):
        return "prepared"
    return "used" if len(accepted(ring)) > 1 else "settled"


def prepare(ring: Ring, new: Secret, now: float, rotation: str) -> Ring:
    """Add ``new`` as the next key; where one waits already that one is kept, so that an interrupted rotation goes on.

    ``now``: Unix seconds; ``rotation``: the label of the run. Raises SignatureError for a label that is none.
    """
    if pending(ring):
        return ring
    if rotation and re.match(LABEL, rotation) is None:
        raise SignatureError("a rotation's label is 1 to 64 of A-Z a-z 0-9 . _ : -")
    # A clock that was set back must not make the new key the older one.
    made = round(max([now, *(key.made + 1.0 for key in ring)]), 3)
    return (Key(new.id, "accepted", made, rotation, new), *ring)


def use(ring: Ring) -> Ring:
    """The newest key that is accepted signs from now on; the one before it is accepted."""
    newest = accepted(ring)[:1]
    return tuple(
        msgspec.structs.replace(key, state="active" if key in newest else "accepted") if key.live else key
        for key in ring
    )


def retire(ring: Ring) -> Ring:
    """What is older than the active key never verifies again. A key that waits to be used is kept."""
    active = signing(ring)
    behind = ring[ring.index(active) + 1 :]
    return _pruned(tuple(_ended(key, "retired") if key in behind else key for key in ring))


def revoke(ring: Ring, ids: Collection[str] | None = None) -> Ring:
    """These keys never verify again, nor does any that a ring still to come calls so; without ``ids``, all that do now."""
    gone = {key.id for key in accepted(ring)} if ids is None else set(ids)
    known = {key.id for key in ring}
    never_seen = (Key(key_id, "revoked", 0.0, "", None) for key_id in sorted(gone - known))
    return (*(_ended(key, "revoked") if key.id in gone else key for key in ring), *never_seen)


def merge(ring: Ring, incoming: Ring) -> Ring:
    """What a copy ``ring`` of an agent's keys becomes when it is told the agent's own, ``incoming``, maybe an old one.

    What either calls retired or revoked is so; what ``incoming`` does not name although it names a newer one is retired.
    """
    ours, theirs = {key.id: key for key in ring}, {key.id: key for key in incoming}
    both = {key_id: _joined(ours.get(key_id), theirs.get(key_id)) for key_id in {**ours, **theirs}}
    told_up_to = max((both[key_id].made for key_id in theirs), default=0.0)
    retired_up_to = max((key.made for key in both.values() if key.state == "retired"), default=0.0)
    for key in both.values():
        lost = key.id not in theirs and key.made < told_up_to
        if key.live and (lost or key.made < retired_up_to):
            both[key.id] = _ended(key, "retired")
    ordered = sorted(both.values(), key=lambda key: (key.made, key.id), reverse=True)
    active = next((key for key in ordered if key.state == "active"), None)
    return _pruned(
        tuple(
            msgspec.structs.replace(key, state="accepted") if key.state == "active" and key is not active else key
            for key in ordered
        )
    )


def secrets_of(ring: Ring) -> list[Secret]:
    """What these keys sign and verify with; those that have ended have nothing."""
    return [key.secret for key in ring if key.secret]


def shared(ring: Ring) -> Ring:
    """The ring as peers hold it: of Ed25519 the public half alone."""
    return tuple(
        msgspec.structs.replace(key, secret=Secret(b"", key.secret.public)) if key.secret and key.secret.public else key
        for key in ring
    )


def _ended(key: Key, state: KeyState) -> Key:
    """Without its secret, and never less ended than before."""
    state = max(key.state, state, key=_LIVE.__getitem__)
    return msgspec.structs.replace(key, state=state, secret=None if _LIVE[state] else key.secret)


def _joined(ours: Key | None, theirs: Key | None) -> Key:
    if ours is None or theirs is None:
        one = ours or theirs
        assert one is not None
        return one
    # Files of before the rings have no times of their own: the owner's is the earlier one.
    made = min(ours.made or theirs.made, theirs.made or ours.made)
    state = max(ours.state, theirs.state, key=_LIVE.__getitem__)
    if _LIVE[state] == 0 and "active" in {ours.state, theirs.state}:
        state = "active"
    secret = None if _LIVE[state] else ours.secret
    return Key(ours.id, state, made, theirs.rotation or ours.rotation, secret)


def _pruned(ring: Ring) -> Ring:
    """Without retired keys that nobody asks for any more: what is older than a retired one is known to be retired."""
    forgotten = {key.id for key in [key for key in ring if key.state == "retired"][_RETIRED_KEPT:]}
    return tuple(key for key in ring if key.id not in forgotten)
