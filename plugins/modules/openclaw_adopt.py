"""Lay out beside a node's own what a person's OpenClaw has: see DOCUMENTATION.

Rules kept here: nothing of the person's is changed, and nothing of the node's; what stands in the way is looked for once more,
before and after; of its configuration only names are told, never a value; `told.json` is the last thing written. Leaves to
others: reading and writing as whom (module_utils/openclaw_copying.py), putting the copy in its place
(outlast.openclaw.adopting).
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.outlast.agents.plugins.module_utils import durable, openclaw_old
from ansible_collections.outlast.agents.plugins.module_utils.openclaw_copying import CopyTrouble, Part, acting, copy

DOCUMENTATION = r"""
module: openclaw_adopt
short_description: Lays out beside a node's own what a person's OpenClaw has
description:
  - Copies the state and the workspaces of an OpenClaw that is there and does not run, as the node's user has them then.
options:
  home: {description: The node's directory., type: path, required: true}
  user: {description: The user that the node runs as; without it who this runs as., type: str, default: ''}
  from: {description: "Its state directory; without it .openclaw in the operator's home.", type: str, default: ''}
  operator: {description: Who Ansible connects as., type: str, default: ''}
  agents: {description: "The node's agents by id, each with its workspace where the inventory says it.", type: dict}
  agent: {description: The one that works in the node's own workspace., type: str, required: true}
  version: {description: The version of OpenClaw that the node has., type: str, required: true}
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- outlast.agents.openclaw_adopt: {home: /srv/coz, agents: {main: ''}, agent: main, version: 2026.9.6}
"""
RETURN = r"""
told: {description: What was laid out, and the names that its configuration knows., type: dict, returned: always}
"""

# What is made anew, belongs to the running of the old one, or is its program.
LEFT = ("cache", "tmp", "plugin-skills", "tools", "sandbox/skills-workspaces")
PROGRAM = ("lib", "bin")
# Which people keep elsewhere, with others of the kind.
FOLLOWED = frozenset({"openclaw.json", ".env"})
_ENV_BYTES = 1 << 20
# A name and what is set, which goes on over lines until its quote ends. One that is set to nothing is none of interest, and
# may be the end of a key that was put there without quotes.
_SET = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=(?!=*[ \t]*$)[ \t]*(?:(["'`])(?:\\.|(?!\2).)*(?:\2|\Z))?""",
    re.MULTILINE | re.DOTALL | re.ASCII,
)


def keys(value: Any) -> Any:
    """The names in a configuration, without what they stand for."""
    return {name: keys(inner) for name, inner in value.items()} if isinstance(value, dict) else None


def variables(folder: str) -> list[str]:
    """The names that its .env sets."""
    try:
        with open(os.path.join(folder, ".env"), encoding="utf-8", errors="replace") as file:
            return sorted({found[1] for found in _SET.finditer(file.read(_ENV_BYTES))})
    except OSError:
        return []


def parts(old: openclaw_old.Old, values: dict[str, Any]) -> list[Part]:
    """What is copied where: the state, and the workspaces of agents that the inventory gives none."""
    home, folder = values["home"], os.path.realpath(old.folder)
    beside = os.path.join(home, "var", openclaw_old.STAGED)
    skip = {*LEFT, *(PROGRAM if os.path.isdir(os.path.join(folder, "lib/node_modules/openclaw")) else ())}
    spaces = []
    for name, said in values["agents"].items():
        if name not in old.workspaces:
            continue
        skip.add(os.path.relpath(old.workspaces[name], old.folder))
        if said or not os.path.isdir(old.workspaces[name]):
            continue
        place = os.path.join(beside, "spaces", name)
        if name == values["agent"]:
            # In the workspace itself, so that its access lists hold for what comes.
            place = os.path.join(home, "workspace", openclaw_old.STAGED)
        spaces.append(Part(os.path.realpath(old.workspaces[name]), place, frozenset(), name == values["agent"]))
    return [Part(folder, os.path.join(beside, "state"), frozenset(skip), False, FOLLOWED), *spaces]


def adopt(values: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Lay it out; raises OldTrouble, CopyTrouble, OSError."""
    home = values["home"]
    old = openclaw_old.find(openclaw_old.place(values["from"], values["operator"]))
    _refuse(old, values)
    told = {
        "from": old.folder,
        "real": os.path.realpath(old.folder),
        "agents": list(old.agents),
        "keys": keys(old.config),
        "variables": variables(old.folder),
    }
    if check_mode:
        return told
    reader = os.stat(old.folder).st_uid
    writer = pwd.getpwnam(values["user"]).pw_uid if values["user"] and not os.geteuid() else os.geteuid()
    beside = os.path.join(home, "var", openclaw_old.STAGED)
    acting(writer, lambda: shutil.rmtree(beside, ignore_errors=True))
    for part in parts(old, values):
        copy(part, reader, writer)
    # It was copied as it lay only if nobody used it all the while.
    _refuse(old, values)
    acting(writer, lambda: durable.replace(os.path.join(beside, "told.json"), json.dumps(told).encode()))
    return told


def _refuse(old: openclaw_old.Old, values: dict[str, Any]) -> None:
    for one in openclaw_old.objections(old, values["home"], values["agents"], values["version"]):
        raise openclaw_old.OldTrouble(one["field"], one["wrong"], one["mend"])


def main() -> None:
    """Run as a module on the node."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "user": {"type": "str", "default": ""},
            "from": {"type": "str", "default": ""},
            "operator": {"type": "str", "default": ""},
            "agents": {"type": "dict", "required": True},
            "agent": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    os.umask(0o077)
    try:
        told = adopt(module.params, module.check_mode)
    except openclaw_old.OldTrouble as error:
        module.fail_json(msg=str(error))
    except CopyTrouble as error:
        module.fail_json(msg=f"openclaw_adopt: {error}")
    except OSError as error:
        place = error.filename or module.params["home"]
        module.fail_json(msg=f"openclaw_adopt: {place}: {error.strerror}; mend: see that it can be read and written")
    module.exit_json(changed=True, told=told)


if __name__ == "__main__":
    main()
