"""Show all nodes as one table, then what is wrong, then what to try next.

Keeps: runs on the controller only; says nothing in check mode but that there is nothing to see yet. Leaves to others:
asking the nodes (survey).
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.outlast.agents.plugins.plugin_utils import table

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


class ActionModule(ActionBase):
    """Run once by the task `outlast.agents.report`.

    `seen` names the variable with each host's answer, `strict` says whether findings fail, `next` are the last lines.
    """

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print, and fail when a node is not well and that matters."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        result["changed"] = False
        hosts, shown = task_vars["hostvars"], Display()
        if self._task.check_mode:
            shown.display("check mode: nothing was changed, so there is nothing new to see", color="yellow")
            return result
        seen = {
            name: hosts[name][self._task.args["seen"]]
            for name in task_vars["ansible_play_hosts_all"]
            if self._task.args["seen"] in hosts[name]
        }
        found = [one for name, answer in seen.items() for one in problems(name, answer, set(seen))]
        shown.display("\n".join(["", *table.table(HEAD, [row(name, answer) for name, answer in seen.items()])]))
        if found:
            shown.display("\n".join(["", "found:", *table.findings(found)]), color="red")
        else:
            shown.display(f"\n{len(seen)} of {len(seen)} nodes are well", color="green")
        shown.display("\n".join(["", "what next:", *(f"  {line}" for line in self._task.args["next"]), ""]))
        if found and self._task.args.get("strict", True):
            result.update(failed=True, msg=f"verify: {len(found)} finding(s), listed above with their mends")
        return result


def problems(name: str, answer: dict[str, Any], shown: set[str]) -> list[dict[str, str]]:
    """What is wrong with a node; a peer that this run was told to leave out is not this run's matter."""
    node = answer["node"]
    if "status" not in node:
        wrong = node.get("wrong") or node.get("error") or "says nothing"
        return [{"host": name, "field": node.get("field", "node"), "wrong": wrong, "mend": node.get("mend", "make up")}]
    left_out = {f"peers.{peer}" for peer in node["pings"]} - {f"peers.{peer}" for peer in shown}
    found = [{"host": name, **one} for one in node["findings"] if one["field"] not in left_out]
    if answer["health"] != "ok":
        mend = "see that the address and port can be reached from here"
        found.append({"host": name, "field": "/healthz", "wrong": answer["health"], "mend": mend})
    return found


def row(name: str, answer: dict[str, Any]) -> tuple[str, ...]:
    """A node's line in the table; a column with several peers lists them."""
    node = answer["node"]
    if "status" not in node:
        return (name, "down" if answer["health"] != "ok" else "unclear", *("-" for _ in HEAD[2:]))
    status = node["status"]
    channels, pings = status["channels"], node["pings"]
    single = len(channels) == 1
    return (
        name,
        "ready"
        if status["ready"] and answer["health"] == "ok"
        else "alive"
        if answer["health"] == "ok"
        else "unreachable",
        status["mode"],
        " ".join(f"{service}:{state}" for service, state in status["services"].items()) or "-",
        listed({peer: str(one["sent"]) for peer, one in channels.items()}, single),
        listed({peer: str(one["received"]) for peer, one in channels.items()}, single),
        listed({peer: clock(one["last_sent"]) for peer, one in channels.items()}, single),
        listed({peer: clock(one["last_received"]) for peer, one in channels.items()}, single),
        listed({peer: f"{one['ms']:.1f} ms" if one.get("ok") else "failed" for peer, one in pings.items()}, single),
        listed({peer: f"{one['skew_s']:+.1f} s" if one.get("ok") else "-" for peer, one in pings.items()}, single),
        str(len(status["recovered"])),
    )


def listed(values: dict[str, str], single: bool) -> str:
    """One value alone, several with the peer's name."""
    if single:
        return next(iter(values.values()), "-")
    return " ".join(f"{peer}:{value}" for peer, value in values.items()) or "-"


def clock(moment: str | None) -> str:
    """The time of day of an ISO moment, without its fraction."""
    return "-" if not moment else moment.partition("T")[2][:8] or moment
