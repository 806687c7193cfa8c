"""Look at a node without changing anything: see DOCUMENTATION.

Keeps: even Python 3.8, the oldest that Ansible can use, can run all of it, to say that it is too old. Leaves to others: what
only the controller can see (plugins/action/preflight.py) and what only shows when all nodes are compared
(plugins/action/findings.py).
"""

from __future__ import annotations

import errno
import glob
import importlib.util
import json
import os
import re
import shutil
import socket
import stat
import sys
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.outlast.agents.plugins.module_utils import (
    local_http,
    machine,
    openclaw_old,
    processes,
    venv_pip,
)
from ansible_collections.outlast.agents.plugins.module_utils.machine import finding

DOCUMENTATION = r"""
module: preflight
short_description: Checks everything on a node that can be checked before anything changes
description:
  - >-
    Looks at Python, processor, service manager, user, disk, port, home, key files and clock in one trip, and returns all
    findings without failing. Sets the few facts that the roles use.
options:
  home: {description: The node's directory., type: path, required: true}
  node: {description: The node's name., type: str, required: true}
  host: {description: The address that the node listens on., type: str, required: true}
  port: {description: The port that the node listens on., type: int, required: true}
  dashboard: {description: The `host` and `port` of its dashboard; empty where it has none., type: dict, default: {}}
  gateway: {description: The port of its OpenClaw's gateway; 0 where it has none., type: int, default: 0}
  adopt: {description: "The OpenClaw that it is to adopt, as openclaw_adopt has it.", type: dict, default: {}}
  min_free: {description: Bytes that must be free on the home's disk., type: int, required: true}
  manager: {description: The service manager that is to run the node., type: str, default: supervisord}
  user: {description: The user that the node runs as; without it who this runs as., type: str, default: ''}
  managed: {description: Whether the machine is provisioned as well., type: bool, default: false}
  wheelhouse: {description: A directory with all packages., type: str, default: ''}
  keys: {description: Whether its key files are to be usable already., type: bool, default: true}
author: [The Outlast authors (@outlast)]
"""
EXAMPLES = r"""
- outlast.agents.preflight: {home: /srv/coz, node: coz, host: 127.0.0.1, port: 18801, min_free: 524288000}
"""
RETURN = r"""
ansible_facts: {description: What kind of machine this is., type: dict, returned: always}
findings: {description: "List of field, wrong, mend.", type: list, elements: dict, returned: always}
time: {description: The node's clock in seconds since 1970., type: float, returned: always}
free_shifts: {description: Numbers to add to the ports so that they are free., type: list, returned: when one is taken}
"""

# supervisord first binds `<home>/run/supervisor.sock.<pid>`; macOS allows 103 bytes for a socket's path.
HOME_BYTES = 103 - len("/run/supervisor.sock.1234567")
ODD_CHARACTERS = set("\"'`$%;#\\\n\r\t*?[]{}|<>&!")
KEY_SIZE = 1 << 17
# A secret, or one that was erased, and what is known of it; a secret alone, as files were before there were rings.
KEY_LINE = re.compile(
    r"(wh(sec|sk|pk)_[A-Za-z0-9+/=]+|-(?= ))( [0-9a-f]{10} (active|accepted|retired|revoked) \S+ \S+)?\Z"
)
KEY_NAME = re.compile(r"/[a-z][a-z0-9-]{0,31}\.key\Z")
SHIFTS = range(100, 4000, 100)


def check_python(managed: bool) -> list[dict[str, str]]:
    """Whether a release can be built with the interpreter that this runs under; packages come with a managed machine."""
    if sys.version_info < (3, 11):  # noqa: UP036 (the node's Python may be any)
        version = ".".join(map(str, sys.version_info[:3]))
        mend = "install Python 3.11 or newer there, or point ansible_python_interpreter at one"
        return [finding("python", f"{sys.executable} is {version}, 3.11 or newer is needed", mend)]
    bare = importlib.util.find_spec("venv") is None or venv_pip.pip_command() is None
    if bare and not (managed and sys.platform == "linux"):
        wrong = f"{sys.executable} has neither pip nor ensurepip, so that no virtual environment can be filled"
        return [finding("python", wrong, "install the package python3-venv (Debian, Ubuntu) there")]
    return []


