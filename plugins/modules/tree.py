"""Make directories and small files in one trip: see DOCUMENTATION.

Rules kept here: a file is replaced in one step and only after its check passed; what is overwritten or moved away is kept
in the trash; a diff never shows what stands under `environment:`. Leaves to others: what is in the files.
"""

from __future__ import annotations

import base64
import grp
import os
import pwd
import re
import shutil
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
  owner: {description: Who owns what has no owner of its own here; without it that is not looked at., type: str}
  group: {description: The group in the same way., type: str}
  directories:
    description: Directories to make, a path or a dictionary of path, mode (0700), owner and group.
    type: list
    elements: raw
    default: []
  files:
    description: Files to write.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Where., type: str, required: true}
      content: {description: What, in base64 so that no log shows it., type: str, required: true}
      mode: {description: Its mode., type: str, default: "0600"}
      owner: {description: Its owner., type: str}
      group: {description: Its group., type: str}
      check: {description: A command that must accept the new file; `%s` stands for it., type: list, elements: str}
  links: {description: Symbolic links, path to target., type: dict, default: {}}
  absent: {description: What is to be moved to the trash., type: list, elements: str, default: []}
  trash: {description: Where what is overwritten or moved away is kept., type: str, default: var/trash}
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
        """Make everything so; raises OSError, or ValueError with one line when a file or an owner is refused."""
        for entry in self.values["directories"]:
            self._directory(entry if isinstance(entry, dict) else {"path": entry})
        for file in self.values["files"]:
            self._file(file)
        for path, target in self.values["links"].items():
            self._link(path, target)
        for path in self.values["absent"]:
            self._absent(path)

    def _directory(self, entry: dict[str, Any]) -> None:
        place, mode = self._place(entry["path"]), int(str(entry.get("mode", "0700")), 8)
        uid, gid = self._ids(entry)
        if os.path.isdir(place) and fits(os.stat(place), mode, uid, gid):
            return
        self.wrote.append(entry["path"])
        if not self.check_mode:
            os.makedirs(place, mode=mode, exist_ok=True)
            os.chown(place, uid, gid)
            os.chmod(place, mode)

    def _file(self, file: dict[str, Any]) -> None:
        path, content, check = file["path"], base64.b64decode(file["content"]), file["check"]
        place, mode = self._place(path), int(file["mode"], 8)
        uid, gid = self._ids(file)
        before = None
        if os.path.exists(place):
            with open(place, "rb") as opened:
                before = opened.read()
            if before == content and fits(os.stat(place), mode, uid, gid):
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
            durable.replace(self._kept(path), before)
        durable.replace(place, content, mode, (uid, gid))

    def _try_out(self, place: str, content: bytes, check: list[str]) -> None:
        candidate = f"{place}.candidate.{os.getpid()}"
        # In check mode on a clean machine there may be no directory to put it in yet.
        if not os.path.isdir(os.path.dirname(candidate)):
            return
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
            if os.path.lexists(place) and not os.path.islink(place):
                shutil.move(place, self._kept(path))
            durable.switch_link(place, target)

    def _absent(self, path: str) -> None:
        place = self._place(path)
        if not os.path.lexists(place):
            return
        self.wrote.append(path)
        if not self.check_mode:
            shutil.move(place, self._kept(path))
            durable.sync_directory(os.path.dirname(place))

    def _kept(self, path: str) -> str:
        """Where in the trash something is kept, under a name that tells when and from where."""
        trash = self._place(self.values["trash"])
        os.makedirs(trash, mode=0o700, exist_ok=True)
        return os.path.join(trash, f"{time.strftime('%Y-%m-%dT%H%M%S')}-{path.strip('/').replace('/', '_')}")

    def _ids(self, entry: dict[str, Any]) -> tuple[int, int]:
        """The owner's and group's numbers, -1 where none is asked for; raises ValueError where there is none."""
        uid = gid = -1
        try:
            if owner := entry.get("owner") or self.values["owner"]:
                uid = pwd.getpwnam(owner).pw_uid
            if group := entry.get("group") or self.values["group"]:
                gid = grp.getgrnam(group).gr_gid
        except KeyError as error:
            if not self.check_mode:
                raise ValueError(f"{entry['path']}: {error.args[0]}; mend: run the whole of site.yml") from error
            # It would have been made by now.
            return -2, -2
        return uid, gid

    def _place(self, *parts: str) -> str:
        return os.path.normpath(os.path.join(self.values["root"], *parts))


def fits(status: os.stat_result, mode: int, uid: int, gid: int) -> bool:
    """Whether mode and owners are as asked; -1 means that they do not matter."""
    return stat.S_IMODE(status.st_mode) == mode and uid in (-1, status.st_uid) and gid in (-1, status.st_gid)


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
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "directories": {"type": "list", "elements": "raw", "default": []},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "content": {"type": "str", "required": True, "no_log": True},
                    "mode": {"type": "str", "default": "0600"},
                    "owner": {"type": "str"},
                    "group": {"type": "str"},
                    "check": {"type": "list", "elements": "str"},
                },
            },
            "links": {"type": "dict", "default": {}},
            "absent": {"type": "list", "elements": "str", "default": []},
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
