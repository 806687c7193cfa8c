"""Keep a program running under a home's own supervisord, in one trip: see DOCUMENTATION.

Rules kept here: a program is restarted only when something that it read at its start, by its own account, differs from
what is there now (so an interrupted run, or a restart at the wrong moment, is made good by the next run); nothing serves
but what supervisord watches over; a stop is proved by looking at every process. Leaves
to others: the content of the configuration (roles/service), talking to supervisord (module_utils/supervisord.py).
"""

from __future__ import annotations

import base64
import os
import xmlrpc.client
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.outlast.agents.plugins.module_utils import durable, look_unit, processes
from ansible_collections.outlast.agents.plugins.module_utils.supervisord import Supervisord, SupervisorTrouble
from ansible_collections.outlast.agents.plugins.module_utils.waiting import wait

DOCUMENTATION = r"""
module: supervised
short_description: Keeps a program running under the supervisord of a node's home
description:
  - Starts supervisord where it does not run, takes over its configuration, restarts the program only when needed, and
    waits until it is ready.
  - With O(state=stopped) and no O(name) it ends everything in the home and proves that no process is left.
options:
  home: {description: The node's directory., type: path, required: true}
  state: {description: What to bring about., type: str, choices: [started, stopped, absent], default: started}
  name: {description: The program., type: str}
  main_config: {description: supervisord's own configuration in base64., type: str}
  config: {description: The program's section in base64., type: str}
  loaded:
    description: File below the home in which the program says its process id and the SHA-256 of all that it read.
    type: str
    default: ""
  ready_url: {description: Where 200 is answered once the program is ready., type: str}
  ready_timeout: {description: Seconds to wait for that., type: int, default: 30}
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- outlast.agents.supervised: {home: /srv/coz, state: stopped}
"""
RETURN = r"""
did: {description: What was or would be done., type: list, elements: str, returned: always}
"""


class Trouble(Exception):
    """One line for the operator: field, wrong and mend."""


