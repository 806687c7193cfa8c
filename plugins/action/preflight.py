"""Everything about one host that can be checked before anything changes: its variables here, the rest on the node.

Keeps: nothing fails here, the answer is a list of findings; the node is asked once, and only with values that make sense; a
host that cannot be reached is told apart from one where something is wrong. Leaves to others: comparing hosts, failing, and
leaving out who is away (findings, the role).
"""

from __future__ import annotations

import re
import time
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.outlast.agents.plugins.action import defences, openclaw_adopt
from ansible_collections.outlast.agents.plugins.plugin_utils import firewall, node_settings, quantity, reach, specs

NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")


class ActionModule(ActionBase):
    """Run by the task `outlast.agents.preflight`, with `keys`: whether the node's key files must be usable already."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return findings, why the node is away (empty when it is not), its clock's skew in seconds, and its facts."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        values, found = self._values(task_vars)
        set_here = [name for name in task_vars if name.startswith(specs.PREFIX)]
        found += specs.check(set_here, values)
        found += self._check_names(task_vars, values) + self._check_managed(values) + _check_machine(values)
        arguments = self._node_arguments(task_vars["inventory_hostname"], values, found)
        found += _check_settings(task_vars, values, {one["field"] for one in found})
        result.update(changed=False, findings=found, away={})
        if arguments is not None:
            arguments["keys"] = boolean(self._task.args.get("keys", True))
            if "__restore_backup" in task_vars:
                # A backup that is put back counts: playbooks/restore.yml adopts nothing.
                arguments["adopt"] = {}
            answer = self._ask(arguments, task_vars)
            result.update(answer, findings=found + answer["findings"])
        return result

    def _ask(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """What the node says of itself, or why it says nothing."""
        before = time.time()
        try:
            answer = self._execute_module("outlast.agents.preflight", arguments, task_vars=task_vars)
        except AnsibleError as error:
            answer = {"msg": str(error)}
        between = (before + time.time()) / 2
        if "findings" in answer:
            return {
                "findings": answer["findings"],
                "skew": round(answer["time"] - between, 1),
                "free_shifts": answer["free_shifts"],
                "ansible_facts": {**answer["ansible_facts"], "outlast_away": {}},
            }
        said = "\n".join(str(answer.get(part, "")) for part in ("msg", "module_stdout", "module_stderr"))
        way = reach.Way.of(self._play_context)
        if away := reach.away(said, way):
            return {"findings": [], "away": away, "ansible_facts": {"outlast_away": away}}
        return {"findings": [reach.unasked(said, way)]}

    def _values(self, task_vars: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, str]]]:
        """The values of all known variables as templated, and a finding for each that cannot be."""
        values: dict[str, Any] = {}
        found = []
        for name, default in {**specs.defaults(), **task_vars}.items():
            # A default that is computed is the role's own business, and may need what is not known yet.
            # Secrets are worked out one by one, and not here (openclaw_secrets).
            if name == "openclaw_secrets":
                continue
            if name not in specs.options() or (name not in task_vars and "{{" in str(default)):
                continue
            try:
                values[name] = self._templar.template(task_vars.get(name, default))
            except AnsibleError as error:
                reason = str(error).splitlines()[0].rstrip(".")
                found.append(
                    specs.finding(name, f"cannot be worked out: {reason}", "set what it refers to, or set it plainly")
                )
                values[name] = None
        # A variable that failed has its finding already; without it, there is none about a wrong type as well.
        return {name: value for name, value in values.items() if value is not None}, found

    def _check_names(self, task_vars: dict[str, Any], values: dict[str, Any]) -> list[dict[str, str]]:
        found = []
        host = task_vars["inventory_hostname"]
        if "ansible_host" in task_vars and not str(task_vars["ansible_host"] or "").strip():
            found.append(specs.finding("ansible_host", "is empty", f"write the address of {host}, or remove the line"))
        if not NAME.fullmatch(host):
            wrong = f"{host!r} is no name for a node"
            found.append(
                specs.finding("inventory_hostname", wrong, "use lower-case letters, digits and dashes, 32 at most")
            )
        members = task_vars["groups"].get("outlast", [])
        peers = values.get("outlast_peers", [])
        for peer in peers if isinstance(peers, list) else []:
            if peer == host:
                found.append(specs.finding("outlast_peers", f"{host} names itself", "remove it from the list"))
            elif peer not in members:
                known = ", ".join(name for name in members if name != host) or "no other node"
                mend = f"add {peer} to the group outlast, or remove it from the list (the group has {known})"
                found.append(specs.finding("outlast_peers", f"{peer} is not in the inventory", mend))
        return found

    def _check_managed(self, values: dict[str, Any]) -> list[dict[str, str]]:
        """A machine that is provisioned for agents gives them a user of their own, and starts the node by itself."""
        user, operator = str(values.get("outlast_user", "")), self._play_context.remote_user
        mend = "name one that only the agents use, such as outlast: it is made where it is missing"
        if user and not USER.fullmatch(user):
            return [specs.finding("outlast_user", f"{user!r} is no name for a user", mend)]
        if not boolean(values.get("outlast_manage_machine", False), strict=False):
            return []
        found = []
        if not user:
            found.append(specs.finding("outlast_user", "is not set, and outlast_manage_machine is true", mend))
        if user in {"root", operator}:
            wrong = f"{user} may do everything on the machine, and agents would be {user}"
            found.append(specs.finding("outlast_user", wrong, mend))
        if values.get("outlast_service_manager") == "supervisord":
            wrong = "supervisord is not started with the machine, and outlast_manage_machine is true"
            found.append(specs.finding("outlast_service_manager", wrong, "set the machine's own: systemd or launchd"))
        return found

    def _node_arguments(self, host: str, values: dict[str, Any], found: list[dict[str, str]]) -> dict[str, Any] | None:
        """What the node is to look at, or None where that cannot be said; adds findings about quantities."""
        sizes: dict[str, float] = {}
        for name, parse in (("outlast_min_free", quantity.size_bytes), ("outlast_max_skew", quantity.seconds)):
            try:
                sizes[name] = parse(values[name])
            except ValueError as error:
                found.append(specs.finding(name, str(error), f"write it like {specs.defaults()[name]}"))
            except KeyError:
                continue
        # Nobody can be asked there.
        if any(one["field"] == "ansible_host" for one in found):
            return None
        agent = values.get("outlast_agent")
        command = agent.get("command") if isinstance(agent, dict) else None
        if isinstance(command, list) and command and not str(command[0]).startswith("/"):
            mend = "write its whole path, as `command -v` tells it on the node"
            found.append(specs.finding("outlast_agent", f"command: {command[0]!r} is not an absolute path", mend))
        port = str(values.get("outlast_port", ""))
        if port.isdigit() and not 0 < int(port) < 65536:
            found.append(specs.finding("outlast_port", f"{port} is no port", "choose one from 1024 to 65535"))
            return None
        if not port.isdigit() or not values.get("outlast_home") or "outlast_min_free" not in sizes:
            return None
        return {
            "home": values["outlast_home"],
            "node": host,
            "host": values["outlast_host"],
            "port": int(port),
            "dashboard": _dashboard(int(port), values.get("outlast_dashboard")),
            "gateway": _gateway(values),
            "adopt": _adopt(host, values, self._play_context.remote_user),
            "min_free": sizes["outlast_min_free"],
            "manager": values.get("outlast_service_manager", "supervisord"),
            "user": str(values.get("outlast_user", "")),
            "managed": boolean(values.get("outlast_manage_machine", False), strict=False),
            "wheelhouse": str(values.get("outlast_wheelhouse", "")),
        }


def _check_settings(task_vars: dict[str, Any], values: dict[str, Any], skip: set[str]) -> list[dict[str, str]]:
    """What the node would refuse when all that comes before its settings is done already; ``skip``: variables that are."""
    host, peers = task_vars["inventory_hostname"], values.get("outlast_peers")
    known = peers if isinstance(peers, list) else task_vars["groups"].get("outlast", [])
    found: list[dict[str, str]] = node_settings.check(host, values, [str(name) for name in known], skip)
    found += node_settings.alert_urls(values.get("outlast_alert_urls", []))
    return found


def _dashboard(port: int, said: Any) -> dict[str, Any]:
    """Where the node's dashboard is to listen; empty where it has none."""
    own = specs.dashboard_port(port, said)
    return {"host": (said or {}).get("host", "127.0.0.1"), "port": own} if own else {}


