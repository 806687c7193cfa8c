"""Change files on trial, or take them away for good, and tell what runs: see DOCUMENTATION.

Rules kept here: none but to call; they are in module_utils/rollback.py, which also keeps watch. Leaves to others: the
login that ends a trial (plugins/action/trial.py).
"""

from __future__ import annotations

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.outlast.agents.plugins.module_utils import rollback

DOCUMENTATION = r"""
module: trial
short_description: Changes files in such a way that they change back unless a fresh login proves that nobody is locked out
description:
  - What was before is kept, the changes are made, and the commands of O(reload) are run. Whoever watches on the node brings
    back what was before, unless the controller logs in anew within O(limit), which this task does by itself.
  - The service that watches (module_utils/rollback.py) is to run already; without it nothing is changed.
options:
  files:
    description: The files as they are to be.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Where., type: path, required: true}
      content: {description: What, in base64., type: str, required: true}
      mode: {description: Its mode., type: str, default: "0600"}
  reload:
    description: Commands that make what runs agree with the files, whatever they hold; each as a list.
    type: list
    elements: list
    default: []
  limit: {description: "How long a fresh login may take, such as 60s.", type: str, default: 60s}
  limit_seconds: {description: The same in seconds; the action plugin fills it in., type: float, default: 60}
  key_only: {description: Whether the fresh login is to use a key and nothing else., type: bool, default: false}
  python: {description: "The node's Python that ends the trial; for the action plugin.", type: path, default: /usr/bin/python3}
  trash: {description: Where what was overwritten is kept., type: path, required: true}
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- outlast.agents.trial:
    files: [{path: /etc/motd, content: "{{ 'Hello' | b64encode }}", mode: "0644"}]
    trash: /var/lib/outlast/etc/replaced
"""
RETURN = r"""
kept: {description: Whether the changes stay., type: bool, returned: always}
over: {description: Whether the trial is known to be over., type: bool, returned: always}
why: {description: "Why they do not, in one line.", type: str, returned: always}
"""


def main() -> None:
    """Run as a module on the node."""
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True, "no_log": True},
                    "mode": {"type": "str", "default": "0600"},
                },
            },
            "reload": {"type": "list", "elements": "list", "default": []},
            "limit": {"type": "str", "default": "60s"},
            "limit_seconds": {"type": "float", "default": 60},
            "key_only": {"type": "bool", "default": False},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "trash": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    values: dict[str, Any] = module.params
    if module.check_mode:
        module.exit_json(changed=True, token="")
    os.umask(0o077)
    try:
        changes = rollback.changes_of(values["files"])
        token = rollback.Trial().begin(changes, values["reload"], values["limit_seconds"], values["trash"])
    except (rollback.TrialTrouble, OSError) as error:
        module.fail_json(msg=f"hardening: {error}")
    module.exit_json(changed=True, token=token)


if __name__ == "__main__":
    main()