def nearest_existing(path: str) -> str:
    """The path itself, or the closest directory above it that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path) or "/"
    return path


def check_home(home: str, min_free: int) -> list[dict[str, str]]:
    """Whether the home's path can be used, written and filled."""
    found = []
    if len(os.fsencode(home)) > HOME_BYTES:
        wrong = f"{home} has {len(os.fsencode(home))} bytes, a Unix socket inside it allows {HOME_BYTES}"
        found.append(finding("outlast_home", wrong, "choose a shorter path"))
    if not os.path.isabs(home) or ODD_CHARACTERS & set(home):
        wrong = f"{home!r} is not a plain absolute path"
        found.append(finding("outlast_home", wrong, "choose a path of letters, digits, spaces and ._/+@-"))
    base = nearest_existing(home)
    places = [os.path.join(home, name) for name in ("", "etc", "etc/keys", "run", "releases", "var", "workspace")]
    mend = f"make it a directory that {whoami()} may write"
    looked_at = [place for place in places if os.path.exists(place)] if base == home else [base]
    found += [finding("outlast_home", f"{place} {wrong}", mend) for place in looked_at if (wrong := unwritable(place))]
    usage = shutil.disk_usage(base)
    if usage.free < min_free:
        wrong = f"{usage.free >> 20} MiB free at {base}, {min_free >> 20} MiB are asked for"
        found.append(finding("outlast_min_free", wrong, "make room there, or lower outlast_min_free"))
    return found


def whoami() -> str:
    """The user that this runs as, for a message."""
    return f"uid {os.geteuid()}"


def unwritable(place: str) -> str:
    """Why a directory cannot be written, or an empty string. Root is stopped by read-only mounts only."""
    if not os.path.isdir(place):
        return "is not a directory"
    if os.access(place, os.W_OK | os.X_OK):
        return ""
    return "is on a read-only file system" if os.statvfs(place).f_flag & os.ST_RDONLY else "is not writable"


def check_keys(home: str, user: str) -> list[dict[str, str]]:
    """Whether each key file is a private file of the node's user that holds secrets."""
    found = []
    owner = machine.uid_of(user)
    # Other names are no node's, and would stand in commands that a person is told to type.
    keys = [
        path for path in glob.glob(os.path.join(glob.escape(home), "etc", "keys", "*.key")) if KEY_NAME.search(path)
    ]
    for path in sorted(keys):
        status = os.lstat(path)
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISREG(status.st_mode):
            found.append(finding(path, "is not a plain file", f"mv {path} {path}.wrong"))
        elif owner is not None and status.st_uid != owner:
            whom = user or whoami()
            wrong = f"belongs to uid {status.st_uid}, not {whom}"
            found.append(finding(path, wrong, f"chown -h {user or owner} {path}"))
        elif mode != 0o600:
            found.append(finding(path, f"has the mode {mode:04o}, a key must be 0600", f"chmod 600 {path}"))
        else:
            found.extend(check_key_content(path))
    return found


