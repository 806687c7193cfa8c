"""Make a machine's own WireGuard key: see DOCUMENTATION.

Rules kept here: the private half is on the disk before the public one is told, and in no argument, output or log; what was
there in its place is kept. Leaves to others: whether there is one already (plugins/action/machine.py), who is in the mesh.
"""

from __future__ import annotations

import os
import re
import shutil
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.outlast.agents.plugins.module_utils import durable

DOCUMENTATION = r"""
module: mesh_key
short_description: Makes a machine's own key of the WireGuard mesh, and tells its public half
description:
  - Asks C(wg) for a private key, writes it with mode 0600, and tells the public half.
  - A key that works is left as it is; what is there and is no key is moved to O(trash).
options:
  path: {description: Where the private key lies., type: path, default: /etc/wireguard/outlast.key}
  trash: {description: Where what was in its place is kept., type: path, required: true}
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- outlast.agents.mesh_key: {trash: /srv/coz/etc/replaced}
"""
RETURN = r"""
public: {description: The public half in base64., type: str, returned: always}
"""

_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")


def main() -> None:
    """Run as a module on the machine, as root."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/etc/wireguard/outlast.key"},
            "trash": {"type": "path", "required": True},
        }
    )
    os.umask(0o077)
    path, trash = module.params["path"], module.params["trash"]

    def public(private: str) -> str:
        code, said, _ = module.run_command(["wg", "pubkey"], data=private)
        return said.strip() if not code and _KEY.fullmatch(said.strip()) else ""

    try:
        if os.path.lexists(path):
            with open(path, encoding="ascii", errors="replace") as file:
                if key := public(file.read()):
                    module.exit_json(changed=False, public=key)
            os.makedirs(trash, mode=0o700, exist_ok=True)
            shutil.move(path, os.path.join(trash, f"{time.strftime('%Y-%m-%dT%H%M%S')}-{os.path.basename(path)}"))
        code, private, wrong = module.run_command(["wg", "genkey"])
        key = "" if code else public(private)
        if not key:
            said = next(iter(wrong.splitlines()), "no answer that is a key")
            module.fail_json(
                msg=f"wg genkey: {said}; mend: see that wireguard-tools are whole, then the same command again"
            )
        durable.replace(path, private.encode("ascii"))
    except OSError as error:
        place = error.filename or path
        module.fail_json(
            msg=f"{place}: {error.strerror}; mend: see that it can be written, then the same command again"
        )
    module.exit_json(changed=True, public=key)


if __name__ == "__main__":
    main()
