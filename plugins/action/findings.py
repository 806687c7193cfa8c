"""Compare what preflight found on all hosts, say everything that is wrong at once, then fail once.

Keeps: runs on the controller only and changes nothing; a host that is away is no reason to leave the others as they are.
Leaves to others: looking at each host (preflight), leaving out who is away (the role).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.outlast.agents.plugins.plugin_utils import quantity, specs, table, verdict

Finding = dict[str, str]
# Machines without a battery for their clock (a Pi) start with a wrong one.
TIME = ("sudo timedatectl set-ntp true", "sudo systemsetup -setusingnetworktime on")


class ActionModule(ActionBase):
    """Run once by the task `outlast.agents.findings`: `seen` names the variable that holds each host's answer."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fail with all findings, or say in one line that there are none."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        hosts = task_vars["hostvars"]
        members = task_vars["groups"].get("outlast", [])
        seen = {
            name: hosts[name][self._task.args["seen"]]
            for name in task_vars["ansible_play_hosts"]
            if self._task.args["seen"] in hosts[name]
        }
        places = {name: self._place(hosts[name]) for name in members}
        found = [{"host": name, **one} for name, answer in seen.items() for one in answer["findings"]]
        away = [{"host": name, **answer["away"]} for name, answer in seen.items() if answer["away"]]
        # Worked out once, for all hosts: the first that is asked has it as well as any.
        more = hosts[next(iter(seen))].get(self._task.args.get("openclaw", ""), {}) if seen else {}
        others = [{"host": name, **one} for name, own in more.get("hosts", {}).items() for one in own["findings"]]
        # What cannot be worked out both say.
        found += [one for one in others if one not in found]
        self._mend_ports(found, seen, hosts)
        found += self._shared(places, set(seen)) + self._crowded(places, set(seen))
        found += self._skewed({name: answer for name, answer in seen.items() if "skew" in answer}, hosts)
        result["changed"] = False
        if not found:
            self._say_away(away)
            here = [name for name, answer in seen.items() if not answer["away"]]
            if not here:
                rows = [verdict.blank(name, "unreachable") for name in seen]
                again = [
                    "what next:",
                    "  when they can be reached, run the same command again; nothing was changed",
                    "",
                ]
                lines = [*table.table(verdict.HEAD, rows), "", f"0 of {len(rows)} nodes are well", "", *again]
                Display().display("\n".join(["", *lines]), color="red")
            else:
                Display().display(f"preflight: {', '.join(here)}: nothing stands in the way", color="green")
            return result
        found = away + found
        count = f"{table.counted(found)}, nothing was changed"
        Display().display("\n".join([f"preflight: {count}", *table.findings(found)]), color="red")
        result.update(failed=True, msg=f"preflight: {count}, see above")
        return result

    def _say_away(self, away: list[Finding]) -> None:
        if away:
            head = f"preflight: left out of this run: {', '.join(one['host'] for one in away)}"
            Display().display("\n".join([head, *table.findings(away)]), color="red")

    def _place(self, host: Any) -> dict[str, str]:
        """Where a host is and what it claims there; what cannot be worked out is left out."""
        local = host.get("ansible_connection") == "local"
        claims = {}
        for name in ("outlast_port", "outlast_home", "outlast_service_manager"):
            try:
                claims[name] = str(host[name])
            except (KeyError, AnsibleError):
                continue
        port = claims.get("outlast_port", "")
        if port.isdigit() and (page := specs.dashboard_port(int(port), _said(host, "outlast_dashboard"))):
            claims["outlast_dashboard"] = str(page)
        if boolean(_said(host, "openclaw_enabled") or False, strict=False):
            claims["openclaw_port"] = str(_said(host, "openclaw_port") or specs.defaults()["openclaw_port"])
            if boolean(_said(host, "openclaw_adopt") or False, strict=False):
                claims["openclaw_adopt_from"] = str(_said(host, "openclaw_adopt_from") or "~/.openclaw")
        return {
            "machine": "this machine" if local else str(host.get("ansible_host", host["inventory_hostname"])),
            **claims,
        }

    def _shared(self, places: dict[str, dict[str, str]], about: set[str]) -> list[Finding]:
        """Ports and homes that two nodes of one machine claim; a node's dashboard has a port as well."""
        found: list[Finding] = []
        for fields in (
            ("outlast_port", "outlast_dashboard", "openclaw_port"),
            ("outlast_home",),
            ("openclaw_adopt_from",),
        ):
            claimed: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
            for name, place in places.items():
                for field in fields:
                    if field in place:
                        claimed[place["machine"], place[field]].append((name, field))
            for (machine, value), claims in claimed.items():
                names, (name, field) = [name for name, _ in claims], claims[-1]
                # Nodes that claim one port claim one for their dashboards as well: once is enough.
                follows = field == "outlast_dashboard" and any(one["host"] == name for one in found)
                if len(claims) > 1 and about & set(names) and not follows:
                    wrong = f"{value} is claimed by {' and '.join(names)} on {machine}"
                    mend = f"give each of them its own {field} in the inventory"
                    if field == "openclaw_adopt_from":
                        mend = "say openclaw_adopt for one of them only (host_vars): one agent has one home"
                    if "outlast_dashboard" in {other for _, other in claims} - {field}:
                        wrong += f" (the dashboard's port is {specs.ABOVE} above the node's where nothing else is said)"
                    found.append({"host": name, **specs.finding(field, wrong, mend)})
        return found

    def _crowded(self, places: dict[str, dict[str, str]], about: set[str]) -> list[Finding]:
        """Machines whose own service manager is to run two nodes: its services have one name each."""
        found = []
        on: dict[str, list[str]] = defaultdict(list)
        for name, place in places.items():
            if place.get("outlast_service_manager") in {"systemd", "launchd"}:
                on[place["machine"]].append(name)
        for machine, names in on.items():
            if len(names) > 1 and about & set(names):
                wrong = f"{machine} can run one node under it, and {' and '.join(names)} are there"
                mend = "give each a machine of its own (ansible_host), or use supervisord for them"
                found.append({"host": names[-1], **specs.finding("outlast_service_manager", wrong, mend)})
        return found

    def _skewed(self, seen: dict[str, Any], hosts: Any) -> list[Finding]:
        """Nodes whose clock is too far from that of another one, or, of a node alone, from this machine's."""
        found = []
        skews = {name: answer["skew"] for name, answer in seen.items()}
        for name, skew in skews.items():
            try:
                limit = quantity.seconds(hosts[name].get("outlast_max_skew", specs.defaults()["outlast_max_skew"]))
            except (ValueError, AnsibleError):
                continue
            others = [(value, f"{other}'s") for other, value in skews.items() if other != name]
            far, whose = max(others or [(0.0, "this machine's")], key=lambda other: abs(skew - other[0]))
            # This machine's own clock decides which of two is wrong.
            if abs(skew - far) > limit and abs(skew) >= abs(far):
                wrong = f"is {skew - far:+.0f} s off {whose}, {limit:.0f} s are allowed (outlast_max_skew)"
                how = TIME[seen[name]["ansible_facts"]["ansible_system"] == "Darwin"]
                mend = f"switch on time synchronisation there ({how}), and wait a minute"
                found.append({"host": name, **specs.finding("clock", wrong, mend)})
        return found

    def _mend_ports(self, found: list[Finding], seen: dict[str, Any], hosts: Any) -> None:
        """Fill in the mend for ports that are taken: a command that moves all nodes to ports that are free."""
        ports = {"outlast_port", "outlast_dashboard", "openclaw_port"}
        taken = [one for one in found if one["field"] in ports and not one["mend"]]
        if not taken:
            return
        shifts = set.intersection(*(set(seen[one["host"]]["free_shifts"]) for one in taken))
        shift = min(shifts, default=0)
        for one in taken:
            host = hosts[one["host"]]
            if "outlast_port_base" in host:
                base = int(host["outlast_port_base"]) + shift
                file = "inventory/local/group_vars/all/ports.yml"
                one["mend"] = f"mkdir -p {file.rpartition('/')[0]} && echo 'outlast_port_base: {base}' > {file}"
            elif one["field"] == "openclaw_port":
                one["mend"] = f"set openclaw_port for {one['host']} to a free one, 120 away from any other gateway's"
            elif one["field"] == "outlast_dashboard":
                one["mend"] = (
                    f"set outlast_dashboard: {{port: …}} for {one['host']} to a free one, or {{enabled: false}}"
                )
            else:
                one["mend"] = (
                    f"set outlast_port for {one['host']} to a free one, such as {int(host['outlast_port']) + shift}"
                )


def _said(host: Any, name: str) -> Any:
    """What the inventory says of a host; None where that cannot be worked out."""
    try:
        return host.get(name)
    except AnsibleError:
        return None
