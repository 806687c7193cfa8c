"""Nodes that share state without a network: the shipped exchange and files, a courier that hands over in memory and loses.

Rules kept here: nothing waits; a clock that the test turns decides when something is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from outlast.core.crdt import Replica
from outlast.errors import PeerError
from outlast.home import Home
from outlast.messages import Reply, Share, decode
from outlast.net.courier import Answer, Courier
from outlast.net.exchange import Exchange
from outlast.settings import Agent, Breaker, Config, Listen, Peer
from outlast.settings import Shared as SharedConfig
from outlast.store.events import EventLog
from outlast.work.shared import Shared
from support.clock import FixedClock

__all__ = ["Net", "SharingNode"]

Fate = Callable[[], str]
"""What becomes of a message: ``taken``, ``lost``, ``unanswered``, or (429) ``refused``."""


class SharingNode:
    """One node as far as it shares state. ``sent`` counts messages and bytes, those of its answers too."""

    def __init__(self, net: Net, name: str) -> None:
        self.net, self.name = net, name
        self.home = Home(net.root / name)
        self.home.workspace.mkdir(parents=True, exist_ok=True)
        self.home.logs.mkdir(exist_ok=True)
        self.noted: list[tuple[str, str]] = []
        self.messages, self.bytes = 0, 0
        self.start()

    def start(self, **shared: object) -> None:
        """Begin anew from what is on the disk, as after a kill."""
        peers = {name: Peer(url="http://127.0.0.1:1") for name in self.net.names if name != self.name}
        config = Config(
            node=self.name,
            listen=Listen(host="127.0.0.1", port=1),
            agent=Agent(command=["/bin/true"]),
            peers=peers,
            breaker=Breaker(cooldown="1h"),
            shared=SharedConfig(rate=1_000_000, **shared),  # type: ignore[arg-type]
        )
        events = EventLog(self.home.logs, self.name, self.net.clock)
        self.shared = Shared(self.home, config, self.net.clock, lambda *note: self.noted.append(note), events)
        self.exchanges = {
            peer: Exchange(
                peer,
                config,
                self.shared,
                cast(Courier, self),
                events,
                self.net.clock,
                lambda low, high: (low + high) / 2,
            )
            for peer in peers
        }

    @property
    def replica(self) -> Replica:
        """What it holds."""
        return self.shared._replica()

    async def deliver(self, peer: str, msg_id: str, body: bytes) -> Answer:
        """What the courier does, in memory. Raises PeerError."""
        fate = self.net.fate()
        if fate == "lost":
            raise PeerError(f"{peer} cannot be reached")
        self.messages += 1
        self.bytes += len(body)
        receiver, envelope = self.net.nodes[peer], decode(body)
        if fate == "refused":
            return Answer(Reply(node=peer, status=429, now=0.0, retry_after=3), 0.0, 0.0)
        share = envelope.message
        assert isinstance(share, Share) and envelope.sender == self.name and envelope.to == peer
        holding = receiver.shared.take(share.holding, share.entries, whole=share.whole)
        receiver.exchanges[self.name].told(share.holding)
        answer = msgspec.json.encode(Reply(node=peer, status=202, now=0.0, holding=holding))
        self.bytes += len(answer)
        if fate == "unanswered":
            raise PeerError(f"{peer} did not answer")
        return Answer(msgspec.json.decode(answer, type=Reply), 0.0, 0.0)

    def speak(self, *peers: str) -> float | None:
        """Let it say to these peers (or all) what is to be said now; the longest that one of them is to wait for."""
        pauses = [asyncio.run(self.exchanges[peer].step()) for peer in peers or sorted(self.exchanges)]
        return max((pause for pause in pauses if pause is not None), default=None)

    def seen(self) -> tuple[dict[str, int], frozenset[object]]:
        """All that it holds, for comparing."""
        return dict(self.replica.have), frozenset(self.replica)


class Net:
    """Nodes that can all reach each other, but for what ``fate`` says."""

    def __init__(self, root: Path, *names: str) -> None:
        self.root, self.names = root, names
        self.clock = FixedClock(1_800_000_000.0)
        self.fate: Fate = lambda: "taken"
        self.nodes: dict[str, SharingNode] = {}
        for name in names:
            self.nodes[name] = SharingNode(self, name)

    def settle(self, limit: int = 50) -> int:
        """Let all speak until nobody has anything to say. Returns how many messages that took."""
        self.fate = lambda: "taken"
        before = sum(node.messages for node in self.nodes.values())
        for _ in range(limit):
            said = sum(node.messages for node in self.nodes.values())
            for node in self.nodes.values():
                for exchange in node.exchanges.values():
                    exchange.heard()
                node.speak()
            self.clock.now += 60.0
            if said == sum(node.messages for node in self.nodes.values()):
                return said - before
        raise AssertionError(f"they still speak after {limit} rounds")

    def agree(self) -> bool:
        """Do all hold the same?"""
        first, *rest = (node.seen() for node in self.nodes.values())
        return all(other == first for other in rest)
