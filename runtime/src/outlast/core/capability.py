"""Capability tokens: what a sub-agent may ask of its node, for how long, in a text that its holder can only make weaker.

Macaroons (Birgisson et al., NDSS 2014): a token is a list of caveats and the last of a chain of HMAC-SHA256, each keyed by the
one before, the first by the node's root key::

    outlast1.id=subd1zkffdmvrmx.issued=1.allow=message:note,write:artifacts.until=1795000000.<64 hex digits>

Rules kept here: whoever holds a token can append a caveat without the root key (``narrow``), and can take none away; what is
allowed is the intersection of all ``allow``, and ends with the earliest ``until``; whose it is and which of its runs
(``issued``, for revocation: a run that is over has none) is said once, first, by the node. A text with anything else in it is
refused.

Left to others: the root key (work.gate), which run is the current one, and what an action stands for (work.gate, work.sandbox).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from outlast.errors import BadInput

__all__ = ["ACTIONS", "AGENT_ID", "Grant", "check_actions", "mint", "narrow", "permits", "read", "verify"]

ACTIONS: dict[str, str] = {
    "message:handoff": "hand work to a peer, and see how it ended",
    "message:note": "let a peer know something",
    "read:facts": "ask for facts and shared state",
    "read:status": "see how the node is",
    "read:workspace": "read the workspace",
    "use:network": "reach the network, where subagents.network allows it",
    "write:artifacts": "leave an artifact in the workspace",
    "write:facts": "add facts and shared state",
}
"""Everything that can be allowed, and what it is, for people."""

AGENT_ID = "^sub[0-9a-hjkmnp-tv-z]{12}\\Z"
_HEAD = "outlast1"
_MOST_CHARS, _MOST_NARROWED = 4096, 32
_ALLOW, _UNTIL = r"allow=[a-z:,]*", r"until=[1-9][0-9]{0,10}"
_TOKEN = re.compile(
    rf"{_HEAD}\.(?P<caveats>id=(?P<id>sub[0-9a-hjkmnp-tv-z]{{12}})\.issued=(?P<issued>[1-9][0-9]{{0,8}})"
    rf"\.{_ALLOW}\.{_UNTIL}(?:\.(?:{_ALLOW}|{_UNTIL})){{0,{_MOST_NARROWED}}})\.(?P<signature>[0-9a-f]{{64}})"
)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token says: for run number ``issued`` of the sub-agent ``id``, before ``until`` (seconds since 1970)."""

    id: str
    issued: int
    actions: frozenset[str]
    until: int


def mint(root: bytes, agent: str, issued: int, actions: Collection[str], until: int) -> str:
    """A new token of the node whose key is ``root``."""
    caveats = [f"id={agent}", f"issued={issued}", f"allow={_listed(actions)}", f"until={until}"]
    return _written(caveats, _chained(hmac.digest(root, _HEAD.encode(), "sha256"), caveats))


def narrow(token: str, *, actions: Collection[str] | None = None, until: int | None = None) -> str:
    """The same token for fewer ``actions``, and no longer than ``until`` (seconds since 1970). No key is needed.

    Raises BadInput for what is no token, and for what it does not allow itself.
    """
    caveats, signature, grant = _split(token)
    if actions is not None:
        if lacking := sorted(set(actions) - grant.actions):
            raise BadInput(
                "--allow", f"{lacking[0]} is not yours to pass on", f"some of: {_listed(grant.actions) or '-'}"
            )
        caveats.append(added := f"allow={_listed(actions)}")
        signature = _chained(signature, [added])
    if until is not None:
        caveats.append(added := f"until={until}")
        signature = _chained(signature, [added])
    narrowed = _written(caveats, signature)
    _split(narrowed)
    return narrowed


def read(token: str) -> Grant:
    """What a token says, believed or not: for its holder. Raises BadInput for what is no token."""
    return _split(token)[2]


def verify(root: bytes, token: str) -> Grant:
    """What a token of the node whose key is ``root`` says. Raises BadInput for any other text."""
    caveats, signature, grant = _split(token)
    expected = _chained(hmac.digest(root, _HEAD.encode(), "sha256"), caveats)
    if not hmac.compare_digest(expected, signature):
        raise BadInput("token", "it is not one that this node gave out", "use the one that the sub-agent was given")
    return grant


def permits(grant: Grant, action: str, now: float, issued: int | None) -> str:
    """Why ``action`` is refused ``now``; empty where it is allowed. ``issued``: the sub-agent's current run, if it has one."""
    if issued != grant.issued:
        return f"its run of {grant.id} is over"
    if now >= grant.until:
        return "its time is over"
    if action and action not in grant.actions:
        return f"it does not allow {action}"
    return ""


def check_actions(actions: Iterable[str]) -> frozenset[str]:
    """The actions, as they are. Raises BadInput for one that is not known."""
    for action in (found := frozenset(actions)):
        if action not in ACTIONS:
            raise BadInput("--allow", f"{action!r} is not known", f"some of: {', '.join(ACTIONS)}")
    return found


def _split(token: str) -> tuple[list[str], bytes, Grant]:
    match = _TOKEN.fullmatch(token) if len(token) <= _MOST_CHARS else None
    if match is None:
        raise BadInput("token", "it is not a token", "use the one that the sub-agent was given")
    caveats = match["caveats"].split(".")
    allowed = [frozenset(filter(None, one[6:].split(","))) for one in caveats if one.startswith("allow=")]
    until = min(int(one[6:]) for one in caveats if one.startswith("until="))
    actions = frozenset.intersection(*allowed)
    return caveats, bytes.fromhex(match["signature"]), Grant(match["id"], int(match["issued"]), actions, until)


def _chained(signature: bytes, caveats: Iterable[str]) -> bytes:
    for caveat in caveats:
        signature = hmac.digest(signature, caveat.encode(), "sha256")
    return signature


def _written(caveats: Iterable[str], signature: bytes) -> str:
    return ".".join((_HEAD, *caveats, signature.hex()))


def _listed(actions: Collection[str]) -> str:
    return ",".join(sorted(actions))
