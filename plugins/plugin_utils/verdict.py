"""What the answers of all nodes say together: a line each for the table, what is wrong, and what is worth knowing.

Keeps: pure; `seen` holds each node's answer to survey by its name. Leaves to others: asking (survey), printing (report).
"""

from __future__ import annotations

from typing import Any

__all__ = ["HEAD", "blank", "missed", "problems", "remarks", "row"]

HEAD = (
    "node",
    "health",
    "mode",
    "services",
    "sent",
    "received",
    "last sent",
    "last received",
    "ping",
    "skew",
    "recovered",
)


def missed(name: str, host: Any) -> dict[str, str]:
    """The finding about a node that this run left out, because it is away or because something failed there."""
    # Without -l: the others may lack a key of a node that was never provisioned.
    again = "run the same command again"
    if away := host.get("ansible_facts", {}).get("outlast_away"):
        return {"host": name, "health": "unreachable", **away, "mend": f"{away['mend']}; when it is back, {again}"}
    wrong = "left out of the rest of this run, because of what is said above"
    return {"host": name, "health": "left out", "field": "node", "wrong": wrong, "mend": f"put that right and {again}"}


def problems(name: str, seen: dict[str, Any]) -> list[dict[str, str]]:
    """What is wrong with a node; a peer that this run was told to leave out, or that is away, is not this node's matter."""
    answer = seen[name]
    node = answer["node"]
    if answer["away"]:
        return [{"host": name, **answer["away"]}]
    if "status" not in node:
        # What `outlast` says of trouble ends with its own mend. Without -l: others may lack a key of a node that is new.
        said, _, advice = str(node.get("error") or "says nothing").partition("; ")
        wrong = node.get("wrong") or said
        mend = node.get("mend") or advice or ("make up" if answer["local"] else "ansible-playbook site.yml")
        return [{"host": name, "field": node.get("field", "node"), "wrong": wrong, "mend": mend}]
    left_out = {f"peers.{peer}" for peer in silent(name, seen)}
    found = [{"host": name, **one} for one in node["findings"] if one["field"] not in left_out]
    gateway = node["status"].get("openclaw", {})
    if gateway.get("state") in {"broken", "down", "crash-loop"}:
        wrong = f"its gateway is {gateway['state']}: {gateway.get('reason') or 'nobody knows why'}"
        mend = "see there: outlast openclaw status"
        found.append({"host": name, "field": "openclaw", "wrong": wrong, "mend": mend})
    if answer["health"] != "ok" and not is_closed(name, seen):
        mend = "see that outlast_address and outlast_port are right, and that the network lets that port through"
        found.append({"host": name, "field": "/healthz", "wrong": answer["health"], "mend": mend})
    return found


def silent(name: str, seen: dict[str, Any]) -> list[str]:
    """The peers that did not answer a node, where this run knows why, or did not ask them: not the node's own matter."""
    pings = seen[name]["node"].get("pings", {})
    serve = {peer for peer, other in seen.items() if other["node"].get("status", {}).get("channels")}
    return [peer for peer, ping in pings.items() if not ping.get("ok") and peer not in serve]


def who_reached(name: str, seen: dict[str, Any]) -> dict[str, bool]:
    """The peers that tried to reach a node by a signed message, and whether they did."""
    tried = {other: answer["node"].get("pings", {}).get(name) for other, answer in seen.items()}
    return {other: bool(ping.get("ok")) for other, ping in tried.items() if ping}


def is_closed(name: str, seen: dict[str, Any]) -> bool:
    """Whether a node is well though it cannot be reached from this machine: firewalls let in peers only."""
    answer = seen[name]
    if answer["open"] or answer["local"] or not answer["node"].get("status", {}).get("ready"):
        return False
    reached = who_reached(name, seen)
    return any(reached.values()) or not reached


def remarks(name: str, seen: dict[str, Any]) -> list[str]:
    """What is worth knowing of a node and no reason to worry."""
    told = [f"{name}: {peer} does not answer it; what it has for {peer} waits" for peer in silent(name, seen)]
    alerts = seen[name]["node"].get("status", {}).get("alerts", [])
    told += [f"{name}: alert ({alert['urgency']}), {alert['name']}: {alert['text']}" for alert in alerts]
    trouble = seen[name]["node"].get("status", {}).get("notifier", {}).get("trouble")
    told += [f"{name}: nobody can be told of that: {trouble}"] if alerts and trouble else []
    if not is_closed(name, seen):
        return told
    peers = [peer for peer, did in who_reached(name, seen).items() if did]
    proof = f"{' and '.join(peers)} reached it" if peers else "it answers on its own machine, and no peer was asked"
    return [f"{name}: its port is closed to this machine; {proof}", *told]


def row(name: str, seen: dict[str, Any]) -> tuple[str, ...]:
    """A node's line in the table; a column with several peers lists them."""
    answer = seen[name]
    node, outside = answer["node"], answer["health"] == "ok" or is_closed(name, seen)
    if answer["away"]:
        return blank(name, "unreachable")
    if "status" not in node:
        return blank(name, "unclear" if outside else "down")
    status = node["status"]
    channels, pings = status["channels"], node["pings"]
    single = len(channels) == 1
    return (
        name,
        ("ready" if status["ready"] else "alive") if outside else "unreachable",
        status["mode"],
        " ".join(f"{service}:{state}" for service, state in services(status).items()) or "-",
        listed({peer: str(one["sent"]) for peer, one in channels.items()}, single),
        listed({peer: str(one["received"]) for peer, one in channels.items()}, single),
        listed({peer: clock(one["last_sent"]) for peer, one in channels.items()}, single),
        listed({peer: clock(one["last_received"]) for peer, one in channels.items()}, single),
        listed({peer: f"{one['ms']:.1f} ms" if one.get("ok") else "failed" for peer, one in pings.items()}, single),
        listed(
            {peer: f"{round(one['skew_s'], 1) + 0.0:+.1f} s" if one.get("ok") else "-" for peer, one in pings.items()},
            single,
        ),
        str(len(status["recovered"])),
    )


def services(status: dict[str, Any]) -> dict[str, str]:
    """How the parts of a node are, and its OpenClaw, where it has one."""
    gateway = {"openclaw": str(status["openclaw"].get("state", "unclear"))} if "openclaw" in status else {}
    return {**status["services"], **gateway}


def blank(name: str, health: str) -> tuple[str, ...]:
    """The line of a node of which no more is known."""
    return (name, health, *("-" for _ in HEAD[2:]))


def listed(values: dict[str, str], single: bool) -> str:
    """One value alone, several with the peer's name."""
    if single:
        return next(iter(values.values()), "-")
    return " ".join(f"{peer}:{value}" for peer, value in values.items()) or "-"


def clock(moment: str | None) -> str:
    """The time of day of an ISO moment, without its fraction."""
    return "-" if not moment else moment.partition("T")[2][:8] or moment
