"""Why a host could not be asked, in words for a person: what ssh, sudo and Ansible say, made into one finding.

Keeps: pure; what is not understood is shown as its last line, not guessed at. Leaves to others: asking, and what becomes of
the host (findings).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["Way", "away", "unasked"]

FINGERPRINT = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
PYTHON = (
    "install Python 3.11 or newer there (Debian, Ubuntu: sudo apt-get install python3; Mac: brew install python), "
    "or point ansible_python_interpreter at one"
)

# Of what ssh and sudo say: pattern, field, wrong, mend. The first that fits counts. {x} is of the way or the pattern's.
AWAY = (
    (
        r"IDENTIFICATION HAS CHANGED.*?(?P<print>SHA256:[\w+/=]+).*?Offending \S+ key in (?P<known>[^\r\n]+):\d+\s",
        "host key",
        "{address} shows another key ({print}) than the one in {known}",
        f"make sure that it is yours (on it: {FINGERPRINT}), then ssh-keygen -f {{known}} -R {{entry}} and {{ssh}} once",
    ),
    (
        r"Host key verification failed",
        "host key",
        "{address} is not known to this machine yet",
        f"{{ssh}} once, and compare the key that it shows with the machine's own (on it: {FINGERPRINT})",
    ),
    (
        r"Permission denied(?: \(|, please)|[Ii]ncorrect (?:username/)?password:|Too many authentication failures",
        "ansible_user",
        "{address} does not let {user} in",
        "ssh-copy-id {target}, and see that {ssh} works without a password",
    ),
    (
        r"Could not resolve hostname",
        "ansible_host",
        "{address} is no name that this machine can resolve",
        "see that it is on and in this network, or put its address into ansible_host",
    ),
    (
        r"(?P<why>(?:Connection|Operation) timed out|Connection (?:refused|reset|closed)|No route to host|"
        r"Network is unreachable|Host is down|server \S+ not responding)",
        "ansible_host",
        "{address} cannot be reached ({why})",
        "see that it is on, awake and in this network, and that it answers: {ssh}",
    ),
    (
        r"Incorrect \w+ password",
        "ansible_become_password",
        "is not the one that sudo wants of {user}",
        "add --ask-become-pass and type that of {user} there",
    ),
    (
        r"Missing \w+ password|a password is required|a terminal is required",
        "ansible_become_password",
        "is not set, and sudo wants one of {user}",
        "add --ask-become-pass",
    ),
    (
        r"not in the sudoers file|may not run sudo|not allowed to execute|is not allowed to run sudo",
        "ansible_user",
        "{user} may not use sudo",
        "as root there: usermod -aG sudo {user} (on a Mac: make {user} an administrator)",
    ),
    (
        r"waiting for privilege escalation prompt",
        "ansible_become",
        "sudo did not answer in time, or {address} was cut off",
        "see that this comes back at once: {ssh} sudo true",
    ),
    (
        r"Failed to connect to the host|Data could not be sent",
        "ansible_host",
        "{address} cannot be reached ({last})",
        "see that this works: {ssh}",
    ),
)
# Of what Ansible says of a module that did not come to work.
UNASKED = (
    (
        r"module interpreter '(?P<python>[^']+)' was not found|(?P<python_too>\S*python[\d.]*): (?:No such|not found)",
        "python",
        "{python} is not there",
        PYTHON,
    ),
    (
        r"minimum of Python version [\d.]+\. Current version: (?P<version>[\d.]+)",
        "python",
        "is {version}, 3.11 or newer is needed",
        PYTHON,
    ),
    (r"SyntaxError|ImportError: .*importlib", "python", "is too old even to say so, 3.11 or newer is needed", PYTHON),
    (
        r"No start of json char found\s*$",
        "node",
        "let {user} in, but nothing came back of what was to run there",
        "see that sudo lets {user} run everything there, and that Python starts: {ssh_t} sudo python3 -V",
    ),
    (r"No space left on device", "disk", "is full, so that nothing can be looked at", "make room there: {ssh} df -h"),
    (r"Read-only file system", "disk", "is read-only", "see what it says: {ssh} dmesg; an SD card may be at its end"),
)


@dataclass(frozen=True)
class Way:
    """How Ansible gets to a host: the address, and user and port where they are set."""

    address: str
    user: str = ""
    port: int = 22

    @classmethod
    def of(cls, context: Any) -> Way:
        """The way of the task that this play context belongs to."""
        return cls(context.remote_addr, context.remote_user or "", int(context.port or 22))

    def words(self) -> dict[str, str]:
        """What the texts above may name."""
        target = f"{self.user}@{self.address}" if self.user else self.address
        plain = self.port == 22
        return {
            "address": self.address,
            "user": self.user or "this user",
            "target": target if plain else f"-p {self.port} {target}",
            "ssh": f"ssh {target}" if plain else f"ssh -p {self.port} {target}",
            "ssh_t": f"ssh -t {target}" if plain else f"ssh -t -p {self.port} {target}",
            "entry": self.address if plain else f"'[{self.address}]:{self.port}'",
        }


def away(said: str, way: Way) -> dict[str, str] | None:
    """The finding about a host that does not let us in or cannot be found, or None when this is not what was said."""
    return _first(AWAY, said, way)


def unasked(said: str, way: Way) -> dict[str, str]:
    """The finding about a host that let us in but did not answer."""
    last = _last(said)
    mend = "run again with -vvv, which shows all that was said"
    return _first(UNASKED, said, way) or {"field": "node", "wrong": f"could not be looked at: {last}", "mend": mend}


def _first(rules: tuple[tuple[str, str, str, str], ...], said: str, way: Way) -> dict[str, str] | None:
    for pattern, field, wrong, mend in rules:
        if match := re.search(pattern, said, re.DOTALL):
            found = {name.removesuffix("_too"): value for name, value in match.groupdict().items() if value}
            words = {**way.words(), "last": _last(said), **found}
            return {"field": field, "wrong": wrong.format(**words), "mend": mend.format(**words)}
    return None


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"
