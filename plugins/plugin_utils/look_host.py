"""Runs on a machine, in any Python 3: print as JSON what of it is not as the role host is to make it.

Keeps: standard library only; changes nothing; prints no secret (of a private key only the public half, which `wg` works out).
Leaves to others: what is wanted (the role), putting it right (its tasks), saying it (plugins/action/machine.py).
"""

from __future__ import annotations

import functools
import glob
import grp
import hashlib
import json
import os
import platform
import pwd
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

LINUX = True
UNITS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
# The first that is there keeps the time; the last one is installed where none is.
TIMEKEEPERS = ("chrony", "ntpsec", "ntp", "openntpd", "systemd-timesyncd")
MESH = "/etc/wireguard"


def main(want: dict[str, Any]) -> dict[str, Any]:
    """What the machine lacks (parts of the role), what stands in the way (trouble), and what the tasks need to know."""
    keeper = next((name for name in TIMEKEEPERS if unit_file(name)), "")
    account, admin = agents(want["user"], want["home"]), administrator(want)
    missing = packages(want, bool(keeper))
    lacking = {
        "packages": bool(missing),
        "users": account != "right" or admin != "right",
        "access": access(want),
        "time": not keeps_time(keeper) or bool(want["zone"] and zone() != want["zone"]),
        "logs": any(not fits(path, digest) for path, digest in want["files"].items()),
    }
    return {
        "lacks": [name for name, lacks in lacking.items() if lacks],
        "trouble": list(trouble(want)),
        "account": account,
        "admin": admin,
        "packages": missing,
        "package_manager": package_manager(),
        "has_python_apt": os.path.isdir("/usr/lib/python3/dist-packages/apt"),
        "timekeeper": keeper or TIMEKEEPERS[-1],
        "keeps_time": keeps_time(keeper),
        "zones": zones(),
        "mesh": mesh(want["mesh"]),
    }


def trouble(want: dict[str, Any]) -> Iterator[str]:
    """What a person has to mend first."""
    if want["packages"] and not package_manager():
        there = ("apt", "prepare it by hand and set outlast_manage_machine: false")
        name, mend = there if LINUX else ("Homebrew", "install it (https://brew.sh), or empty the list")
        yield f"outlast_packages: this machine has no {name}; mend: {mend}"
    if want["zone"] and os.path.isdir(zones()) and not os.path.isfile(os.path.join(zones(), want["zone"])):
        yield f"outlast_time_zone: there is no zone {want['zone']}; mend: name it like Europe/Berlin"
    if (address := want["mesh"]["own_address"]) and not is_mine(address):
        yield f"outlast_mesh_address: {address} is no address of this machine; mend: start your VPN there, or correct it"


def agents(name: str, home: str) -> str:
    """How it stands with the agents' account: right, absent, ours (made for this home, and not right), or somebody's."""
    if not name:
        return "right"
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        return "absent"
    # From these numbers on accounts are people's.
    if account.pw_dir != home or account.pw_uid >= (1000 if LINUX else 500):
        return "right" if name in groups_of(account) else "somebody's"
    right = account.pw_shell == "/bin/sh" and name in groups_of(account) and password(name) == "*"
    return "right" if right else "ours"


def administrator(want: dict[str, Any]) -> str:
    """How it stands with the administrator's account, its group and its keys: right, absent, or there (and not right)."""
    if not want["admin"]:
        return "right"
    try:
        account = pwd.getpwnam(want["admin"])
    except KeyError:
        return "absent"
    try:
        with open(os.path.join(account.pw_dir, ".ssh", "authorized_keys"), encoding="utf-8") as file:
            keys = {line.strip() for line in file}
    except OSError:
        keys = set()
    right = want["admin_group"] in groups_of(account) and {key.strip() for key in want["admin_keys"]} <= keys
    return "right" if right else "there"


def groups_of(account: pwd.struct_passwd) -> set[str]:
    """The names of an account's groups."""
    names = set()
    for number in os.getgrouplist(account.pw_name, account.pw_gid):
        try:
            names.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return names


