"""Make a node's directories and small files in one trip: see DOCUMENTATION.

Rules kept here: a file is replaced in one step and only after its check passed; what is overwritten is kept in the
node's trash; a diff never shows what stands under `environment:`. Leaves to others: what is in the files.
"""

from __future__ import annotations

import base64
import os
import re
import stat
import subprocess
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.outlast.agents.plugins.module_utils import durable

DOCUMENTATION = r"""
module: tree
short_description: Makes directories, files and links below one root in one trip
options:
  root: {description: The directory that all paths are relative to., type: path, required: true}
  directories: {description: Directories to make, with the mode 0700., type: list, elements: str, default: []}
  files:
    description: Files to write, with the mode 0600.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Where., type: str, required: true}
      content: {description: What, in base64 so that no log shows it., type: str, required: true}
      check: {description: A command that must accept the new file; `%s` stands for it., type: list, elements: str}
  links: {description: Symbolic links, path to target., type: dict, default: {}}
  trash: {description: Where a file that is overwritten is kept., type: str, default: var/trash}
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- outlast.agents.tree:
    root: /srv/coz
    directories: [etc]
    files: [{path: etc/node.yml, content: "{{ lookup('ansible.builtin.template', 'node.yml.j2') | b64encode }}"}]
"""
RETURN = r"""
wrote: {description: The paths that were or would be made or changed., type: list, elements: str, returned: always}
"""


class Tree:
    """What is to be below one root."""

    def __init__(self, values: dict[str, Any], check_mode: bool) -> None:
        self.values = values
        self.check_mode = check_mode
        self.wrote: list[str] = []
        self.diffs: list[dict[str, str]] = []

    def ensure(self) -> None:
        """Make everything so; raises OSError, or ValueError with one line when a file is refused."""
        for path in ["", *self.values["directories"]]:
            self._directory(path)
        for file in self.values["files"]:
            self._file(file["path"], base64.b64decode(file["content"]), file["check"])
        for path, target in self.values["links"].items():
            self._link(path, target)

    def _directory(self, path: str) -> None:
        place = self._place(path)
        if os.path.isdir(place) and stat.S_IMODE(os.stat(place).st_mode) == 0o700:
            return
        self.wrote.append(path or ".")
        if not self.check_mode:
            os.makedirs(place, mode=0o700, exist_ok=True)
            os.chmod(place, 0o700)

    def _file(self, path: str, content: bytes, check: list[str] | None) -> None:
        place = self._place(path)
        before = None
        if os.path.exists(place):
            with open(place, "rb") as file:
                before = file.read()
            if before == content and stat.S_IMODE(os.stat(place).st_mode) == 0o600:
                return
        self.wrote.append(path)
        self.diffs.append(
            {"before": masked(before or b""), "after": masked(content), "before_header": path, "after_header": path}
        )
        if check and os.path.exists(os.path.join(self.values["root"], check[0])):
            self._try_out(place, content, check)
        if self.check_mode:
            return
        if before is not None and before != content:
            stamp = time.strftime("%Y-%m-%dT%H%M%S")
            durable.replace(self._place(self.values["trash"], f"{stamp}-{os.path.basename(path)}"), before)
        durable.replace(place, content)

    def _try_out(self, place: str, content: bytes, check: list[str]) -> None:
        candidate = f"{place}.candidate.{os.getpid()}"
        durable.replace(candidate, content)
        try:
            command = [self._place(check[0]), *(candidate if word == "%s" else word for word in check[1:])]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        finally:
            os.unlink(candidate)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().replace(candidate, place).splitlines()
            raise ValueError(said[-1] if said else f"{place}: refused by {check[0]}")

    def _link(self, path: str, target: str) -> None:
        place = self._place(path)
        if os.path.islink(place) and os.readlink(place) == target:
            return
        self.wrote.append(path)
        if not self.check_mode:
            durable.switch_link(place, target)

    def _place(self, *parts: str) -> str:
        return os.path.normpath(os.path.join(self.values["root"], *parts))


def masked(content: bytes) -> str:
    """The text with every value below an `environment:` line hidden: operators put tokens there."""
    lines: list[str] = []
    depth = None
    for line in content.decode("utf-8", "replace").splitlines():
        indent = len(line) - len(line.lstrip())
        if depth is not None and line.strip() and indent > depth:
            key = re.match(r"\s*[\w.-]+:", line)
            lines.append(f"{key.group() if key else ' ' * indent} ********")
            continue
        depth = indent if line.strip().startswith("environment:") else None
        lines.append(re.sub(r"(\s*environment:).+", r"\1 ********", line) if depth is not None else line)
    return "\n".join(lines) + ("\n" if lines else "")


def main() -> None:
    """Run as a module on the node."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "directories": {"type": "list", "elements": "str", "default": []},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "content": {"type": "str", "required": True, "no_log": True},
                    "check": {"type": "list", "elements": "str"},
                },
            },
            "links": {"type": "dict", "default": {}},
            "trash": {"type": "str", "default": "var/trash"},
        },
        supports_check_mode=True,
    )
    os.umask(0o077)
    tree = Tree(module.params, module.check_mode)
    try:
        tree.ensure()
    except ValueError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        place = error.filename or module.params["root"]
        module.fail_json(
            msg=f"{place}: {error.strerror}; mend: see that it can be written, and run the same command again"
        )
    module.exit_json(changed=bool(tree.wrote), wrote=tree.wrote, diff=tree.diffs)


if __name__ == "__main__":
    main()
