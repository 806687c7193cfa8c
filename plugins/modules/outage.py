"""Cause a failure of a node's machine, and end it: see DOCUMENTATION.

Rules kept here: what is caused ends by itself after a while, whoever asked for it; an error is one line, and never keeps
another failure from being ended. Leaves to others: how it is held (module_utils/holding.py), what the failures are
(module_utils/outages.py), which and when (plugins/action/outage.py).
"""

from __future__ import annotations

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.outlast.agents.plugins.module_utils import holding, outages

DOCUMENTATION = r"""
module: outage
short_description: Causes a failure of a node's machine, and ends it
description:
  - Has a process hold each failure of O(begin), and the failures of O(end) undone; with O(state=tidy) all that is held.
  - A failure whose time is over, or whose process is told to end, is undone by that process.
options:
  home: {description: The node's directory., type: path, required: true}
  state: {description: Where the holders note how they are; below /var/run for root., type: path, required: true}
  manager: {description: What keeps the runtime running., type: str, required: true}
  real: {description: Whether the machine is the node's own., type: bool, default: false}
  peers: {description: The address of each node that it is cut off from., type: dict, default: {}}
  begin:
    description: What is caused, C(kind) and C(limit_s), in this order.
    type: list
    elements: dict
    default: []
  end: {description: What ends., type: list, elements: str, default: []}
  tidy: {description: Whether all ends that is held., type: bool, default: false}
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- outlast.agents.outage: {home: /srv/coz, state: /srv/coz/run/drill, manager: supervisord, end: [sleep]}
"""
RETURN = r"""
done:
  description: Of each failure C(kind), C(at) (Unix seconds) and C(facts), or C(wrong) in one line.
  type: list
  elements: dict
  returned: always
"""


def main() -> None:
    """Run as a module on the node."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "state": {"type": "path", "required": True},
            "manager": {"type": "str", "required": True},
            "real": {"type": "bool", "default": False},
            "peers": {"type": "dict", "default": {}},
            "begin": {"type": "list", "elements": "dict", "default": []},
            "end": {"type": "list", "elements": "str", "default": []},
            "tidy": {"type": "bool", "default": False},
        }
    )
    os.umask(0o077)
    values = module.params
    done: list[dict[str, Any]] = []
    for one in values["begin"]:
        failure, place = outages.OUTAGES[one["kind"]], outages.Place(values)
        said = holding.begin(values["state"], one["kind"], lambda f=failure, p=place: f(p), float(one["limit_s"]))
        done.append({"kind": one["kind"], **said})
        if "wrong" in said:
            break
    names = list(holding.held(values["state"])) if values["tidy"] else values["end"]
    done += [{"kind": name, **ended} for name in names if (ended := holding.end(values["state"], name))]
    module.exit_json(changed=bool(done), done=done)


if __name__ == "__main__":
    main()
