"""How the peers are, by their own word: asked with a signed Status, and only while somebody looks.

Rules kept here: nobody is asked unless ``look`` is called; a peer is asked at most every ``_LEAST_S``, less and less often (up
to ``_MOST_S``) while what it says stays the same, and never twice at once; what was told last stays, with its age, for as long
as the peer does not answer. A peer of an older version refuses the question, and each such refusal takes from the rate of our
work there: it is asked again only after ``_OLDER_S``.

Left to others: the request itself (net.courier), what is told (core.overview), showing it (net.dashboard).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import msgspec

from outlast.clock import Clock, iso
from outlast.core.overview import Overview
from outlast.errors import PeerError
from outlast.messages import Status, sealed
from outlast.net.courier import Answer

__all__ = ["Carries", "Neighbours", "Told"]

_LEAST_S, _MOST_S, _OLDER_S = 5.0, 30.0, 600.0

State = Literal["asking", "told", "silent", "older"]


class Carries(Protocol):
    """What brings a message to a peer, and its answer back (net.courier)."""

    async def deliver(self, peer: str, msg_id: str, body: bytes) -> Answer:
        """Send one message once. Raises PeerError."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of one peer. ``at``: when it last told, seconds since 1970, 0 for never; ``why`` it does not tell."""

    state: State = "asking"
    why: str = ""
    at: float = 0.0
    overview: Overview | None = None

    def plain(self) -> dict[str, Any]:
        """As it is put into JSON."""
        return {
            "state": self.state,
            "why": self.why,
            "at": iso(self.at) if self.at else "",
            "overview": msgspec.to_builtins(self.overview),
        }


class Neighbours:
    """The peers of one node, as they describe themselves."""

    def __init__(self, node: str, peers: Iterable[str], courier: Carries, clock: Clock) -> None:
        self.told: dict[str, Told] = {peer: Told() for peer in peers}
        self._node = node
        self._courier = courier
        self._clock = clock
        self._pause = dict.fromkeys(self.told, _LEAST_S)
        # Monotonic seconds.
        self._next = dict.fromkeys(self.told, 0.0)
        self._asking: dict[str, asyncio.Task[None]] = {}

    def look(self) -> None:
        """Somebody looks: ask whoever is due. Costs nothing where nobody is."""
        now = self._clock.monotonic()
        for peer, due in self._next.items():
            if now >= due and peer not in self._asking:
                self._asking[peer] = asyncio.create_task(self._ask(peer))

    async def settle(self) -> None:
        """Wait for the answers that are on their way."""
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def close(self) -> None:
        """Ask nobody any more."""
        for task in self._asking.values():
            task.cancel()

    async def _ask(self, peer: str) -> None:
        try:
            before = self.told[peer]
            found = self.told[peer] = await self._answer(peer, before)
            same = found.state == "told" and found.overview == before.overview
            self._pause[peer] = min(_MOST_S, 2 * self._pause[peer]) if same else _LEAST_S
            pause = _OLDER_S if found.state == "older" else self._pause[peer]
            self._next[peer] = self._clock.monotonic() + pause
        finally:
            del self._asking[peer]

    async def _answer(self, peer: str, before: Told) -> Told:
        body = sealed(self._node, peer, secrets.token_hex(16), "status", Status())(0)
        try:
            reply = (await self._courier.deliver(peer, f"status_{secrets.token_hex(10)}", body)).reply
        except PeerError as error:
            return replace(before, state="silent", why=str(error))
        if reply.accepted and reply.overview is not None:
            return Told("told", "", self._clock.time(), reply.overview)
        if reply.status == 422:
            return Told("older", "its version cannot tell; upgrade it: ansible-playbook playbooks/upgrade.yml")
        return replace(before, state="silent", why=reply.reason or f"it answered {reply.status}")
