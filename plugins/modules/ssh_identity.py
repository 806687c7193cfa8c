"""Make a node's own SSH key: see DOCUMENTATION. Leaves to others: how (module_utils/ssh_key.py), whether (the action)."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.outlast.agents.plugins.module_utils import ssh_key

DOCUMENTATION = r"""
module: ssh_identity
short_description: Tells a node's public SSH keys, and makes its own key where there is none
description:
  - Looks first, by one command; the module is executed only where the node has no key that ssh would use.
  - Runs as the node's user, who owns etc/ssh in the home.
options:
  home: {description: The node's directory., type: path, required: true}
  node: {description: The node's name., type: str, required: true}
  host_key: {description: Where the machine keeps its public Ed25519 host key., type: path}
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- outlast.agents.ssh_identity: {home: /srv/coz, node: coz, host_key: /etc/ssh/ssh_host_ed25519_key.pub}
  become_user: outlast
"""
RETURN = r"""
own: {description: The node's own public key in base64; empty in check mode before the first run., type: str}
host: {description: The machine's public host key in base64., type: str}
let_in: {description: The keys in .ssh/authorized_keys by peer., type: dict}
known: {description: The host keys in .ssh/known_hosts by peer., type: dict}
"""


def main() -> None:
    """Run as a module on the node."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "node": {"type": "str", "required": True},
            "host_key": {"type": "path"},
        },
        # The action answers for it then: on a clean machine there is no user yet to run it as.
        supports_check_mode=False,
    )
    os.umask(0o077)
    home = module.params["home"]
    try:
        result = ssh_key.ensure(home, module.params["node"])
    except ssh_key.KeyTrouble as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}; mend: see that {home} can be written")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
