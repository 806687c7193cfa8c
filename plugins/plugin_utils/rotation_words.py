"""What a person reads of a rotation: the plan before it, the table after it, and a line with the next command for what is left.

Keeps: pure; nothing here is a secret: keys are called by their ids. Leaves to others: what is to be done (rotation), making
what nodes said harmless for a terminal (table).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ansible_collections.outlast.agents.plugins.plugin_utils.rotation import (
    LEAK,
    Run,
    accepted,
    active,
    exposed,
    missing,
    orders,
    pending,
    revoked,
)

__all__ = ["HEAD", "Left", "lasting", "left", "plan", "rows"]

HEAD = ("node", "key", "kind", "made", "state", "accepted by", "signed pings", "mode")
DAY_S = 86_400.0


@dataclass(frozen=True)
class Left:
    """One thing that is not done: where, what, the next command, and whether the run failed for it."""

    node: str
    wrong: str
    mend: str
    fails: bool = True

    def line(self) -> str:
        """For a person."""
        return f"  {self.node}: {self.wrong}\n    next: {self.mend}"


def age(made: str, now: datetime) -> str:
    """How old a key is, roughly."""
    try:
        moment = datetime.fromisoformat(made)
    except ValueError:
        return "of unknown age"
    seconds = (now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))).total_seconds()
    if seconds < 120:
        return "new"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min old"
    return f"{seconds / 3600:.0f} h old" if seconds < 2 * DAY_S else f"{seconds / DAY_S:.0f} days old"


def plan(run: Run, now: datetime) -> list[str]:
    """What will be done, node by node, and what another run left unfinished."""
    head = "goes on with the rotation that was not finished" if run.resumed else "rotates the keys of every node"
    lines = [f"{run.label}: {head}"]
    for agent in run.leaked:
        keys = sorted(exposed(run, agent))
        since = run.windows.get(agent) or "its first key"
        lines.append(f"  leaked: {agent}: {', '.join(keys) or 'no key is known here'}: refused at once by every node;")
        lines.append(
            f"    {agent} is in emergency mode until you end it; audit of all that came under it since {since}"
        )
    lines += [f"  {name}: {_intent(run, name, now)}" for name in run.members]
    lines += [
        f"  {name}: {agent} is an outside service: its key stays; to change it, there: outlast keys remove {agent}, then add"
        for name in run.here()
        for agent, ring in run.told[name].rings.items()
        if any(key.outside for key in ring)
    ]
    return lines


def _intent(run: Run, name: str, now: datetime) -> str:
    if name not in run.asked:
        return "left out of this run (-l)"
    if name not in run.here():
        told = run.told.get(name)
        return (
            f"left out: {told.away.get('wrong') or ' '.join(told.errors) or 'it has no keys yet'}"
            if told
            else "left out"
        )
    ring = run.own(name)
    signs, waits = active(ring), pending(ring)
    what = f"signs with {signs.id}, {age(signs.made, now)}" if signs else "has no key to sign with"
    will = [order.words[1] for phase in ("prepare", "use", "retire") for order in orders(phase, name, run)]
    if waits:
        return f"{what}; {waits.id} was made for it before: handed to its peers, then used"
    if "prepare" in will:
        end = "this one is refused" if name in run.leaked else "this one is retired"
        return f"{what}: a new one is handed to its peers, then used; {end}"
    if "retire" in will:
        return f"{what}; the one before is retired"
    stale = [other for other in run.holders(name) if other in run.here() and _differs(run, other, name)]
    return f"{what}, of this rotation: {' and '.join(stale) + ' must still hear of it' if stale else 'done'}"


def _differs(run: Run, holder: str, agent: str) -> bool:
    return bool(accepted(run.ring(holder, agent)) != accepted(run.own(agent)))


# At the end ---------------------------------------------------------------------------------------------------------


def rows(run: Run, now: datetime) -> list[tuple[str, ...]]:
    """A line a node for the table."""
    return [_row(run, name, now) for name in run.members]


def _row(run: Run, name: str, now: datetime) -> tuple[str, ...]:
    if name not in run.here():
        told = run.told.get(name)
        why = "not in this run" if told is None else "unreachable" if told.away else "failed"
        return (name, "-", "-", "-", why, *("-" for _ in HEAD[5:]))
    ring, proof = run.own(name), run.told[name].proof
    signs, waits = active(ring), pending(ring)
    state = "no key signs" if not signs else "the new one waits" if waits else "settled"
    if signs and not waits and len(accepted(ring)) > 1:
        state = "the old one is accepted"
    pings = [f"{peer}:{'ok' if one.get('ok') else 'failed'}" for peer, one in proof.get("pings", {}).items()]
    who = [other for other in run.holders(name) if signs and signs.id in accepted(run.ring(other, name))]
    return (
        name,
        signs.id if signs else "-",
        signs.kind if signs else "-",
        age(signs.made, now) if signs else "-",
        state,
        " ".join(who) or "-",
        " ".join(pings) or "-",
        str(proof.get("mode") or "not running"),
    )


def left(run: Run, again: str) -> list[Left]:
    """What is not done, in the order in which it matters; `again`: the command that goes on with it."""
    found: list[Left] = []
    for part in (_leaks, _absent, _waiting, _proofs, _alarms):
        for one in part(run, again):
            if one not in found:
                found.append(one)
    return found


def _leaks(run: Run, again: str) -> Iterator[Left]:
    for agent in run.members:
        bad = revoked(run, agent)
        for holder in run.holders(agent):
            if still := bad & accepted(run.ring(holder, agent)).keys():
                yield Left(holder, f"still accepts {agent}'s leaked key {', '.join(sorted(still))}", again)
            elif agent in run.leaked and holder not in run.here():
                # Who is not asked may still let it in: the one thing that must not look finished.
                yield Left(
                    holder, f"may still accept {agent}'s leaked key: it was not reached", _back(run, holder, again)
                )
    for agent in run.leaked:
        if agent not in run.here():
            wrong = "does not know yet that its key leaked: it signs with one that is refused"
            yield Left(agent, wrong, _back(run, agent, again), fails=False)


def _absent(run: Run, again: str) -> Iterator[Left]:
    for name in run.members:
        told = run.told.get(name)
        if told is None:
            yield Left(name, "was left out of this run (-l), and keeps its key", again, fails=False)
        elif told.away:
            wrong = f"{told.away['field']}: {told.away['wrong']}"
            yield Left(name, wrong, f"{told.away['mend']}; when it is back: {again}", fails=False)
        elif not told.rings and not told.errors:
            yield Left(name, "has no keys", "ansible-playbook site.yml")
        for error in told.errors if told else ():
            wrong, _, mend = error.partition("; ")
            yield Left(name, wrong, "; then: ".join(filter(None, (mend.removeprefix("mend: "), again))))


def _waiting(run: Run, again: str) -> Iterator[Left]:
    for name in run.here():
        ring = run.own(name)
        signs, waits = active(ring), pending(ring)
        if signs is None:
            yield Left(name, "has no key to sign with: its messages wait", again)
        elif waits:
            who = missing(name, waits.id, run)
            why = f"until {' and '.join(who)} has it" if who else "to be used"
            yield Left(name, f"signs with {signs.id} still; the new key {waits.id} waits {why}", again, fails=not who)
        elif len(accepted(ring)) > 1:
            yield Left(name, f"its old key is still accepted beside {signs.id}", again)
        for holder in run.holders(name):
            if holder in run.here() and _differs(run, holder, name) and not revoked(run, name):
                yield Left(holder, f"has not heard of {name}'s keys as they are now", again)


def _proofs(run: Run, again: str) -> Iterator[Left]:
    for name in run.here():
        proof = run.told[name].proof
        for key in sorted(proof.get("unlike", ())):
            wrong = f"its runtime does not hold the keys that are on its disk ({key})"
            yield Left(name, wrong, f"ansible-playbook site.yml -l {name}")
        if proof.get("down"):
            wrong = "its runtime does not run; its keys were changed on the disk"
            yield Left(name, wrong, f"ansible-playbook site.yml -l {name}", fails=False)
        for peer, ping in proof.get("pings", {}).items():
            # A peer that is not here, or does not run, has its own line.
            there = peer in run.here() and not run.told[peer].proof.get("down")
            if not ping.get("ok") and there:
                mend = "ansible-playbook playbooks/verify.yml says more; the keys themselves are as they should be"
                yield Left(name, f"peers.{peer}: {ping.get('error', 'no answer')}", mend)
        for one in proof.get("held", ()):
            wrong = f"process {one['pid']} ({one['program']}) has the old key {one['id']} in its {one['where']}"
            yield Left(name, wrong, f"end it there: kill {one['pid']}")


def _alarms(run: Run, again: str) -> Iterator[Left]:
    for name in run.here():
        told = run.told[name]
        for audit in told.audits:
            if "error" in audit:
                agent, since = audit["agent"], run.windows.get(audit["agent"], "")
                more = f" --since '{since}'" if since else ""
                wrong = f"what came under {agent}'s key was not audited: {audit['error']}"
                yield Left(name, wrong, f"{told.command} audit {agent}{more}")
        if told.proof.get("mode") == "emergency":
            wrong = "in emergency mode, takes no work until you end it"
            mend = f'read the audit, then: {told.command} resume --reason "what you found"'
            yield Left(name, wrong, mend, fails=False)


def lasting(run: Run) -> list[str]:
    """What the audits say, a line each."""
    told = [(name, audit) for name in run.here() for audit in run.told[name].audits if "error" not in audit]
    return [line for name, audit in told for line in _audited(name, audit)]


def _audited(name: str, audit: dict[str, Any]) -> Iterator[str]:
    opened = audit.get("open") or []
    yield (
        f"  {name}: {audit['messages']} messages accepted under {audit['agent']}'s key since {audit['since']}: "
        f"{audit['unlike']} unlike its habits, {len(opened)} tasks of it open"
    )
    if audit.get("record_begins") and str(audit["record_begins"]) > str(audit["since"]):
        yield f"    what came before {audit['record_begins']} is not on record"
    yield f"    read: {audit['report']}"


def _back(run: Run, name: str, again: str) -> str:
    told = run.told.get(name)
    return f"{told.away['mend']}; when it is back: {again}" if told and told.away else again


def command(leaked: tuple[str, ...], since: str) -> str:
    """What is typed to go on with this run; never with -l, so that it can finish."""
    more = [f"-e leaked={','.join(leaked)}" if leaked else "", f"-e since='{since}'" if since else ""]
    return " ".join(["ansible-playbook rotate-keys.yml", *filter(None, more)])


def title(run: Run) -> str:
    """What kind of run it was, in a word."""
    return "leak" if run.label.endswith(LEAK) else "rotation"