class Program:
    """One program under a home's supervisord."""

    def __init__(self, values: dict[str, Any], check_mode: bool) -> None:
        self.values = values
        self.check_mode = check_mode
        self.home: str = values["home"]
        self.name: str = values["name"]
        self.supervisord = Supervisord(self.home)
        self.did: list[str] = []
        self.section = os.path.join(self.home, "etc", "supervisor.d", f"{self.name}.conf")
        self.stamp = os.path.join(self.home, "run", "supervisord.release")

    def start(self) -> None:
        """Bring it up to date and wait until it is ready."""
        main_differs = self._write(self.supervisord.config, self.values["main_config"])
        self._write(self.section, self.values["config"])
        current = os.path.join(self.home, "current")
        release = os.readlink(current) if os.path.islink(current) else ""
        # supervisord runs out of the release, too: a new release takes it along, so that old releases can go.
        release_differs = self._read(self.stamp) != release.encode()
        running = self.supervisord.pid() is not None
        if running and (main_differs or release_differs or self._another_serves()):
            self._do("stopped supervisord", self.supervisord.stop)
            running = False
        if not running:
            self._do("started supervisord", self._start_alone)
            started = True
        elif self.check_mode:
            started = False
        else:
            started = self.supervisord.load(self.name)
            if started:
                self.did.append(f"started {self.name}")
        loaded = self.values["loaded"]
        if not started and loaded and look_unit.outdated(self.home, loaded, []):
            self._do(f"restarted {self.name}", self._restart)
        elif running and not self.check_mode and self._state() not in {"RUNNING", "STARTING", "BACKOFF"}:
            self._do(f"started {self.name}", self._restart)
        if not self.check_mode:
            if release_differs:
                durable.replace(self.stamp, release.encode())
            self._wait_ready()

    def remove(self, *, forget: bool) -> None:
        """Stop the program; with forget also take its section away."""
        if self.supervisord.pid() is not None and self._state() in {"RUNNING", "STARTING", "BACKOFF"}:
            self._do(f"stopped {self.name}", lambda: self.supervisord.call("stopProcess", self.name))
        if forget and os.path.exists(self.section):
            self._do(f"removed {self.name}", lambda: os.unlink(self.section))
            if self.supervisord.pid() is not None and not self.check_mode:
                self.supervisord.load(self.name)

    def _do(self, what: str, action: Any) -> None:
        self.did.append(what)
        if not self.check_mode:
            action()

    def _write(self, path: str, content: str) -> bool:
        wanted = base64.b64decode(content)
        if self._read(path) == wanted:
            return False
        self._do(f"wrote {os.path.relpath(path, self.home)}", lambda: self._replace(path, wanted))
        return True

    def _replace(self, path: str, content: bytes) -> None:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        durable.replace(path, content)

    def _read(self, path: str) -> bytes | None:
        try:
            with open(path, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def _another_serves(self) -> bool:
        """Whether a process that lost its supervisord is in the place of the one that supervisord tries to run."""
        pid = look_unit.told(self.home, self.values["loaded"]).get("pid")
        try:
            mine = self.supervisord.state(self.name)["pid"]
        except xmlrpc.client.Fault:
            mine = 0
        return pid != mine and any(process.pid == pid for process in processes.of_home(self.home))

    def _start_alone(self) -> None:
        end_rest(self.home)
        self.supervisord.start()

    def _state(self) -> str:
        try:
            return str(self.supervisord.state(self.name)["statename"])
        except xmlrpc.client.Fault:
            return "UNKNOWN"

    def _restart(self) -> None:
        if self._state() in {"RUNNING", "STARTING", "BACKOFF"}:
            self.supervisord.call("stopProcess", self.name)
        self.supervisord.call("startProcess", self.name)

    def _wait_ready(self) -> None:
        url = self.values["ready_url"]
        if not url:
            return
        answer = ""

        def settled() -> bool:
            nonlocal answer
            answer = look_unit.unready(url)
            return not answer or self._state() in {"EXITED", "FATAL"}

        wait(settled, self.values["ready_timeout"])
        if answer:
            state = self.supervisord.state(self.name)
            said = self._last_words()
            wrong = f"not ready at {url} ({answer}), it is {state['statename']}, exit {state['exitstatus']}"
            mend = f"see {self.home}/var/log/{self.name}.err, then run the same command again"
            raise Trouble(
                f"{said or wrong}" if state["statename"] == "EXITED" and said else f"{self.name}: {wrong}; mend: {mend}"
            )

    def _last_words(self) -> str:
        try:
            with open(os.path.join(self.home, "var", "log", f"{self.name}.err"), "rb") as file:
                lines = file.read()[-4096:].decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""


def stop_all(home: str, check_mode: bool) -> list[str]:
    """End everything that runs out of the home and prove it; return what was done. Raises Trouble."""
    supervisord = Supervisord(home)
    found = processes.of_home(home)
    if check_mode or not found:
        return ["would stop everything"] if found else []
    did = []
    if supervisord.stop():
        did.append("stopped supervisord and its programs")
    return did + [f"ended what was left: {process.pid} {process.command}" for process in end_rest(home)]


def end_rest(home: str) -> list[processes.Process]:
    """End what runs out of the home without a supervisord; return what it was. Raises Trouble."""
    try:
        left: list[processes.Process] = processes.end(home)
    except TimeoutError as error:
        raise Trouble(f"{home}: {error}; mend: end these processes by hand") from error
    return left


def main() -> None:
    """Run as a module on the node."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
            "name": {"type": "str"},
            "main_config": {"type": "str", "no_log": True},
            "config": {"type": "str", "no_log": True},
            "loaded": {"type": "str", "default": ""},
            "ready_url": {"type": "str"},
            "ready_timeout": {"type": "int", "default": 30},
        },
        required_if=[("state", "started", ("name", "main_config", "config")), ("state", "absent", ("name",))],
        supports_check_mode=True,
    )
    os.umask(0o077)
    values = module.params
    try:
        if values["state"] == "stopped" and not values["name"]:
            did = stop_all(values["home"], module.check_mode)
        else:
            program = Program(values, module.check_mode)
            if values["state"] == "started":
                program.start()
            else:
                program.remove(forget=values["state"] == "absent")
            did = program.did
    except (Trouble, SupervisorTrouble) as error:
        module.fail_json(msg=str(error))
    except (OSError, xmlrpc.client.Error) as error:
        module.fail_json(msg=f"supervisord: {error}; mend: see {values['home']}/var/log and run the same command again")
    module.exit_json(changed=bool(did), did=did)


if __name__ == "__main__":
    main()
