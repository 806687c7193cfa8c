"""Runs on a node as root: print as JSON how the machine is defended, as far as the role hardening decides by it.

Keeps: standard library only; changes nothing; files are told by digest, sudo's rules by the file that holds them. Leaves
to others: what ought to be (roles/hardening), and saying so (plugins/action/plan.py).
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import socket
import stat
import subprocess
import sys
from typing import Any

PATIENCE_S = 20
EVERYTHING = re.compile(r"^\s*([^#\s]+)\s.*\bNOPASSWD:\s*ALL\s*$", re.MULTILINE)
NETLINK_NETFILTER = 12
LISTEN, UNCONNECTED = "0A", "07"


def answer_of(argv: list[str]) -> str:
    """What a command prints, whatever becomes of it."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def text_of(path: str) -> str:
    """A file's text, empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def files(paths: list[str]) -> dict[str, dict[str, str]]:
    """Mode and digest of those that are there."""
    seen = {}
    for path in paths:
        try:
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    digest = hashlib.sha256(file.read()).hexdigest()
                owner = "root" if status.st_uid == 0 else str(status.st_uid)
                seen[path] = {"mode": f"{stat.S_IMODE(status.st_mode):04o}", "sha256": digest, "owner": owner}
        except OSError:
            continue
    return seen


def addresses(names: dict[str, str]) -> dict[str, list[str]]:
    """What the machine itself resolves each peer's name to; nothing for those that it cannot."""
    found = {}
    for peer, name in names.items():
        try:
            entries = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError:
            continue
        # A link-local address carries its interface after a per cent sign, which rules do not know.
        found[peer] = sorted({str(entry[4][0]).partition("%")[0] for entry in entries})
    return found


def remembered(path: str) -> dict[str, list[str]]:
    """The addresses of peers that the rules in force were made with: a peer that sleeps cannot be resolved."""
    found = re.findall(r"^# peer (\S+): (.+)$", text_of(path), re.MULTILINE)
    return {peer: listed.split() for peer, listed in found}


def login() -> list[str]:
    """SSH_CONNECTION of the login that this runs in: sudo takes it away, so it is looked for in who called sudo."""
    pid = os.getpid()
    while pid > 1:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = file.read().decode("utf-8", "replace").split("\0")
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            # No /proc on a Mac.
            shown = answer_of(["/bin/ps", "-wwE", "-o", "ppid=,command=", "-p", str(pid)]).split()
            environment, parent = [" ".join(shown)], int(shown[0]) if shown else 0
        for entry in environment:
            if match := re.search(r"SSH_CONNECTION=(\S+) (\d+) (\S+) (\d+)", entry):
                return list(match.groups())
        pid = parent
    return []


def sshd(user: str, program: str) -> dict[str, list[str]]:
    """What sshd makes of its whole configuration for this user, keyword to values; empty without an sshd."""
    told: dict[str, list[str]] = {}
    if os.path.exists(program):
        for line in answer_of([program, "-T", "-C", f"user={user},host=localhost,addr=127.0.0.1"]).splitlines():
            keyword, _, value = line.partition(" ")
            told.setdefault(keyword, []).append(value)
    wanted = ("passwordauthentication", "kbdinteractiveauthentication", "permitrootlogin", "port")
    return {keyword: told[keyword] for keyword in wanted if keyword in told}


def netfilter() -> str:
    """Why this kernel cannot be given rules, empty where it can: some hosts of virtual machines and emulators leave it out."""
    if not sys.platform.startswith("linux"):
        return ""
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def unscoped() -> list[list[str]]:
    """Who may do everything without a password, and the file that says so."""
    paths = ["/etc/sudoers", *glob.glob("/etc/sudoers.d/*")]
    return [[who, path] for path in sorted(paths) for who in EVERYTHING.findall(text_of(path)) if who != "root"]


def sockets() -> list[list[str]]:
    """Protocol, address, port and program of everything that waits for others."""
    if not os.path.exists("/proc/net/tcp"):
        return sockets_by_lsof()
    found = {}
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        for line in text_of(f"/proc/net/{protocol}").splitlines()[1:]:
            field = line.split()
            if field[3] == (LISTEN if protocol.startswith("tcp") else UNCONNECTED):
                address, port = field[1].split(":")
                found[field[9]] = [protocol[:3], unpacked(address), str(int(port, 16))]
    programs = {}
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:["):
            programs[target[8:-1]] = text_of(f"/proc/{link.split('/')[2]}/comm").strip()
    return sorted([*entry, programs.get(inode, "?")] for inode, entry in found.items())


def unpacked(packed: str) -> str:
    """An address as /proc/net writes it: words of four bytes, each in the machine's own order."""
    words = [bytes.fromhex(packed[at : at + 8]) for at in range(0, len(packed), 8)]
    raw = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def sockets_by_lsof() -> list[list[str]]:
    """The same on a Mac."""
    found, program, protocol = set(), "?", "tcp"
    for line in answer_of(["/usr/sbin/lsof", "-nP", "-iTCP", "-sTCP:LISTEN", "-iUDP", "-FcPn"]).splitlines():
        if line.startswith("c"):
            program = line[1:]
        elif line.startswith("P"):
            protocol = line[1:].lower()
        elif line.startswith("n") and "->" not in line and not line.endswith(":*"):
            address, _, port = line[1:].rpartition(":")
            found.add((protocol, {"*": "::"}.get(address, address.strip("[]")), port, program))
    return sorted(map(list, found))


def look(asked: dict[str, Any]) -> dict[str, Any]:
    """Answer one question: the listening sockets, or all the rest."""
    if asked.get("sockets"):
        return {"sockets": sockets()}
    came_as = os.environ.get("SUDO_USER") or answer_of(["/usr/bin/id", "-un"]).strip()
    digest = re.search(r"outlast ([0-9a-f]{12})", answer_of(asked["listing"]))
    return {
        "files": files(asked["files"]),
        "programs": [path for path in asked["programs"] if os.path.exists(path)],
        "user": came_as,
        "login": login(),
        "names": addresses(asked["names"]),
        "remembered": remembered(asked["rules"]),
        "loaded": digest.group(1) if digest else "",
        "sshd": sshd(came_as, "/usr/sbin/sshd"),
        "netfilter": netfilter(),
        "unscoped": unscoped(),
        "pending": os.path.exists(asked["trial"]),
        "updates": (answer_of(asked["updates"]).strip() or "0") if asked["updates"] else "",
        "texts": {path: text_of(path) for path in asked["texts"]},
    }


print(json.dumps(look(json.loads(sys.argv[1]))))
