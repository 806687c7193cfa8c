"""A fleet of rings that are the runtime's own, and a play that carries out the plan of a rotation on it, or is cut off."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "collections"))

from ansible_collections.outlast.agents.plugins.plugin_utils import rotation, rotation_words  # noqa: E402

from outlast.core import keys  # noqa: E402
from outlast.core.ringtext import parse_ring, ring_text  # noqa: E402

NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
EVERYONE = ("axiom", "coz", "witness")
PHASES = ("stop", "revoke", "prepare", "accept", "use", "retire", "accept", "audit", "alarm")

__all__ = ["EVERYONE", "NOW", "PHASES", "Cut", "Fleet", "Play", "left", "signing"]


class Cut(Exception):
    """The run ends here."""


@dataclass
class Fleet:
    """Nodes that hold rings; `revoked_now` are ids that a run has called leaked."""

    names: tuple[str, ...] = EVERYONE
    own: dict[str, keys.Ring] = field(default_factory=dict)
    copies: dict[str, dict[str, keys.Ring]] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    emergencies: set[str] = field(default_factory=set)
    clock: float = 1_790_000_000.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.names:
            self.own[name] = keys.use(keys.prepare((), self.fresh(), self.clock, ""))
        self.copies = {name: {other: self.own[other] for other in self.names if other != name} for name in self.names}

    def fresh(self) -> keys.Secret:
        self.seed += 1
        self.clock += 10.0
        return keys.Secret(random.Random(self.seed).randbytes(32))

    def look(self, name: str, own: bool = False) -> dict[str, Any]:
        """What `rotate` says of a node."""
        if name in self.away:
            return {"away": {"field": "ansible_host", "wrong": "cannot be reached", "mend": "switch it on"}}
        rings = {name: self.own[name], **self.copies[name]}
        told = [
            {"agent": agent, "id": key.id, "state": key.state, "kind": "hmac", "rotation": key.rotation or "-"}
            | {"made": datetime.fromtimestamp(key.made, UTC).isoformat() if key.made else "-"}
            for agent, ring in rings.items()
            for key in ring
        ]
        return {"keys": told, "own": ring_text(self.own[name]) if own else ""}

    def carry_out(self, name: str, order: rotation.Order) -> None:
        """What the runtime does with an order."""
        if order.words[0] == "emergency":
            self.emergencies.add(name)
        if order.words[0] != "keys":
            return
        verb, *more = order.words[1:]
        if verb == "prepare":
            self.own[name] = keys.prepare(self.own[name], self.fresh(), self.clock, more[1])
        elif verb in {"use", "retire"}:
            self.own[name] = getattr(keys, verb)(self.own[name])
        elif verb == "accept":
            self.copies[name][more[0]] = keys.merge(self.copies[name][more[0]], parse_ring(order.reads, 0.0))
        else:
            assert verb == "revoke"
            ids = set(more[2::2])
            if more[0] == name:
                self.own[name] = keys.revoke(self.own[name], ids)
            else:
                self.copies[name][more[0]] = keys.revoke(self.copies[name][more[0]], ids)

    def honest(self) -> list[tuple[str, str]]:
        """Who signs with a key that a peer does not accept."""
        return [
            (sender, peer)
            for sender in self.names
            for peer in self.names
            if peer != sender
            for key in self.own[sender]
            if key.state == "active" and key.id not in {one.id for one in keys.accepted(self.copies[peer][sender])}
        ]

    def settled(self) -> bool:
        """Every node has one key, and its peers accept that one and no other."""
        return all(
            [key.id for key in keys.accepted(self.copies[peer][name])]
            == [key.id for key in keys.accepted(self.own[name])]
            and keys.rotation_state(self.own[name]) == "settled"
            and keys.signs(self.own[name])
            for name in self.names
            for peer in self.names
            if peer != name
        )


@dataclass
class Play:
    """One run of the playbook on a fleet, which may be cut off after a number of orders; nodes of a phase go in any order."""

    fleet: Fleet
    leaked: tuple[str, ...] = ()
    limit: tuple[str, ...] = EVERYONE
    orders_left: int = 1000
    order: random.Random = field(default_factory=lambda: random.Random(1))
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    after_each: Any = None
    stamp: str = "20261121-030000"

    def run(self) -> rotation.Run:
        """All phases; returns what is known at the end. Raises Cut."""
        self.told = {name: self.fleet.look(name) for name in self.limit}
        about: dict[str, Any] = {
            "members": self.fleet.names,
            "talks": {name: tuple(one for one in self.fleet.names if one != name) for name in self.fleet.names},
            "asked": self.limit,
        }
        first = rotation.gathered(self.told, **about)
        resumed = rotation.resumable(first)
        leaked = tuple(n for n in self.fleet.names if n in self.leaked or n in rotation.suspects(first, resumed))
        label = rotation.new_label(self.stamp, leaked, resumed)
        about |= {"leaked": leaked, "label": label, "resumed": label == resumed}
        self.plan = rotation_words.plan(rotation.gathered(self.told, **about), NOW)
        for phase in PHASES:
            before = rotation.gathered(self.told, **about)
            for name in self.order.sample(self.limit, len(self.limit)):
                self.phase(phase, name, before)
        return rotation.gathered(self.told, **about)

    def phase(self, phase: str, name: str, before: rotation.Run) -> None:
        if name in self.fleet.away:
            self.told[name] = {**self.told[name], **({} if self.told[name].get("away") else self.fleet.look(name))}
            return
        given_orders = rotation.orders(phase, name, before)
        for order in given_orders:
            if not self.orders_left:
                raise Cut
            self.orders_left -= 1
            self.fleet.carry_out(name, order)
            if self.after_each:
                self.after_each()
        own = phase in {"prepare", "retire"}
        found = self.fleet.look(name, own)
        self.told[name] = {**self.told[name], "keys": found["keys"], **({"own": found["own"]} if own else {})}


def left(run: rotation.Run) -> list[rotation_words.Left]:
    """What the end of a run calls unfinished."""
    return rotation_words.left(run, rotation_words.command(run.leaked, run.since))


def signing(fleet: Fleet) -> dict[str, str]:
    """The id that each node signs with."""
    return {name: keys.signing(fleet.own[name]).id for name in fleet.names}