def _gateway(values: dict[str, Any]) -> int:
    """The port of the node's OpenClaw; 0 where it has none, or what is no port."""
    port = str(values.get("openclaw_port", ""))
    enabled = boolean(values.get("openclaw_enabled", False), strict=False)
    return int(port) if enabled and port.isdigit() and 0 < int(port) < 65536 else 0


def _adopt(host: str, values: dict[str, Any], operator: str | None) -> dict[str, Any]:
    """Which OpenClaw the node is to adopt; empty where it is to adopt none."""
    named = (values.get(name, False) for name in ("openclaw_enabled", "openclaw_adopt"))
    return openclaw_adopt.wish(values, host, operator) if all(boolean(one, strict=False) for one in named) else {}


def _check_machine(values: dict[str, Any]) -> list[dict[str, str]]:
    """What is for the machine itself, where a mistake would show only when half of it is provisioned."""
    if not boolean(values.get("outlast_manage_machine", False), strict=False):
        return []
    found = []
    if values.get("outlast_log_limit"):
        try:
            quantity.size_bytes(values["outlast_log_limit"])
        except ValueError as error:
            found.append(specs.finding("outlast_log_limit", str(error), "write it like 200MiB"))
    times = {"limit": values.get("outlast_trial", "60s"), "restart": values.get("outlast_reboot_time", "")}
    lines = [defences.unfit(times)]
    for name in ("ssh_from", "open_ports"):
        listed = values.get(f"outlast_{name}", [])
        asked = {"ssh_from": [], "open_ports": [], name: listed}
        try:
            if not isinstance(listed, list):
                raise ValueError(f"outlast_{name}: {listed!r} is no list; mend: write [{listed}]")
            firewall.rules(node=("", 0), ssh_ports=[], operator="", peers={}, **asked)
        except ValueError as error:
            lines.append(str(error))
    found += [specs.parted(line) for line in lines if line]
    mesh = values.get("outlast_mesh")
    if isinstance(mesh, dict) and mesh.get("kind") and not values.get("outlast_mesh_address"):
        mend = "give this node one, such as 10.77.0.1, or set outlast_mesh: {} for it"
        found.append(specs.finding("outlast_mesh_address", "is not set, and outlast_mesh is", mend))
    return found