def password(name: str) -> str:
    """`*` where no password opens an account; what it is otherwise is nobody's business."""
    if not LINUX:
        return "*"
    try:
        with open("/etc/shadow", encoding="utf-8") as file:
            held = [line.split(":")[1] for line in file if line.startswith(f"{name}:")]
    except OSError:
        return "unknown"
    return "*" if held == ["*"] else "another"


def package_manager() -> str:
    """Where the program is that installs packages."""
    return shutil.which("apt-get" if LINUX else "brew") or ""


def packages(want: dict[str, Any], has_timekeeper: bool) -> list[str]:
    """The packages that are not installed."""
    wanted = list(want["packages"])
    if not LINUX:
        wanted += ["wireguard-tools"] if want["mesh"]["kind"] == "wireguard" else []
        kegs = {os.path.basename(path) for path in glob.glob("/opt/homebrew/C*/*") + glob.glob("/usr/local/C*/*")}
        return [name for name in wanted if name.rpartition("/")[2].partition("@")[0] not in kegs and name not in kegs]
    wanted += [] if has_timekeeper else [TIMEKEEPERS[-1]]
    wanted += ["wireguard-tools"] if want["mesh"]["kind"] == "wireguard" else []
    wanted += ["wireguard-go"] if want["mesh"]["kind"] == "wireguard" and not kernel_has("wireguard") else []
    names = [re.split("[=:/]", name)[0] for name in wanted]
    listed = said(["dpkg-query", "-W", "-f", "${binary:Package} ${db:Status-Abbrev}\n", *names])
    there = {line.split()[0].partition(":")[0] for line in listed.splitlines() if line.rstrip().endswith("ii")}
    return [wanted[at] for at, name in enumerate(names) if name not in there]


def kernel_has(module: str) -> bool:
    """Whether the kernel has a module, loaded, built in or on the disk."""
    if os.path.isdir(f"/sys/module/{module}"):
        return True
    home = f"/lib/modules/{platform.release()}"
    for name in ("modules.builtin", "modules.dep"):
        try:
            with open(os.path.join(home, name), encoding="utf-8") as file:
                if any(f"/{module}.ko" in line for line in file):
                    return True
        except OSError:
            continue
    return False


def keeps_time(keeper: str) -> bool:
    """Whether the clock is kept right now and after a restart. In a container that is its host's to do."""
    if not LINUX:
        return said(["/usr/sbin/systemsetup", "-getusingnetworktime"]).strip().endswith("On")
    if not keeper or said(["systemctl", "is-enabled", keeper]).strip() not in {"enabled", "alias", "static"}:
        return False
    return said(["systemctl", "is-active", keeper]).strip() == "active" or is_container()


def is_container() -> bool:
    """Whether this machine is one of several on a kernel."""
    return said(["systemd-detect-virt", "--container"]).strip() not in {"", "none"}


def unit_file(name: str) -> bool:
    """Whether a service is installed."""
    return any(os.path.exists(os.path.join(place, f"{name}.service")) for place in UNITS)


def zones() -> str:
    """Where the system keeps time zones."""
    return "/usr/share/zoneinfo" if LINUX else "/var/db/timezone/zoneinfo"


def zone() -> str:
    """The time zone that the machine is set to."""
    try:
        return os.readlink("/etc/localtime").partition("zoneinfo/")[2]
    except OSError:
        return ""


