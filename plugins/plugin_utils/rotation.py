"""A rotation of keys as a pure plan: from what all nodes said last, what each is to do next, and what is left at the end.

Keeps: no message is refused, because a node signs with a key only once everyone who verifies it holds it; a key that was
revoked anywhere is revoked everywhere and never handed out; what another run left unfinished is carried on under its label.
Nothing is remembered but in the nodes' own key rings, so a run may end at any moment. Leaves to others: asking the nodes
(rotate), words for people (rotation_words), what a ring is (the runtime).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "LEAK",
    "PHASES",
    "Key",
    "Order",
    "Ring",
    "Run",
    "Told",
    "accepted",
    "active",
    "findings",
    "gathered",
    "missing",
    "new_label",
    "orders",
    "pending",
    "resumable",
    "revoked",
    "starts",
    "suspects",
]

PHASES = ("stop", "revoke", "prepare", "accept", "use", "retire", "audit", "alarm")
LEAK = "-leak"
# What `outlast audit --since` takes.
WHEN = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?|\d+(\.\d+)?\s?[smhdw]( ago)?"


@dataclass(frozen=True)
class Key:
    """One line of a ring; `made` is an ISO moment, or `-` where it is not known."""

    id: str
    state: str
    kind: str = ""
    made: str = "-"
    rotation: str = "-"
    outside: str = ""

    @property
    def is_accepted(self) -> bool:
        """Whether what is signed with it is let in."""
        return self.state in {"active", "accepted"}


Ring = tuple[Key, ...]


@dataclass(frozen=True)
class Told:
    """What a node said last: `rings` by agent, newest key first; `text` is its own ring, with its secrets."""

    rings: Mapping[str, Ring] = field(default_factory=dict)
    text: str = field(default="", repr=False)
    away: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    audits: tuple[Mapping[str, Any], ...] = ()
    proof: Mapping[str, Any] = field(default_factory=dict)
    command: str = "outlast"


@dataclass(frozen=True)
class Run:
    """One run: who is in the inventory, whom each verifies (`talks`), what was asked for, what everyone said last."""

    members: tuple[str, ...]
    talks: Mapping[str, tuple[str, ...]]
    told: Mapping[str, Told]
    asked: tuple[str, ...]
    leaked: tuple[str, ...] = ()
    since: str = ""
    label: str = ""
    resumed: bool = False
    windows: Mapping[str, str] = field(default_factory=dict)

    def here(self) -> list[str]:
        """The nodes that have told their keys in this run."""
        return [name for name in self.members if name in self.told and self.told[name].rings]

    def own(self, name: str) -> Ring:
        """A node's own ring; empty where it has not told it."""
        return self.ring(name, name)

    def ring(self, holder: str, agent: str) -> Ring:
        """An agent's keys as a node holds them; empty where it holds none or has told nothing."""
        return self.told[holder].rings.get(agent, ()) if holder in self.told else ()

    def holders(self, agent: str) -> list[str]:
        """The nodes of the inventory that verify what an agent signs, whether they are here or not."""
        return [name for name in self.members if name != agent and agent in self.talks.get(name, ())]


@dataclass(frozen=True)
class Order:
    """One command for a node: what follows `outlast`, what it reads from standard input, and what is said once it is done."""

    words: tuple[str, ...]
    done: str = ""
    reads: str = field(default="", repr=False)


def gathered(answers: Mapping[str, Mapping[str, Any]], **about: Any) -> Run:
    """The run of these answers of `rotate`, by node."""
    return Run(told={name: _told(answer) for name, answer in answers.items()}, **about)


def _told(answer: Mapping[str, Any]) -> Told:
    rings: dict[str, list[Key]] = {}
    for one in answer.get("keys") or []:
        known = {name: str(one[name]) for name in ("id", "state", "kind", "made", "rotation", "outside") if name in one}
        rings.setdefault(str(one["agent"]), []).append(Key(**known))
    return Told(
        rings={agent: tuple(ring) for agent, ring in rings.items()},
        text=str(answer.get("own") or ""),
        away=answer.get("away") or {},
        errors=tuple(answer.get("errors") or ()),
        audits=tuple(answer.get("audits") or ()),
        proof=answer.get("proof") or {},
        command=str(answer.get("command") or "outlast"),
    )


