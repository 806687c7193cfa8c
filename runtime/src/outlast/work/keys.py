"""What is done with the keys of one node: the orders of a rotation, and what a person must be told of.

Rules kept here: the running node and the command in its place change keys by the same code, and the running one goes by the
change at once; no answer but that of ``keys/add`` has a secret, and no event; whoever is told that a new key is used is
told so once nothing that an older one signed is on its way.

Left to others: files (store.keyring), what a ring becomes (core.keys), who does what when (the play).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from outlast.alerts import Urgency
from outlast.clock import Clock, iso
from outlast.core import keys
from outlast.core.findings import Finding
from outlast.core.keys import KEY_ID, LABEL, Key
from outlast.core.ringtext import RING_LIMIT
from outlast.errors import BadInput, KeyFileError
from outlast.home import Home
from outlast.quantity import duration
from outlast.settings import Config, Name
from outlast.store.events import EventLog
from outlast.store.keyring import Keyring

if TYPE_CHECKING:
    from outlast.control import Order

__all__ = ["OUTSIDE_TYPES", "Keys"]

OUTSIDE_TYPES = ("note",)
"""What an outside service may be allowed to send."""

_ROTATE = "ansible-playbook rotate-keys.yml"
_UNFINISHED_S = 3600.0


class _Prepare(msgspec.Struct, forbid_unknown_fields=True):
    rotation: Annotated[str, msgspec.Meta(pattern=LABEL)] | None = None


class _Revoke(msgspec.Struct, forbid_unknown_fields=True):
    agent: Name
    ids: list[Annotated[str, msgspec.Meta(pattern=KEY_ID)]] | None = None


class _Accept(msgspec.Struct, forbid_unknown_fields=True):
    agent: Name
    ring: Annotated[str, msgspec.Meta(max_length=RING_LIMIT)]


class _Add(msgspec.Struct, forbid_unknown_fields=True):
    name: Name
    allow: Annotated[list[str], msgspec.Meta(min_length=1)]
    rate: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None


class _Remove(msgspec.Struct, forbid_unknown_fields=True):
    name: Name


async def _nothing_flies() -> bool:
    return True


class Keys:
    """The keys of one node; read when they are first needed, where no runtime has read them."""

    def __init__(
        self, home: Home, config: Config, events: EventLog, clock: Clock, keyring: Keyring | None = None
    ) -> None:
        # Waits until nothing is on its way that an older key signed; says whether that came true in time.
        self.drained: Callable[[], Awaitable[bool]] = _nothing_flies
        self._home = home
        self._config = config
        self._events = events
        self._clock = clock
        self._keyring = keyring
        self._rotate_after = duration(config.keys.rotate_after)

    def orders(self) -> dict[str, Order]:
        """What the command and the play ask for."""
        return {
            "keys/list": lambda _: self.listed(),
            "keys/prepare": self._prepare,
            "keys/use": self._use,
            "keys/retire": self._retire,
            "keys/revoke": self._revoke,
            "keys/accept": self._accept,
            "keys/add": self._add,
            "keys/remove": self._remove,
        }

    @property
    def ring(self) -> Keyring:
        """All that is held now. Raises KeyFileError."""
        if self._keyring is None:
            self._keyring = Keyring(self._home.keys, self._config.node, self._config.peers)
        return self._keyring

    def listed(self) -> dict[str, Any]:
        """Every key, without its secret; ``overdue``: the own one is older than it may become. Raises KeyFileError."""
        now = self._clock.time()
        told = [
            {
                "agent": agent,
                "id": key.id,
                "state": key.state,
                "kind": key.secret.kind if key.secret else "",
                "made": iso(key.made) if key.made else "-",
                "age_s": round(now - key.made) if key.made else None,
                "own": agent == self.ring.node,
                "rotation": key.rotation or "-",
                "outside": ", ".join(self.ring.outside[agent].allow) if agent in self.ring.outside else "",
            }
            for agent, ring in self.ring
            for key in ring
        ]
        return {
            "node": self.ring.node,
            "keys": told,
            "rotations": {agent: keys.rotation_state(ring) for agent, ring in self.ring},
            "overdue": self._age() > self._rotate_after,
        }

    def trouble(self) -> tuple[Urgency, str] | None:
        """What a person must be told of the key that signs: how soon, and a line that stays the same. Raises KeyFileError."""
        node = self.ring.node
        if not keys.signs(self.ring.own):
            return "now", f"no key of {node} signs: what it had was revoked; mend: {_ROTATE}"
        if self._age() > self._rotate_after:
            return "soon", f"the key of {node} is older than {self._config.keys.rotate_after}; mend: {_ROTATE}"
        return None

    def _age(self) -> float:
        """Of the key that signs, in seconds; 0 where none does."""
        return self._clock.time() - keys.signing(self.ring.own).made if keys.signs(self.ring.own) else 0.0

    def check(self) -> Iterator[Finding]:
        """What the doctor is to say of the keys."""
        try:
            ring = self.ring
            changed = ring.unlike()
            if trouble := self.trouble():
                found, _, mend = trouble[1].partition("; mend: ")
                yield Finding("keys", found, mend, ok=False)
        except KeyFileError as error:
            yield Finding(error.field, error.wrong, error.mend, ok=False)
            return
        for agent in changed:
            yield Finding(f"keys of {agent}", "the runtime holds others than its file", "restart the runtime", ok=False)
        state, newest = keys.rotation_state(ring.own), ring.own[0]
        if state != "settled" and self._clock.time() - newest.made > _UNFINISHED_S:
            label = f"rotation {newest.rotation}" if newest.rotation else "a rotation"
            yield Finding("keys", f"{label} is not finished ({state})", _ROTATE, ok=False)
        for peer in sorted(set(self._config.peers) - set(ring.peers)):
            yield Finding(f"keys of {peer}", "they are not here yet", "ansible-playbook site.yml", ok=False)

    def _prepare(self, body: bytes) -> object:
        order = msgspec.json.decode(body or b"{}", type=_Prepare)
        before = self.ring.own
        key = self.ring.prepare(self._config.keys.kind, self._clock.time(), order.rotation or "")
        return self._told("prepared", self.ring.node, before != self.ring.own, key, [])

    async def _use(self, _: bytes) -> object:
        before = self.ring.own
        key = self.ring.use()
        answer = self._told("used", self.ring.node, before != self.ring.own, key, [])
        return {**answer, "drained": await self.drained()}

    def _retire(self, _: bytes) -> object:
        before = self.ring.own
        ended = self.ring.retire()
        return self._told("retired", self.ring.node, before != self.ring.own, keys.signing(self.ring.own), ended)

    def _revoke(self, body: bytes) -> object:
        order = msgspec.json.decode(body, type=_Revoke)
        before = dict(self.ring).get(order.agent, ())
        ended = self.ring.revoke(order.agent, order.ids)
        ring = dict(self.ring).get(order.agent, ())
        unknown = sorted(set(order.ids or ()) - {key.id for key in before})
        answer = self._told("revoked", order.agent, before != ring, None, ended)
        return {**answer, "unknown": unknown, "signs": order.agent != self.ring.node or keys.signs(ring)}

    def _accept(self, body: bytes) -> object:
        order = msgspec.json.decode(body, type=_Accept)
        before = keys.accepted(self.ring.peers.get(order.agent, ()))
        changed = self.ring.accept(order.agent, order.ring)
        ring = self.ring.peers[order.agent]
        held = [key.id for key in keys.accepted(ring)]
        answer = self._told("accepted", order.agent, changed, None, [key.id for key in before if key.id not in held])
        return {**answer, "accepted": held}

    def _add(self, body: bytes) -> object:
        order = msgspec.json.decode(body, type=_Add)
        if unknown := sorted(set(order.allow) - set(OUTSIDE_TYPES)):
            raise BadInput("--allow", f"{unknown[0]!r} is not a message type", f"one of: {', '.join(OUTSIDE_TYPES)}")
        rate = order.rate or self._config.messages.rate
        secret = self.ring.add(order.name, tuple(sorted(set(order.allow))), rate, self._clock.time())
        key = keys.signing(self.ring.outside[order.name].ring)
        answer = self._told("added", order.name, True, key, [])
        return {**answer, "secret": secret.text, "path": f"/inbox/{order.name}"}

    def _remove(self, body: bytes) -> object:
        order = msgspec.json.decode(body, type=_Remove)
        ended = self.ring.remove(order.name)
        return self._told("removed", order.name, bool(ended), None, ended)

    def _told(self, what: str, agent: str, changed: bool, key: Key | None, ended: list[str]) -> dict[str, Any]:
        """The answer, and the event where something changed. ``ended``: ids that are not accepted any longer."""
        key_id, rotation = (key.id, key.rotation) if key else ("", "")
        if changed:
            self._events.emit(f"keys.{what}", agent=agent, id=key_id, rotation=rotation, ended=ended)
        return {
            "node": self.ring.node,
            "changed": changed,
            "agent": agent,
            "id": key_id,
            "rotation": rotation,
            "ended": ended,
        }
