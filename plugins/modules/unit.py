"""Bring a service under systemd or launchd into a state, in one trip: see DOCUMENTATION.

Rules kept here: what runs is restarted only when its definition, or something that it read at its start by its own account,
is another now (so an interrupted run is made good by the next one); a start counts once the service is ready; a stop is
proved by looking at every process. Leaves to others: the files that define a service (roles/service), the manager's
commands (module_utils/systemd.py, launchd.py), what follows from what is seen (module_utils/managers.py).
"""

from __future__ import annotations

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# Both are named here so that both are sent along; the one that is asked for is taken below.
from ansible_collections.outlast.agents.plugins.module_utils import launchd, look_unit, managers, processes, systemd
from ansible_collections.outlast.agents.plugins.module_utils.waiting import wait

DOCUMENTATION = r"""
module: unit
short_description: Brings a service under systemd or launchd into a state
description:
  - Looks first; loads, starts, restarts or re-arms only what needs it, and waits until the service is ready.
  - With O(state=stopped) it also stops what is named in O(also), and proves that no process of the home is left. With
    O(state=started) it starts these again afterwards, as they are defined there, and leaves out those that are not.
  - With O(state=absent) the manager forgets the service, or all of Outlast's without O(name); the files stay.
options:
  manager: {description: The service manager., type: str, choices: [systemd, launchd], required: true}
  name: {description: The service., type: str, default: ""}
  also: {description: "Services that are stopped before it, or started after it.", type: list, elements: str, default: []}
  home: {description: The node's directory., type: path, required: true}
  state: {description: What to bring about., type: str, choices: [started, stopped, absent], default: started}
  schedule: {description: When it runs, as in the role service., type: str, default: ""}
  definition_changed: {description: Whether its definition was just written anew., type: bool, default: false}
  loaded:
    description: File below the home in which the program says its process id and the SHA-256 of all that it read.
    type: str
    default: ""
  ready_url: {description: Where 200 is answered once the program is ready., type: str, default: ""}
  ready_timeout: {description: Seconds to wait for that., type: int, default: 30}
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- outlast.agents.unit: {manager: systemd, name: runtime, home: /var/lib/outlast, loaded: run/loaded}
"""
RETURN = r"""
did: {description: What was or would be done., type: list, elements: str, returned: always}
definitions:
  description: The files that define what was named, and those with its variables.
  type: list
  elements: str
  returned: always
"""

BACKENDS: dict[str, type[managers.Backend]] = {"systemd": systemd.Manager, "launchd": launchd.Manager}


class Unit:
    """One service, seen and brought into a state."""

    def __init__(self, values: dict[str, Any], backend: managers.Backend) -> None:
        self.values = values
        self.backend = backend

    def ensure(self, check_mode: bool) -> list[str]:
        """Do what is to be done; return it in words. Raises ManagerTrouble."""
        told = look_unit.look(managers.question(self.values, self.backend))
        steps = managers.todo(self.values, self.backend, told)
        if not check_mode:
            for step in steps:
                self._take(step)
            if self.values["state"] == "started" and self.values["ready_url"]:
                self._wait_ready()
        return [f"{step} {self.backend.name}" for step in steps]

    def _take(self, step: str) -> None:
        try:
            getattr(self.backend, step)()
        except managers.ManagerTrouble:
            # What the program says of itself tells more than that it did not start.
            if step in {"start", "restart"} and (said := self.backend.last_words()):
                raise self._trouble(f"did not start: {said}", said) from None
            raise

    def _wait_ready(self) -> None:
        why = ""

        def settled() -> bool:
            nonlocal why
            why = look_unit.unready(self.values["ready_url"])
            return not why or self.backend.seen().failed

        wait(settled, self.values["ready_timeout"])
        if why:
            said = self.backend.last_words() if not self.backend.seen().running else ""
            raise self._trouble(f"not ready at {self.values['ready_url']} ({said or why})", said)

    def _trouble(self, wrong: str, said: str) -> managers.ManagerTrouble:
        """One line; what the program says of itself is all of it where it names the mend."""
        if "; mend: " in said:
            return managers.ManagerTrouble(said)
        mend = f"see {self.backend.where_to_look()} on the machine, then run the same command again"
        return managers.ManagerTrouble(f"{self.backend.name}: {wrong}; mend: {mend}")


def stop(values: dict[str, Any], backends: list[managers.Backend], check_mode: bool) -> list[str]:
    """Stop services, and end and name what is left of their home; return what was done. Raises ManagerTrouble."""
    did = [each for backend in backends for each in Unit(values, backend).ensure(check_mode)]
    if check_mode:
        return did
    try:
        left = processes.end(values["home"])
    except TimeoutError as error:
        raise managers.ManagerTrouble(f"{values['home']}: {error}; mend: end these processes by hand") from error
    return did + [f"ended what was left: {process.pid} {process.command}" for process in left]


def again(values: dict[str, Any], backends: list[managers.Backend], check_mode: bool) -> list[str]:
    """Start what stop() stopped, and nothing that was never set up; return what was done. Raises ManagerTrouble."""
    plain = {"home": values["home"], "state": "started", "ready_url": ""}
    there = [one for one in backends if any(os.path.exists(path) for path in one.definition_paths())]
    return [each for backend in there for each in Unit(plain, backend).ensure(check_mode)]


def variables(values: dict[str, Any], backend: managers.Backend) -> str:
    """Where the variables of a service's environment lie, if it has any."""
    return os.path.join(values["home"], "etc", f"{backend.name}.env")


def main() -> None:
    """Run as a module on the node."""
    module = AnsibleModule(
        argument_spec={
            "manager": {"type": "str", "choices": sorted(BACKENDS), "required": True},
            "name": {"type": "str", "default": ""},
            "also": {"type": "list", "elements": "str", "default": []},
            "home": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
            "schedule": {"type": "str", "default": ""},
            "definition_changed": {"type": "bool", "default": False},
            "loaded": {"type": "str", "default": ""},
            "ready_url": {"type": "str", "default": ""},
            "ready_timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    values = module.params
    make = BACKENDS[values["manager"]]
    names = [values["name"]] if values["name"] or values["state"] != "absent" else make.known()
    backends = [make(name, values["schedule"]) for name in names]
    did = []
    try:
        if values["state"] == "stopped":
            # All of them first: their manager would start again what is ended here.
            others = [make(name) for name in values["also"]]
            did = stop(values, [*others, *backends], module.check_mode)
        else:
            did = [each for backend in backends for each in Unit(values, backend).ensure(module.check_mode)]
            did += again(values, [make(name) for name in values["also"]], module.check_mode)
    except managers.ManagerTrouble as error:
        module.fail_json(msg=str(error))
    paths = [path for backend in backends for path in (*backend.definition_paths(), variables(values, backend))]
    module.exit_json(changed=bool(did), did=did, definitions=[path for path in paths if os.path.exists(path)])


if __name__ == "__main__":
    main()
