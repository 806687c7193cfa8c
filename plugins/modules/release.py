"""Build and switch to a release of the runtime on a node: see DOCUMENTATION.

Rules kept here: `.complete` is the last thing written, after the rest is on the disk; what has none is thrown away and
built anew; one build at a time in a home (an interrupted playbook may leave its build running); `current` moves in one
step and only to a complete release. Leaves to others: packing the source (plugins/action/release.py).
"""

from __future__ import annotations

import base64
import contextlib
import errno
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.outlast.agents.plugins.module_utils import durable, venv_pip
from ansible_collections.outlast.agents.plugins.module_utils.builds import (
    BuildError,
    disk_full,
    linked,
    lock,
    unreachable,
)

DOCUMENTATION = r"""
module: release
short_description: Puts a release of the runtime into a node's home
description:
  - Without an archive it answers whether the release is there, and makes it the current one if so.
  - With an archive it builds the release in a virtual environment of its own and makes it the current one.
options:
  home: {description: The node's directory., type: path, required: true}
  digest: {description: Names the release; of its source and its lock., type: str}
  archive: {description: The packed source in base64; the action plugin adds it., type: str}
  wheelhouse: {description: A directory on the node to take packages from instead of the network., type: path}
  keep: {description: How many complete releases stay., type: int, default: 3}
  shared: {description: Whether other users than the one that builds it may run it., type: bool, default: false}
  trial:
    description: Whether a release that becomes the current one is on trial until it is proved.
    type: bool
    default: false
  state:
    description:
      - With C(proved) the trial of the current release is over. With C(previous) one that is still on trial gives way to
        the one before it. Neither does anything where there is no trial.
    type: str
    choices: [current, proved, previous]
    default: current
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- outlast.agents.release: {home: /srv/coz}
"""
RETURN = r"""
present: {description: Whether the release is complete., type: bool, returned: always}
now: {description: The digest of the current release., type: str, returned: when a trial was to end}
"""


class Releases:
    """The releases in one home."""

    def __init__(self, home: str, digest: str) -> None:
        self.home = home
        self.digest = digest
        self.path = os.path.join(home, "releases", digest)
        self.current = os.path.join(home, "current")
        self.previous = os.path.join(home, "previous")
        self.configuration = os.path.join(home, "etc", "node.yml")

    def is_complete(self, path: str | None = None) -> bool:
        """Whether it was built to the end and its Python is still there."""
        path = path or self.path
        return all(os.path.exists(os.path.join(path, name)) for name in (".complete", "bin/python"))

    def is_current(self) -> bool:
        """Whether `current` points to this release."""
        return bool(linked(self.current) == self.digest)

    def make_current(self, *, on_trial: bool = False) -> None:
        """Point `current` here, and `previous` to where it pointed; raises OSError."""
        if (before := linked(self.current)) and before != self.digest:
            durable.switch_link(self.previous, f"releases/{before}")
            if on_trial:
                # An older runtime may refuse what a newer configuration says, so both go back together.
                durable.replace(self._trial(self.digest), read(self.configuration))
            elif os.path.exists(self._trial(self.digest)):
                # Left of one that it did not stand.
                os.unlink(self._trial(self.digest))
        durable.switch_link(self.current, f"releases/{self.digest}")

    def is_on_trial(self) -> bool:
        """Whether the current release has not been proved, and there is one to go back to."""
        return os.path.exists(self._trial(linked(self.current))) and self.is_complete(self.previous)

    def prove(self) -> None:
        """End the trial; raises OSError."""
        os.unlink(self._trial(linked(self.current)))

    def go_back(self) -> None:
        """Make the release before the current one the current one, with its configuration; raises OSError."""
        before = read(self._trial(linked(self.current)))
        if before:
            status = os.stat(self.configuration)
            owner = (status.st_uid, status.st_gid)
            durable.replace(self.configuration, before, stat.S_IMODE(status.st_mode), owner)
        durable.switch_link(self.current, os.readlink(self.previous))

    def _trial(self, digest: str) -> str:
        return os.path.join(self.home, "releases", digest, ".trial")

    def build(self, archive: bytes, wheelhouse: str | None) -> None:
        """Build it; raises BuildError or OSError."""
        shutil.rmtree(self.path, ignore_errors=True)
        # The base interpreter: a virtual environment made from another one would break with it.
        base = getattr(sys, "_base_executable", sys.executable)
        self._run([base, "-m", "venv", "--without-pip", self.path])
        source = os.path.join(self.path, "source")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            # Debian 12's Python is older than the filter; the archive is our own.
            if hasattr(tarfile, "data_filter"):
                tar.extractall(source, filter="data")
            else:
                tar.extractall(source)  # noqa: S202
        pip = venv_pip.pip_command()
        if pip is None:
            raise BuildError("python", f"{sys.executable} has no pip", "install the package python3-venv there")
        pip += ["--python", os.path.join(self.path, "bin", "python"), "--disable-pip-version-check", "--no-input"]
        pip += ["install", "--root-user-action", "ignore"]
        where = ["--no-index", "--find-links", wheelhouse] if wheelhouse else []
        lock = os.path.join(source, "requirements.txt")
        self._run([*pip, *where, "--require-hashes", "--only-binary", ":all:", "-r", lock])
        self._run([*pip, "--no-index", "--no-deps", "--no-build-isolation", source])
        # Without this a power cut could keep the marker and lose what it vouches for.
        os.sync()
        durable.replace(os.path.join(self.path, ".complete"), f"{self.digest}\n".encode())

    def prune(self, keep: int) -> None:
        """Remove what was never finished, and the oldest beyond the number to keep; never the one before this."""
        parent = os.path.dirname(self.path)
        stay = {self.digest, linked(self.previous)} - {""}
        with os.scandir(parent) as entries:
            others = [entry.path for entry in entries if entry.is_dir() and entry.name not in stay]
        others.sort(key=os.path.getmtime, reverse=True)
        complete = [path for path in others if self.is_complete(path)]
        for path in {*others} - {*complete[: max(keep - len(stay), 0)]}:
            shutil.rmtree(path, ignore_errors=True)

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            log = os.path.join(self.path, "build.log")
            with contextlib.suppress(OSError), open(log, "a") as file:
                file.write(done.stdout + done.stderr)
            raise explain(done.stdout + done.stderr, self.home, log)


