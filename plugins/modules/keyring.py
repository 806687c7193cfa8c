"""Make a node's own key, hand it out, and take in those of others: see DOCUMENTATION.

Rules kept here: a key is written with the mode 0600 from the first moment; secrets never enter a message. Leaves to
others: what a key looks like inside (the runtime makes it), who gets whose key (the role `keys`).
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.outlast.agents.plugins.module_utils import durable

DOCUMENTATION = r"""
module: keyring
short_description: Keeps the keys in a node's etc/keys
description:
  - Without O(keys) it makes the node's own key if there is none, and returns it.
  - With O(keys) it writes the keys of other nodes.
options:
  home: {description: The node's directory., type: path, required: true}
  node: {description: The node's name., type: str, required: true}
  keys: {description: Keys of other nodes, name to text., type: dict, default: {}}
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- outlast.agents.keyring: {home: /srv/coz, node: coz}
  no_log: true
"""
RETURN = r"""
own: {description: The text of the node's own key file; empty in check mode before the first run., type: str}
"""


class KeyTrouble(Exception):
    """One line that says what is wrong with a key and the mend."""


def read(path: str) -> bytes:
    """A key file's bytes; raises KeyTrouble when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        mend = "see that it is a plain file of yours with the mode 0600"
        raise KeyTrouble(f"{path}: {error.strerror}; mend: {mend}") from error


def make_own(home: str, node: str, check_mode: bool) -> tuple[bool, str]:
    """Have the runtime make the node's key if there is none; return whether that changed anything, and the key."""
    path = os.path.join(home, "etc", "keys", f"{node}.key")
    if not os.path.exists(path):
        if check_mode:
            return True, ""
        program = os.path.join(home, "current", "bin", "outlast")
        command = [program, "--home", home, "keys", "init", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"{program} ended with {done.returncode}"]
            raise KeyTrouble(said[-1])
        return bool(json.loads(done.stdout)["changed"]), read(path).decode("ascii")
    return False, read(path).decode("ascii")


def write(home: str, keys: dict[str, str], check_mode: bool) -> bool:
    """Write the keys that differ; return whether any did."""
    changed = False
    for name, text in keys.items():
        path = os.path.join(home, "etc", "keys", f"{name}.key")
        if os.path.exists(path) and read(path) == text.encode():
            continue
        changed = True
        if not check_mode:
            durable.replace(path, text.encode())
    return changed


def main() -> None:
    """Run as a module on the node."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "node": {"type": "str", "required": True},
            "keys": {"type": "dict", "default": {}, "no_log": True},
        },
        supports_check_mode=True,
    )
    os.umask(0o077)
    home, keys = module.params["home"], module.params["keys"]
    result: dict[str, Any] = {}
    try:
        if keys:
            result["changed"] = write(home, keys, module.check_mode)
        else:
            result["changed"], result["own"] = make_own(home, module.params["node"], module.check_mode)
    except (KeyTrouble, UnicodeDecodeError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}; mend: see that {home} can be written")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
