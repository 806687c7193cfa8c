"""What a node does and watches in drills of messages: handing over, waiting for answers, what became of each piece of work.

Keeps: every piece of work has a name that both nodes know beforehand, so that each can say for itself whether it was done, and
how often. Leaves to others: what is broken on purpose (drill_harm.py), memory and STATE (drill_memory.py).
"""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.outlast.agents.plugins.module_utils.drill_node import DrillTrouble, Node, moment

__all__ = ["ACTS"]

Facts = dict[str, Any]
# Longer than messages.total_timeout, after which an unanswered message has failed.
_NOTICE_S = 40.0
_WORK_S = 120.0
_CALM_S = 60.0
_SET = "drill"


def look(node: Node) -> Facts:
    """How the node is before."""
    status = node.status()
    if not status.get("ready"):
        raise DrillTrouble(f"it is not ready: {', '.join(status.get('reasons', ())) or 'it does not answer'}")
    return {"known": {f"gaps in the channel to {name}": one["gaps"] for name, one in status["channels"].items()}}


def hand(node: Node, to: str, label: str, count: int, wait: bool = False) -> Facts:
    """Hand work to the other node; ``wait``: and wait until it is done."""
    began = time.time()
    for unit in node.units(label, count):
        node.order("handoff", {"unit": unit, "peer": to, "task": "host report (a drill)"})
    return settled(node, label, count) if wait else {"at": began}


def settled(node: Node, label: str, count: int) -> Facts:
    """All that was handed over is done."""
    at = 0.0
    for unit in node.units(label, count):
        deadline = time.monotonic() + _WORK_S
        while (found := node.order("wait", {"unit": unit, "seconds": 20}))["status"] == "open":
            if time.monotonic() > deadline:
                raise DrillTrouble(f"{unit}: not done within {_WORK_S:.0f} s")
        if found["status"] != "done":
            return {"lost": [f"{unit}: {found['status']} ({found.get('detail', '')})"]}
        event = next(node.events("handoff.closed", correlation_id=unit), None)
        at = max(at, moment(event["at"]) if event else time.time())
    return {"at": at}


def unreached(node: Node, peer: str) -> Facts:
    """Messages to the other node fail."""
    began = time.time() - 1.0

    def failed() -> float:
        channel = node.status().get("channels", {}).get(peer, {})
        at = moment(channel.get("last_error_at") or "")
        return at if channel.get("last_error") and at >= began else 0.0

    return {"at": node.until(failed, _NOTICE_S, f"a message to {peer} that fails")}


def ready(node: Node) -> Facts:
    """The node takes work."""
    node.until(lambda: node.status().get("ready"), _CALM_S, "ready")
    since = moment(node.status().get("since", ""))
    started = next((moment(one["at"]) for one in node.events("node.started") if moment(one["at"]) >= since), 0.0)
    return {"at": started or time.time()}


def mode(node: Node, mode: str) -> Facts:
    """The node is in a mode."""
    node.until(lambda: node.status().get("mode") == mode, _CALM_S, f"mode {mode}")
    changes = [moment(one["at"]) for one in node.events("mode.changed", mode=mode)]
    return {"at": changes[-1] if changes else time.time()}


def alert(node: Node, name: str) -> Facts:
    """A person is told of it."""
    return {"at": moment(node.event("alert", _CALM_S, name=name)["at"])}


def open_(node: Node) -> Facts:
    """Work is begun, and stays open."""
    node.cli("step", "begin", "--unit", _step(node), "--artifact", "notes.md")
    return {}


def finish(node: Node) -> Facts:
    """The work that is open is known as such, and done now."""
    unit = _step(node)
    if unit not in {one["unit"] for one in node.status()["open"]}:
        return {"lost": [f"{unit}: it was open, and nobody knows of it"]}
    node.cli("step", "act", "--unit", unit, "--artifact", "notes.md", reads="what a drill made\n")
    node.cli("step", "act", "--unit", unit)
    node.cli("step", "commit", "--unit", unit)
    made = node.home.artifacts / unit / "notes.md"
    return {} if made.is_file() else {"lost": [f"{unit}: its artifact is not there"]}


def _step(node: Node) -> str:
    return f"drill-{node.run:.0f}"


def check(node: Node, label: str, count: int, by: str) -> Facts:
    """Each piece of work is in the journal as begun once and as done once; who was handed it has its artifact, in order."""
    units = node.units(label, count, by)
    records = [one for one in node.records() if one.unit in units]
    lost = []
    for unit in units:
        steps = [(one.step.value, one.what) for one in records if one.unit == unit]
        begun = sum(step == "INTENT" for step, _ in steps)
        done = sum(step == "CONFIRM" and what.startswith("done") for step, what in steps)
        if (begun, done) != (1, 1):
            lost.append(f"{unit}: begun {begun} times, done {done} times")
        elif by != node.name and not (node.home.artifacts / unit).is_dir():
            lost.append(f"{unit}: its artifact is not there")
    order = [one.unit for one in records if one.step.value == "INTENT"]
    if not lost and order != units:
        lost.append(f"{label}: taken in the order {', '.join(order)}")
    return {"lost": lost}


def share(node: Node) -> Facts:
    """Write to a set that all nodes share."""
    node.order("state/add", {"key": _SET, "value": f"{node.name} {node.run}"})
    return {}


def shared(node: Node) -> Facts:
    """Both nodes' elements are in the shared set."""

    def both() -> bool:
        elements = node.order("state/get", {"key": _SET}).get("elements", ())
        return sum(str(one).endswith(f" {node.run}") for one in elements) > 1

    node.until(both, _WORK_S, "what both nodes wrote, in the shared set")
    return {"at": time.time()}


def unshare(node: Node) -> Facts:
    """Take one's own element out again."""
    node.order("state/discard", {"key": _SET, "value": f"{node.name} {node.run}"})
    return {}


def resume(node: Node) -> Facts:
    """A person ends the emergency that the leak began."""
    status = node.status()
    if status.get("mode") == "emergency" and any("leaked" in why for why in status["mode_reasons"]):
        node.order("resume", {"reason": "the drill is over"})
    return {"at": time.time()}


def settle(node: Node) -> Facts:
    """The node is well again: ready, in normal mode, nothing waits. What a person was told, and what is known at the end."""
    status: dict[str, Any] = {}

    def calm() -> bool:
        nonlocal status
        status = node.status()
        queued = sum(one["queued"] for one in status.get("channels", {}).values())
        return bool(status.get("ready")) and status["mode"] == "normal" and not queued

    told = [f"{one['text'].partition('; mend: ')[0]} ({one['urgency']})" for one in node.events("alert")]
    try:
        node.until(calm, _CALM_S, "well again: ready, in normal mode, with nothing queued")
    except DrillTrouble as error:
        why = ", ".join([*status.get("reasons", ()), *status.get("mode_reasons", ())])
        return {"alerts": told, "wrong": f"{error}{f' ({why})' if why else ''}"}
    known = {f"gaps in the channel to {name}": one["gaps"] for name, one in status["channels"].items()}
    return {"alerts": told, "known": known}


ACTS = {
    "look": look,
    "hand": hand,
    "settled": settled,
    "unreached": unreached,
    "ready": ready,
    "mode": mode,
    "alert": alert,
    "open": open_,
    "finish": finish,
    "check": check,
    "share": share,
    "shared": shared,
    "unshare": unshare,
    "resume": resume,
    "settle": settle,
}
