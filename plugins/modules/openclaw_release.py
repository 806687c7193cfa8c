"""Put a release of OpenClaw, with its Node.js, on a machine: see DOCUMENTATION.

Rules kept here: `.complete` is the last thing written, after the rest is on the disk; what has none is built anew, beside
what is there, and takes its place once it is whole; one at a time changes a folder. Each node has links of its own, as
several may share the releases: `current-NODE` moves in one step and only to a complete release; `previous-NODE` is the one
that the node was proven with, whatever was tried since; what any link names stays. Leaves to others: how one is built
(module_utils/openclaw_build.py), what is in the lock (plugins/action/openclaw_release.py), what a node was proven with
(outlast.openclaw.applying), restarting the gateway (roles/service).
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.outlast.agents.plugins.module_utils import durable, openclaw_build
from ansible_collections.outlast.agents.plugins.module_utils.builds import BuildError, disk_full, linked, lock

DOCUMENTATION = r"""
module: openclaw_release
short_description: Puts a release of OpenClaw, with its Node.js, on a machine
description:
  - Without sources it answers whether the release is there, and makes it the current one if so.
  - With sources it builds the release from them and makes it the current one.
options:
  dir: {description: The directory with its releases; several nodes may share it., type: path, required: true}
  node: {description: Whose release it is., type: str, required: true}
  home: {description: "The node's directory, which tells what it was proven with.", type: path, required: true}
  version: {description: The version of OpenClaw., type: str, default: ""}
  digest: {description: Names the release, with the version., type: str, default: ""}
  sources: {description: "requirements.txt, package.json and package-lock.json; the action plugin adds them.", type: dict}
  wheelhouse: {description: A directory on the node to take Node.js from instead of the network., type: path}
  npm_cache: {description: A directory in which npm keeps what it downloads., type: path}
  keep: {description: How many complete releases stay., type: int, default: 2}
  shared: {description: Whether other users than the one that builds it may run it., type: bool, default: false}
  state:
    description:
      - With C(previous) the node's release is that of O(to) again, which is never built.
      - Without O(to) it is the one that its configuration was made for last, where it is there.
    type: str
    choices: [current, previous]
    default: current
  to: {description: "With C(previous): the name of the release to go back to.", type: str, default: ""}
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- outlast.agents.openclaw_release: {home: /srv/coz, dir: /srv/coz/openclaw, version: 2026.9.6}
"""
RETURN = r"""
present: {description: Whether the release is complete., type: bool, returned: always}
before: {description: The release that was current before., type: str, returned: always}
now: {description: The release that is current now., type: str, returned: always}
"""


LINKS = ("current", "previous")


class Releases:
    """The releases of OpenClaw in one folder, as one node sees them."""

    def __init__(self, folder: str, name: str, node: str = "", home: str = "") -> None:
        self.top = folder
        self.folder = os.path.join(folder, "releases")
        self.name = name
        self.path = os.path.join(self.folder, name)
        self.current, self.previous = (os.path.join(folder, f"{link}-{node}" if node else link) for link in LINKS)
        self.said = os.path.join(home, "etc", "openclaw") if home else ""

    def is_complete(self, path: str | None = None) -> bool:
        """Whether it was built to the end, and nothing of it was deleted since."""
        path = path or self.path
        needed = (".complete", openclaw_build.NODE, openclaw_build.OPENCLAW)
        try:
            return all(os.path.exists(os.path.join(path, name)) for name in needed) and not openclaw_build.lacking(path)
        except (OSError, ValueError, KeyError):
            return False

    def configured(self) -> str:
        """The release that the node's configuration was made for last, on trial or not; empty where there is none."""
        return self._told("release")

    def proven(self) -> str:
        """The release that the node worked with before whatever is on trial there; empty where nobody knows."""
        return self._told("before", "release") or self.configured() or linked(self.current)

    def _told(self, *names: str) -> str:
        """A release that the node's files name. They are the node's user's: no link, no pipe, and no path is followed."""
        if not self.said:
            return ""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            descriptor = os.open(os.path.join(self.said, *names), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                name = os.read(descriptor, 256).decode().strip()
            finally:
                os.close(descriptor)
            return name if name not in (os.curdir, os.pardir) and os.path.basename(name) == name else ""
        return ""

    def make_current(self) -> None:
        """Point `current` here, and `previous` to what the node was proven with; raises OSError."""
        proven = self.proven()
        if proven not in ("", self.name) and os.path.isdir(os.path.join(self.folder, proven)):
            durable.switch_link(self.previous, f"releases/{proven}")
        durable.switch_link(self.current, f"releases/{self.name}")

    def prune(self, keep: int) -> None:
        """Remove what was never finished, and the oldest beyond the number to keep; never what a link of any node names."""
        with os.scandir(self.top) as entries:
            links = [entry.path for entry in entries if entry.is_symlink() and entry.name.partition("-")[0] in LINKS]
        stay = {self.name, *map(linked, links)} - {""}
        with os.scandir(self.folder) as entries:
            others = [entry.path for entry in entries if entry.is_dir() and entry.name not in stay]
        others.sort(key=os.path.getmtime, reverse=True)
        complete = [path for path in others if self.is_complete(path) and not path.endswith(openclaw_build.ASIDE)]
        for path in {*others} - {*complete[: max(keep - len(stay), 0)]}:
            openclaw_build.remove(path)


def ensure(releases: Releases, values: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Do what is asked, as far as it can be done without or with the sources; raises BuildError or OSError."""
    present, before = releases.is_complete(), linked(releases.current)
    is_so = present and before == releases.name
    if is_so or check_mode or (not present and not values["sources"]):
        return {"changed": not is_so, "present": present, "before": before, "now": before}
    if values["shared"]:
        # Also what is above it and was not there: the node's user goes through it.
        os.umask(0o022)
    os.makedirs(releases.folder, mode=0o755 if values["shared"] else 0o700, exist_ok=True)
    with alone(releases):
        if values["shared"]:
            for path in (releases.folder, releases.top):
                os.chmod(path, 0o755)  # noqa: S103 (the home above it is closed)
        if not releases.is_complete():
            sources = openclaw_build.with_lock(releases.path, values["sources"])
            build = openclaw_build.Build(f"{releases.path}.new", values["version"], sources)
            build.run(values["wheelhouse"], values["npm_cache"])
            openclaw_build.exchange(build.path, releases.path)
        releases.make_current()
        releases.prune(values["keep"])
    return {"changed": True, "present": True, "before": before, "now": releases.name}


def previous(releases: Releases, to: str, check_mode: bool) -> dict[str, Any]:
    """Make a release that was there before the node's again, or nothing where it is; raises BuildError or OSError."""
    before, name = linked(releases.current), to or releases.configured()
    there = {"present": True, "before": before}
    if not name or name == before or check_mode:
        return {**there, "changed": bool(name) and name != before, "now": before}
    with alone(releases):
        if os.path.basename(name) != name or not releases.is_complete(os.path.join(releases.folder, name)):
            wrong = f"{name}, which worked before, is not there whole"
            raise BuildError("openclaw", wrong, "ansible-playbook site.yml, with its openclaw_version, builds it anew")
        durable.switch_link(releases.current, f"releases/{name}")
    return {**there, "changed": True, "now": name}


@contextlib.contextmanager
def alone(releases: Releases) -> Iterator[None]:
    """Meanwhile nobody else changes the folder; raises BuildError or OSError."""
    descriptor = lock(releases.folder)
    try:
        yield
    finally:
        os.close(descriptor)


def main() -> None:
    """Run as a module on the node."""
    module = AnsibleModule(
        argument_spec={
            "dir": {"type": "path", "required": True},
            "node": {"type": "str", "required": True},
            "home": {"type": "path", "required": True},
            "version": {"type": "str", "default": ""},
            "digest": {"type": "str", "default": ""},
            "sources": {"type": "dict"},
            "wheelhouse": {"type": "path"},
            "npm_cache": {"type": "path"},
            "keep": {"type": "int", "default": 2},
            "shared": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["current", "previous"], "default": "current"},
            "to": {"type": "str", "default": ""},
        },
        required_if=[("state", "current", ("version", "digest"))],
        supports_check_mode=True,
    )
    os.umask(0o077)
    values = module.params
    releases = Releases(values["dir"], f"{values['version']}-{values['digest']}", values["node"], values["home"])
    try:
        if values["state"] == "current":
            result = ensure(releases, values, module.check_mode)
        else:
            result = previous(releases, values["to"], module.check_mode)
    except BuildError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            module.fail_json(msg=str(disk_full(values["dir"])))
        place = error.filename or values["dir"]
        trouble = BuildError("openclaw_dir", f"{place}: {error.strerror}", "see that this directory can be written")
        module.fail_json(msg=str(trouble))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
