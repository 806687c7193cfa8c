"""An OpenClaw that a person installed: where it is, what it is like, and why it cannot be adopted yet.

Keeps: standard library only, on any Python that Ansible can use; nothing of it is changed; no value of its configuration is
told, only what it is about. Whether it runs is asked of the kernel, by the locks that SQLite holds on its databases for as
long as anybody has them open: a process may be called anything, and a lock file may be left behind.

Leaves to others: copying it (openclaw_copying), and what becomes of the copy (outlast.openclaw.adopting).
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import pwd
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.outlast.agents.plugins.module_utils import json5
from ansible_collections.outlast.agents.plugins.module_utils.machine import finding

__all__ = ["MARK", "STAGED", "Old", "OldTrouble", "check", "find", "objections", "place"]

# There once it was adopted; and where a copy is laid out until it is in its place.
MARK, STAGED = "var/home/.openclaw/outlast-adopted.json", ".restore-adopt"
# A gateway of 2026 keeps its state in it.
DATABASE = "state/openclaw.sqlite"
_DATABASES = ("state/*.sqlite", "agents/*/agent/*.sqlite", "tmp/openclaw*/*.sqlite")
# struct flock, as the two systems have it: what fcntl(2) is asked with, and where it answers who holds a lock.
_FLOCK = "qqihh" if sys.platform == "darwin" else "hhqqi4x"
_CONFIG_BYTES, _INCLUDES = 4 << 20, 10
_AGENT = "agents/*/agent/openclaw-agent.sqlite"


class OldTrouble(Exception):
    """Why it cannot be adopted: field, wrong and mend."""

    def __init__(self, field: str, wrong: str, mend: str) -> None:
        super().__init__(f"{field}: {wrong}; mend: {mend}")
        self.finding = finding(field, wrong, mend)


@dataclass(frozen=True)
class Old:
    """What is known of it. ``workspaces``: where each of its agents works; ``agents``: those that have sessions."""

    folder: str
    config: dict[str, Any]
    agents: tuple[str, ...]
    workspaces: dict[str, str]

    @property
    def owner(self) -> str:
        """Whose it is."""
        uid = os.stat(self.folder).st_uid
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return f"uid {uid}"


def check(home: str, wish: dict[str, Any]) -> list[dict[str, str]]:
    """All that stands in the way of adopting what is wished for (plugins/action/openclaw_adopt.py)."""
    if os.path.exists(os.path.join(home, MARK)):
        return []
    try:
        old = find(place(wish["from"], wish["operator"]))
        return list(objections(old, home, wish["agents"], wish["version"]))
    except OldTrouble as error:
        return [error.finding]


def place(said: str, operator: str) -> str:
    """The state directory that is meant: as said, below the home of who Ansible connects as. Raises OldTrouble."""
    home = _home(operator)
    if not said or said == "~" or said.startswith("~/"):
        return os.path.normpath(os.path.join(home, said[2:] or ".openclaw"))
    if not os.path.isabs(said):
        mend = "write its whole path, as `openclaw status` tells it, or one that begins with ~/"
        raise OldTrouble("openclaw_adopt_from", f"{said!r} is not an absolute path", mend)
    return os.path.normpath(said)


def _home(operator: str) -> str:
    # Where root looks on somebody's behalf, HOME is root's.
    for name in (operator, os.environ.get("SUDO_USER", "")):
        try:
            return pwd.getpwnam(name).pw_dir
        except KeyError:
            continue
    return pwd.getpwuid(os.getuid()).pw_dir


def find(folder: str) -> Old:
    """Look at what is there. Raises OldTrouble."""
    database, said = os.path.join(folder, DATABASE), os.path.join(folder, "openclaw.json")
    try:
        os.listdir(folder)
        has_database, has_config = os.path.exists(database), os.path.exists(said)
        config = _read(said) if has_config else {}
    except FileNotFoundError as error:
        if error.filename != folder:
            mend = "mend that as its owner: openclaw config validate"
            raise OldTrouble("openclaw_adopt", f"{error.filename} is not there, and {said} includes it", mend) from None
        has_database = has_config = False
    except OSError as error:
        mend = f"see that uid {os.geteuid()} can read it, or provision the machine (outlast_manage_machine: true)"
        raise OldTrouble("openclaw_adopt", f"{error.filename or folder}: {error.strerror}", mend) from None
    except (ValueError, RecursionError) as error:
        mend = "mend that as its owner: openclaw config validate"
        raise OldTrouble("openclaw_adopt", f"{said}: {error}", mend) from None
    if not has_database and not has_config:
        mend = (
            "name its state directory (openclaw_adopt_from), as `openclaw status` tells it there, or say openclaw_adopt"
            " only for the machine that has one"
        )
        raise OldTrouble("openclaw_adopt", f"there is no OpenClaw at {folder}", mend)
    if not has_database:
        mend = f"as its owner: bring it up to date, run it once, and stop it (there is no {DATABASE})"
        raise OldTrouble("openclaw_adopt", f"the OpenClaw at {folder} is of an older kind, or never ran", mend)
    found = [path.split(os.sep)[-3] for path in glob.glob(os.path.join(glob.escape(folder), _AGENT))]
    agents = tuple(sorted(found))
    return Old(folder, config, agents, _workspaces(folder, config, agents))


def objections(old: Old, home: str, agents: dict[str, str], version: str) -> Iterator[dict[str, str]]:
    """All that stands in the way. agents: those of the inventory, and where they are to work where it says so."""
    field, owner = "openclaw_adopt", old.owner
    if os.path.realpath(old.folder).startswith(os.path.join(os.path.realpath(home), "")):
        yield finding("openclaw_adopt_from", f"{old.folder} is the node's own", "name the one to adopt")
        return
    touched = str(_at(old.config, "meta", "lastTouchedVersion") or "")
    if _number(touched) > _number(version):
        wrong = f"the one at {old.folder} is of {touched}, newer than {version}"
        yield finding("openclaw_version", wrong, f"set openclaw_version: {touched}")
    if missing := [name for name in old.agents if name not in agents]:
        told = ", ".join(f"{name}: {{}}" for name in old.agents)
        wrong = f"{', '.join(missing)}, with sessions in {old.folder}, would be nobody's: there is {', '.join(agents)}"
        yield finding("openclaw_agents", wrong, f"set openclaw_agents: {{{told}}}")
    for name in (name for name in old.agents if name in agents and not agents[name]):
        space = os.path.realpath(old.workspaces[name])
        if os.path.join(os.path.realpath(old.folder), "").startswith(os.path.join(space, "")):
            wrong = f"{space}, where {name} works, holds {old.folder} itself, so that it is not copied"
            yield finding(f"openclaw_agents.{name}", wrong, "say where it is to work: workspace: PATH")
        elif not os.path.isdir(space):
            wrong = f"its agent {name} works in {old.workspaces[name]}, and that is not there"
            yield finding(field, wrong, f"as {owner}: make that folder, or name another in {old.folder}/openclaw.json")
        agent = _at(old.config, "agents", "entries", name, "agentDir")
        usual = os.path.join(old.folder, "agents", name, "agent")
        if agent and os.path.realpath(_whole(str(agent), old.folder)) != os.path.realpath(usual):
            wrong = f"its agent {name} has its state in {agent}"
            yield finding(field, wrong, f"move it to {usual}, and take agentDir out of {old.folder}/openclaw.json")
    if (pid := _holder(old.folder)) is not None:
        stop = "openclaw gateway stop, then openclaw gateway uninstall (else it is started again)"
        byhand = f"where it was started by hand, end process {pid}" if pid else "close what else uses it"
        twice = "two gateways on one bot token refuse each other"
        yield finding(field, f"the one at {old.folder} runs ({_called(pid)})", f"as {owner}: {stop}; {byhand}; {twice}")
    elif service := _service(old.folder):
        mend = f"as {owner}: openclaw gateway uninstall; two gateways on one bot token refuse each other"
        yield finding(field, f"{service} would start the one at {old.folder} again", mend)


def _read(path: str, depth: int = 0) -> dict[str, Any]:
    """A configuration with all that it includes; raises OSError, ValueError."""
    with open(path, "rb") as file:
        data = file.read(_CONFIG_BYTES + 1)
    if len(data) > _CONFIG_BYTES or depth > _INCLUDES:
        raise ValueError("it is too large to be a configuration, or includes itself")
    value = json5.read(data.decode("utf-8"))
    return _included(value if isinstance(value, dict) else {}, os.path.dirname(path), depth)


def _included(value: dict[str, Any], folder: str, depth: int) -> dict[str, Any]:
    named = value.get("$include", [])
    whole: dict[str, Any] = {}
    for name in named if isinstance(named, list) else [named]:
        whole = _merged(whole, _read(os.path.join(folder, str(name)), depth + 1))
    own = {
        str(key): _included(inner, folder, depth) if isinstance(inner, dict) else inner
        for key, inner in value.items()
        if key != "$include"
    }
    return _merged(whole, own)


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    joined = dict(below)
    for key, value in above.items():
        under = joined.get(key)
        joined[key] = _merged(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return joined


def _workspaces(folder: str, config: dict[str, Any], agents: tuple[str, ...]) -> dict[str, str]:
    """Where each agent works, as OpenClaw works it out where it is not said."""
    entries = _at(config, "agents", "entries")
    entries = entries if isinstance(entries, dict) else {}
    listed = _at(config, "agents", "list")
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and entry.get("id"):
            entries = {str(entry["id"]): entry, **entries}
    common = _at(config, "agents", "defaults", "workspace")
    usual = _whole(str(common), folder) if common else os.path.join(folder, "workspace")
    found = {}
    for name in agents:
        said = _at(entries, name, "workspace")
        own = os.path.join(usual, name) if common else os.path.join(folder, f"workspace-{name}")
        if said:
            found[name] = _whole(str(said), folder)
        elif len(entries) > 1 and os.path.isdir(own):
            found[name] = own
        else:
            is_first = len(entries) < 2 or name == "main" or bool(_at(entries, name, "default"))
            found[name] = usual if is_first else own
    return found


def _whole(path: str, folder: str) -> str:
    """A path in its configuration, as its owner's programs take it."""
    if path == "~" or path.startswith("~/"):
        # Where it lies in its usual place, that tells whose home it is.
        home = os.path.dirname(folder)
        if not os.path.basename(folder).startswith(".openclaw"):
            with contextlib.suppress(KeyError):
                home = pwd.getpwuid(os.stat(folder).st_uid).pw_dir
        path = home + path[1:]
    return os.path.normpath(os.path.join(folder, path))