def check_key_content(path: str) -> list[dict[str, str]]:
    """Whether a key file reads as secrets. What is in it never enters a message."""
    mend = f"mv {path} {path}.wrong and run again: keys are made and handed out anew"
    try:
        # The node's user may have put something else there since: root neither follows a link nor waits for a pipe.
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            lines = file.read(KEY_SIZE).decode("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return [finding(path, f"cannot be read as a key ({type(error).__name__})", mend)]
    if not lines or not all(KEY_LINE.match(line) for line in lines):
        return [finding(path, "holds no key of the form whsec_…", mend)]
    return []


def check_ports(
    home: str, node: str, places: dict[str, tuple[str, int]], user: str
) -> tuple[list[dict[str, str]], list[int]]:
    """Whether each port is free or this node's own already; the second value says by how much all could be shifted.

    ``places``: by the variable that says it, the address and the port.
    """
    found = [one for field, (host, port) in places.items() for one in check_port(home, node, field, host, port, user)]
    if not any(one["mend"] == "" for one in found):
        return found, []

    def free(host: str, port: int) -> bool:
        return port < 65536 and cannot_bind(host, port) is None

    return found, [shift for shift in SHIFTS if all(free(host, port + shift) for host, port in places.values())]


def check_port(home: str, node: str, field: str, host: str, port: int, user: str) -> list[dict[str, str]]:
    """What is wrong with one port. Where another program has it there is no mend yet: it takes all nodes to know one."""
    if port < 1024 and os.geteuid() == 0 and machine.uid_of(user) != 0:
        return [finding(field, f"{port} is for root, and the node runs as {user}", "choose one above 1023")]
    problem = cannot_bind(host, port)
    if problem is None or (problem.errno == errno.EADDRINUSE and is_mine(home, node, field, port)):
        return []
    if problem.errno == errno.EADDRINUSE:
        return [finding(field, f"{host}:{port} is taken by another program", "")]
    mend = "choose an address of this machine (outlast_host) and a port above 1023 (outlast_port)"
    if field != "outlast_port":
        mend = f"choose an address of this machine and a port above 1023 for it ({field}: {{host: …, port: …}})"
    return [finding(field, f"{host}:{port} cannot be listened on: {problem.strerror}", mend)]


def cannot_bind(host: str, port: int) -> OSError | None:
    """The error that listening there would meet, or None."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return error
    return None


def is_mine(home: str, node: str, field: str, port: int) -> bool:
    """Whether who listens is this home's own runtime, asked through the home's private socket, or its gateway."""
    if field == "openclaw_port":
        return any("outlast.openclaw.launch" in process.command for process in processes.of_home(home))
    try:
        status, body = local_http.get(f"unix:{home}/run/control.sock:/status", 5)
        answer = json.loads(body)
    except (OSError, ValueError):
        # A node that does not answer may still hold its port: a hung one is to be restarted, not complained about.
        return any("outlast.daemon" in process.command for process in processes.of_home(home))
    if field != "outlast_port":
        answer = {"node": answer.get("node"), **answer.get("dashboard", {})}
    return bool(status == 200 and answer.get("node") == node and answer.get("port") == port)


def main() -> None:
    """Run as a module on the node."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "node": {"type": "str", "required": True},
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "dashboard": {"type": "dict", "default": {}},
            "gateway": {"type": "int", "default": 0},
            "adopt": {"type": "dict", "default": {}},
            "min_free": {"type": "int", "required": True},
            "manager": {"type": "str", "default": "supervisord"},
            "user": {"type": "str", "default": ""},
            "managed": {"type": "bool", "default": False},
            "wheelhouse": {"type": "str", "default": ""},
            "keys": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    values: dict[str, Any] = module.params
    home, user, managed = values["home"], values["user"], values["managed"]
    places = {"outlast_port": (values["host"], values["port"])}
    if page := values["dashboard"]:
        places["outlast_dashboard"] = (page["host"], int(page["port"]))
    if values["gateway"]:
        places["openclaw_port"] = ("127.0.0.1", values["gateway"])
    port_findings, free = check_ports(home, values["node"], places, user)
    found = check_python(managed) + machine.check_processor(values["wheelhouse"])
    # Where root is lacking, once is enough.
    found += machine.check_manager(values["manager"]) or machine.check_user(user, managed)
    if old := openclaw_old.check(home, values["adopt"]) if values["adopt"] else []:
        # It may well be the old one that has it.
        port_findings = [one for one in port_findings if one["field"] != "openclaw_port"]
    found += check_home(home, values["min_free"]) + port_findings + old
    found += check_keys(home, user) if values["keys"] else []
    facts = {**machine.facts(), "outlast_had_openclaw": os.path.exists(os.path.join(home, "etc", "openclaw"))}
    module.exit_json(changed=False, findings=found, free_shifts=free, ansible_facts=facts, time=time.time())


if __name__ == "__main__":
    main()