def fits(path: str, digest: str) -> bool:
    """Whether a file holds what it is to hold; with an empty digest, whether there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest() == digest
    except OSError:
        return not digest


def access(want: dict[str, Any]) -> bool:
    """Whether somebody who is to read what agents write cannot, or somebody can who is not to."""
    try:
        readers = frozenset(pwd.getpwnam(name).pw_uid for name in want["readers"])
    except KeyError:
        return True
    roots = [root for name in want["shared"] if os.path.isdir(root := os.path.join(want["home"], name))]
    if readers and len(roots) < len(want["shared"]):
        return True
    if not LINUX:
        lists = [said(["/bin/ls", "-lde", place]) for place in (want["home"], *roots)]
        return any(set(re.findall(r"^ *\d+: user:(\S+) ", one, re.M)) != set(want["readers"]) for one in lists)
    if not names(want["home"], "access", 1, readers):
        return True
    if not readers:
        return not all(names(root, kind, 5, readers) for root in roots for kind in ("access", "default"))
    return any(unlike(root, readers) for root in roots)


def unlike(root: str, readers: frozenset[int]) -> bool:
    """Whether any regular file or directory of root's owner has other readers, or root itself keeps them out."""
    top = os.lstat(root)
    if top.st_mode & 0o050 != 0o050:
        return True
    for folder, _, files in os.walk(root):
        lists = [(folder, "access"), (folder, "default"), *((os.path.join(folder, name), "access") for name in files)]
        for path, kind in lists:
            if not names(path, kind, 5, readers) and matters(path, top.st_uid):
                return True
    return False


def matters(path: str, owner: int) -> bool:
    """Whether a path is there, is somebody's to open, and can have a list."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return status.st_uid == owner and (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))


def names(path: str, kind: str, bits: int, readers: frozenset[int]) -> bool:
    """Whether a list gives these users these permissions, and nobody else exactly them (module_utils/acl.py)."""
    try:
        return gives(os.getxattr(path, f"system.posix_acl_{kind}", follow_symlinks=False), bits, readers)
    except OSError:
        return not readers


@functools.cache
def gives(data: bytes, bits: int, readers: frozenset[int]) -> bool:
    """The same of a list as it is kept: a workspace has a hundred thousand files, and few different lists."""
    held = {number: given for tag, given, number in struct.iter_unpack("<HHI", data[4:]) if tag == 2}
    return all(held.get(uid, 0) & bits == bits for uid in readers) and all(
        given != bits or uid in readers for uid, given in held.items()
    )


def mesh(want: dict[str, Any]) -> dict[str, Any]:
    """The mesh's public key, the digest of its definition, the peers in there, and whether it runs like that."""
    path = os.path.join(MESH, "outlast.conf")
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError:
        text = ""
    if not text and want["kind"] != "wireguard":
        return {"there": False}
    held = {}
    for block in text.split("[Peer]")[1:]:
        pairs = dict(re.findall(r"^(# name|PublicKey|AllowedIPs) *[:=] *(.+)$", block, re.M))
        held[pairs.get("# name", "")] = (pairs.get("PublicKey", ""), pairs.get("AllowedIPs", ""))
    shown = said(["wg", "show", interface(), "allowed-ips"])
    enabled = not LINUX or os.path.lexists(f"{UNITS[0]}/multi-user.target.wants/wg-quick@outlast.service")
    return {
        "there": bool(text),
        "public": said(["wg", "pubkey"], os.path.join(MESH, "outlast.key")).strip(),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "peers": {name: key for name, (key, _) in held.items()},
        "runs": enabled and bool(held) and {tuple(line.split("\t")) for line in shown.splitlines()} == {*held.values()},
    }


def interface() -> str:
    """The name of the mesh's network interface, which macOS chooses itself."""
    try:
        with open("/var/run/wireguard/outlast.name", encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return "outlast"


def is_mine(address: str) -> bool:
    """Whether an address is one of this machine's."""
    try:
        family, _, _, _, place = socket.getaddrinfo(address, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(place)
    except OSError:
        return False
    return True


def said(argv: list[str], stdin: str = os.devnull) -> str:
    """What a program prints; nothing where it is missing or complains."""
    try:
        with open(stdin, "rb") as file:
            done = subprocess.run(argv, stdin=file, capture_output=True, text=True, errors="replace", check=False)
    except OSError:
        return ""
    return done.stdout


if __name__ == "__main__":
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/opt/homebrew/bin:/usr/local/bin"
    asked = json.loads(sys.argv[1])
    LINUX = asked["system"] == "linux"
    print(json.dumps(main(asked)))