def read(path: str) -> bytes:
    """What a file holds; nothing where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def explain(output: str, home: str, log: str) -> BuildError:
    """Make one line of what pip or venv said."""
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return disk_full(home)
    if "THESE PACKAGES DO NOT MATCH THE HASHES" in output:
        return BuildError("packages", "a package is not the one in the lock", "look at who serves your packages")
    if unreachable(output):
        return BuildError(
            "network", "the package index cannot be reached", "look at the network there, or set outlast_wheelhouse"
        )
    if "Could not find a version" in output or "No matching distribution" in output:
        wanted = next(
            (line for line in output.splitlines() if "No matching distribution" in line), "a package is missing"
        )
        return BuildError(
            "packages", wanted.removeprefix("ERROR: "), "look at outlast_wheelhouse and the network there"
        )
    lines = [line for line in output.splitlines() if line.strip()]
    return BuildError("release", lines[-1] if lines else "the build failed", f"see {log}")


def make_parents(home: str) -> None:
    """The home and its releases, private from the first moment."""
    for path in (home, os.path.join(home, "releases")):
        os.makedirs(path, mode=0o700, exist_ok=True)


def ensure(releases: Releases, values: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Do what is asked, as far as it can be done without or with the archive; raises BuildError or OSError."""
    present, current = releases.is_complete(), releases.is_current()
    if (present and current) or check_mode or (not present and not values["archive"]):
        return {"changed": not (present and current), "present": present}
    make_parents(releases.home)
    descriptor = lock(os.path.join(releases.home, "releases"))
    try:
        if values["shared"]:
            os.umask(0o022)
            os.chmod(os.path.dirname(releases.path), 0o755)  # noqa: S103 (the home above it is closed)
        if not releases.is_complete():
            releases.build(base64.b64decode(values["archive"]), values["wheelhouse"])
        releases.make_current(on_trial=values["trial"])
        releases.prune(values["keep"])
    finally:
        os.close(descriptor)
    return {"changed": True, "present": True}


def settle(releases: Releases, state: str, check_mode: bool) -> dict[str, Any]:
    """End the trial of the current release, well (proved) or not (previous); raises BuildError or OSError."""
    changed = releases.is_on_trial()
    if changed and not check_mode:
        if state == "previous":
            releases.go_back()
        else:
            releases.prove()
    return {"changed": changed, "present": True, "now": linked(releases.current)}


def main() -> None:
    """Run as a module on the node."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "digest": {"type": "str", "default": ""},
            "archive": {"type": "str", "no_log": True},
            "wheelhouse": {"type": "path"},
            "keep": {"type": "int", "default": 3},
            "shared": {"type": "bool", "default": False},
            "trial": {"type": "bool", "default": False},
            "state": {"type": "str", "choices": ["current", "proved", "previous"], "default": "current"},
        },
        required_if=[("state", "current", ("digest",))],
        supports_check_mode=True,
    )
    os.umask(0o077)
    releases = Releases(module.params["home"], module.params["digest"])
    try:
        if module.params["state"] == "current":
            result = ensure(releases, module.params, module.check_mode)
        else:
            result = settle(releases, module.params["state"], module.check_mode)
    except BuildError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            module.fail_json(msg=str(disk_full(module.params["home"])))
        place = error.filename or module.params["home"]
        trouble = BuildError("release", f"{place}: {error.strerror}", "see that this directory can be written")
        module.fail_json(msg=str(trouble))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