def accepted(ring: Ring) -> dict[str, str]:
    """The ids that are let in, and the state of each."""
    return {key.id: key.state for key in ring if key.is_accepted}


def active(ring: Ring) -> Key | None:
    """The key that signs, if there is one."""
    return next((key for key in ring if key.state == "active"), None)


def pending(ring: Ring) -> Key | None:
    """The key that is to sign next: accepted, and newer than the one that signs."""
    newest = next((key for key in ring if key.is_accepted), None)
    return newest if newest and newest.state == "accepted" else None


def is_used(ring: Ring) -> bool:
    """Whether a key older than the one that signs is still accepted."""
    states = [key.state for key in ring if key.is_accepted]
    return "active" in states and states[-1] == "accepted"


def revoked(run: Run, agent: str) -> set[str]:
    """The ids of an agent's that are revoked anywhere."""
    return {key.id for name in run.here() for key in run.ring(name, agent) if key.state == "revoked"}


# Looking ------------------------------------------------------------------------------------------------------------


def resumable(run: Run) -> str:
    """The label of the newest rotation that some node has not finished; empty when all is settled."""
    labels = set()
    for name in run.here():
        ring = run.own(name)
        signs, waits = active(ring), pending(ring)
        if waits:
            labels.add(waits.rotation)
        elif signs and (is_used(ring) or any(_lags(run, holder, name) for holder in run.holders(name))):
            labels.add(signs.rotation)
        elif signs is None and ring:
            labels.add(ring[0].rotation)
    return max(labels - {"-"}, default="")


def _lags(run: Run, holder: str, agent: str) -> bool:
    """Whether a node holds a peer's ring that a rotation has gone past."""
    return holder in run.here() and accepted(run.ring(holder, agent)).keys() != accepted(run.own(agent)).keys()


def new_label(stamp: str, leaked: Sequence[str], resumed: str) -> str:
    """The label of this run: that of the unfinished one, unless something leaked that it knew nothing of."""
    if resumed and (not leaked or resumed.endswith(LEAK)):
        return resumed
    return stamp + (LEAK if leaked else "")


def suspects(run: Run, resumed: str) -> tuple[str, ...]:
    """The agents whose leak another run has dealt with on some nodes only, or has not come to audit."""
    found = []
    for agent in run.members:
        bad = revoked(run, agent)
        is_accepted = any(bad & accepted(run.ring(name, agent)).keys() for name in run.here())
        if is_accepted or (resumed.endswith(LEAK) and was_leaked(run, agent, resumed)):
            found.append(agent)
    return tuple(found)


def was_leaked(run: Run, agent: str, label: str) -> bool:
    """Whether what an agent had before this rotation was revoked."""
    rings = ([key for key in run.ring(name, agent) if key.rotation != label] for name in run.here())
    return any(ring[0].state == "revoked" for ring in rings if ring)


def exposed(run: Run, agent: str) -> set[str]:
    """The ids of a leaked agent's that nobody may accept any longer.

    What the very run that is carried on has made since the leak is spared.
    """
    spares = run.resumed and run.label.endswith(LEAK) and was_leaked(run, agent, run.label)
    every = [key for name in run.here() for key in run.ring(name, agent) if key.is_accepted]
    return revoked(run, agent) | {key.id for key in every if not (spares and key.rotation == run.label)}


def starts(run: Run) -> dict[str, str]:
    """When each leaked agent's exposure began, as far as the rings tell: its oldest key that is being, or was, revoked."""
    windows = {}
    for agent in run.leaked:
        ids = exposed(run, agent)
        keys = [key for name in run.here() for key in run.ring(name, agent) if key.id in ids and key.made != "-"]
        fresh = [key for key in keys if key.is_accepted]
        windows[agent] = run.since or min((key.made for key in fresh or keys), default="")
    return windows


# Doing --------------------------------------------------------------------------------------------------------------


def orders(phase: str, node: str, run: Run) -> list[Order]:
    """What a node is to do in a phase, from what everyone said last; nothing for a node that is not here."""
    if node not in run.here():
        return []
    steps = {
        "stop": _stop,
        "revoke": _revoke,
        "prepare": _prepare,
        "accept": _accept,
        "use": _use,
        "retire": _retire,
        "audit": _audit,
        "alarm": _alarm,
    }
    return list(steps[phase](node, run))