def _at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _number(version: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else ()


def _holder(folder: str) -> int | None:
    """The process that has one of its databases open: 0 where the kernel does not say which; None where there is none."""
    for pattern in _DATABASES:
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), pattern))):
            pid = _locked(path)
            if pid is not None:
                return pid
    return None


def _locked(path: str) -> int | None:
    """Who holds any lock on a file."""
    question = {"qqihh": (0, 0, 0, fcntl.F_WRLCK, 0), "hhqqi4x": (fcntl.F_WRLCK, 0, 0, 0, 0)}[_FLOCK]
    try:
        with open(path, "rb") as file:
            told = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(_FLOCK, *question)))
    except OSError:
        return None
    kind, pid = (told[3], told[2]) if _FLOCK == "qqihh" else (told[0], told[4])
    return None if kind == fcntl.F_UNLCK else max(pid, 0)


def _called(pid: int) -> str:
    """A process for a message: its number and its name, without its arguments."""
    if not pid:
        return "a process that this machine does not show has its databases open"
    done = subprocess.run(["ps", "-p", str(pid), "-o", "args="], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    return f"process {pid}{', ' + os.path.basename(words[0])[:40] if words else ''}"


def _service(folder: str) -> str:
    """What would start it again; empty where nothing does."""
    name = os.path.basename(folder)
    profile = name[len(".openclaw-") :] if name.startswith(".openclaw-") else ""
    if name != ".openclaw" and not profile:
        return ""
    home = os.path.dirname(folder)
    unit = f"openclaw-gateway{'-' + profile if profile else ''}.service"
    wanted = glob.glob(os.path.join(glob.escape(home), ".config/systemd/user", "*.wants", unit))
    agent = os.path.join(home, f"Library/LaunchAgents/ai.openclaw.{profile or 'gateway'}.plist")
    return unit if wanted else os.path.basename(agent) if os.path.exists(agent) else ""
