"""Let accounts read what is below a node's folders: see DOCUMENTATION.

Leaves to others: how a system keeps access lists (module_utils/acl.py), and when to run this (role host).
"""

from __future__ import annotations

import os
import platform
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.outlast.agents.plugins.module_utils import acl

DOCUMENTATION = r"""
module: access
short_description: Lets accounts read folders, all that is in them and all that will be
description:
  - Keeps access lists, POSIX ones on Linux and those of macOS there. Accounts that are not in the list (any more) lose
    what was granted here; entries of another kind stay.
  - Run it as the user that owns what is shared.
options:
  paths: {description: The folders., type: list, elements: path, required: true}
  readers: {description: The accounts., type: list, elements: str, required: true}
  grant:
    description: Whether they may read all that is below the folders, or only pass through the folders themselves.
    type: str
    choices: [read, traverse]
    default: read
  make: {description: Whether folders that are not there are made (0700)., type: bool, default: false}
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- outlast.agents.access: {paths: [/var/lib/outlast/workspace], readers: [dashboard]}
  become_user: outlast
"""
RETURN = r"""
opened: {description: How many paths were or would be changed., type: int, returned: always}
"""


def ensure(values: dict[str, Any], check_mode: bool) -> int:
    """Return how many paths were or would be changed; raises AclTrouble, OSError."""
    made = [path for path in values["paths"] if values["make"] and not os.path.isdir(path)]
    for path in [] if check_mode else made:
        os.makedirs(path, mode=0o700, exist_ok=True)
    there = [path for path in values["paths"] if os.path.isdir(path)]
    changed = acl.ensure(platform.system(), there, values["readers"], values["grant"], check_mode)
    return len({*made, *changed})


def main() -> None:
    """Run as a module on the node."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "required": True},
            "readers": {"type": "list", "elements": "str", "required": True},
            "grant": {"type": "str", "choices": [acl.READ, acl.TRAVERSE], "default": acl.READ},
            "make": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    os.umask(0o077)
    try:
        opened = ensure(module.params, module.check_mode)
    except acl.AclTrouble as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"outlast_readers: {error.filename}: {error.strerror}; mend: see whose it is (ls -ld)")
    module.exit_json(changed=bool(opened), opened=opened)


if __name__ == "__main__":
    main()