def _stop(node: str, run: Run) -> Iterator[Order]:
    # The owner first: what it still has under way arrives before its peers refuse the key.
    if node in run.leaked:
        yield from _revocations(node, node, run)


def _revoke(node: str, run: Run) -> Iterator[Order]:
    for agent in run.leaked:
        if agent != node:
            yield from _revocations(node, agent, run)
        elif active(run.own(node)) is None:
            # Once it signs again, a person may have ended the emergency.
            reason = f"the key of {agent} leaked; outlast audit {agent} on its peers says what came under it"
            yield Order(("emergency", "--reason", reason), "in emergency mode until you end it")


def _revocations(node: str, agent: str, run: Run) -> Iterator[Order]:
    ring = run.ring(node, agent)
    # One that is not here yet is refused as well, should it ever come.
    ended = {key.id for key in ring if not key.is_accepted}
    if ring and (bad := sorted(exposed(run, agent) - ended)):
        whose = "its" if agent == node else f"{agent}'s"
        words = ("keys", "revoke", agent, *(word for key in bad for word in ("--id", key)))
        yield Order(words, f"{whose} leaked key {', '.join(bad)} is refused from now on")


def _prepare(node: str, run: Run) -> Iterator[Order]:
    ring = run.own(node)
    signs = active(ring)
    is_settled = pending(ring) is None and not is_used(ring)
    if is_settled and (signs is None or signs.rotation != run.label):
        yield Order(("keys", "prepare", "--rotation", run.label), "made its new key")


def _accept(node: str, run: Run) -> Iterator[Order]:
    for agent in run.talks.get(node, ()):
        ring = run.own(agent)
        if agent in run.told and run.told[agent].text and accepted(ring) != accepted(run.ring(node, agent)):
            yield Order(("keys", "accept", agent), f"accepts {agent}'s keys as they are now", run.told[agent].text)


def _use(node: str, run: Run) -> Iterator[Order]:
    ring = run.own(node)
    key = pending(ring)
    if key and not missing(node, key.id, run):
        yield Order(("keys", "use"), f"signs with {key.id}")
    elif not key and is_used(ring):
        # Another run may have been ended while it waited for what was signed before to arrive.
        yield Order(("keys", "use"))


def missing(node: str, key: str, run: Run) -> list[str]:
    """Who has not confirmed to hold a key of a node that still has one to sign with; only that one is waited for."""
    if active(run.own(node)) is None:
        return []
    return [name for name in run.holders(node) if key not in accepted(run.ring(name, node))]


def _retire(node: str, run: Run) -> Iterator[Order]:
    ring = run.own(node)
    if is_used(ring) and not pending(ring):
        old = ", ".join(one for one, state in accepted(ring).items() if state == "accepted")
        yield Order(("keys", "retire"), f"gave up its old key {old}")


def _audit(node: str, run: Run) -> Iterator[Order]:
    for agent in run.leaked:
        if run.ring(node, agent) and agent != node:
            since = run.windows.get(agent, "")
            yield Order(("audit", agent, *(("--since", since) if since else ())))


def _alarm(node: str, run: Run) -> Iterator[Order]:
    for audit in run.told[node].audits:
        if audit.get("unlike") or audit.get("open"):
            reason = f"messages under {audit['agent']}'s leaked key: read {audit['report']}"
            yield Order(("emergency", "--reason", reason), "in emergency mode until you end it")
            return


def findings(run: Run, leaked: Sequence[str]) -> list[str]:
    """What is wrong with the variables that a person typed; each one line with its mend."""
    wrong = []
    nodes = ", ".join(run.members)
    for name in leaked:
        if name not in run.members:
            outside = [holder for holder in run.here() if name in run.told[holder].rings]
            there = f"outlast keys remove {name} on {' and '.join(outside)}" if outside else f"one of {nodes}"
            wrong.append(f"leaked: {name} is no node of the inventory; mend: {there}")
    if run.since and not re.fullmatch(WHEN, run.since):
        wrong.append(
            f"since: {run.since!r} is no moment; mend: write 2026-11-20, 2026-11-20T14:00Z, or 36h for hours ago"
        )
    return wrong
