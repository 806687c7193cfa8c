"""Do and watch what one step of a drill asks of a node: see DOCUMENTATION.

Rules kept here: what does not come true is told in one line, and nothing after it is tried; nothing here fails the run. Leaves
to others: what each act is (module_utils/drill_acts.py, drill_memory.py, drill_harm.py), which are asked for when
(plugin_utils/drills.py), the failures themselves (the module outage).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.outlast.agents.plugins.module_utils import drill_acts, drill_harm, drill_memory
from ansible_collections.outlast.agents.plugins.module_utils.drill_node import DrillTrouble, Node

from outlast.errors import OutlastError
from outlast.work import drilling

DOCUMENTATION = r"""
module: drill
short_description: Does and watches what one step of a drill asks of a node
description:
  - Runs in the Python of the node's release, as the node's user.
options:
  home: {description: The node's directory., type: path, required: true}
  scenario: {description: Which drill., type: str, default: ""}
  run: {description: When the run began in Unix seconds; names its work., type: float, default: 0}
  since: {description: When this drill began by the node's own clock., type: float, default: 0}
  given: {description: What acts before these brought that these need., type: dict, default: {}}
  acts:
    description: What is done, one after the other, C(do), C(args) and C(mark).
    type: list
    elements: dict
    default: []
  tidy: {description: Whether to put right what a run left that was cut off., type: bool, default: false}
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- outlast.agents.drill: {home: /srv/coz, scenario: F1, run: 1764000000, acts: [{do: ready}]}
"""
RETURN = r"""
said:
  description: Of each act C(do), C(mark), C(at) (Unix seconds), and what it found; C(wrong) where it did not come true.
  type: list
  elements: dict
  returned: always
"""

ACTS: Mapping[str, Callable[..., dict[str, Any]]] = {**drill_acts.ACTS, **drill_memory.ACTS, **drill_harm.ACTS}


def carry_out(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Do the acts until one does not come true; return what is to be said of each."""
    said = []
    since = float(values["since"])
    for act in values["acts"]:
        node = Node(Path(values["home"]), values["scenario"], float(values["run"]), since or time.time())
        more = {act["needs"]: values["given"][act["needs"]]} if act.get("needs") else {}
        told: dict[str, Any] = {"do": act["do"], "mark": act.get("mark", ""), "at": time.time()}
        _mark(node)
        try:
            told.update(ACTS[act["do"]](node, **(act.get("args") or {}), **more))
        except DrillTrouble as error:
            told["wrong"] = f"{act['do']}: {error}"
        except Exception as error:  # noqa: BLE001 (whatever it is, what was caused must end, and who reads it is told)
            told["wrong"] = f"{act['do']}: {type(error).__name__}: {' '.join(str(error).split())}"
        if act["do"] == "settle":
            _mark(node, ended=True)
        said.append(told)
        since = since or told["at"]
        if told.get("wrong"):
            break
    return said


def _mark(node: Node, ended: bool = False) -> None:
    """Have the node know that a drill runs, or no longer, so that who is told of what it causes is told so."""
    # A disk that is full on purpose may not take it; then the drill is as it is.
    with suppress(OutlastError):
        (drilling.ended if ended else drilling.ran)(node.home, time.time())


def main() -> None:
    """Run as a module on the node."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "scenario": {"type": "str", "default": ""},
            "run": {"type": "float", "default": 0},
            "since": {"type": "float", "default": 0},
            "given": {"type": "dict", "default": {}},
            "acts": {"type": "list", "elements": "dict", "default": []},
            "tidy": {"type": "bool", "default": False},
        }
    )
    os.umask(0o077)
    values = module.params
    if values["tidy"]:
        module.exit_json(changed=drill_memory.tidy(Path(values["home"])), said=[])
    module.exit_json(changed=bool(values["acts"]), said=carry_out(values))


if __name__ == "__main__":
    main()
