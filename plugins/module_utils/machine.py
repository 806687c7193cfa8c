"""What kind of machine this is, and whether a node can live on it.

Keeps: standard library only, on any Python that Ansible can use; no program is run, because gathering facts the usual way
costs over a second a node. Facts have the names and values that Ansible's own have. Leaves to others: what the node itself
needs (plugins/modules/preflight.py).
"""

from __future__ import annotations

import os
import platform
import pwd
import shutil
import socket
import sys

# What all packages of runtime/requirements.txt are built for.
PREBUILT = {"Linux": ("x86_64", "aarch64"), "Darwin": ("arm64", "x86_64")}
# 64-bit kernels under a 32-bit system: the machine says the one, packages must be the other.
NARROW = {"aarch64": "armv7l", "x86_64": "i686"}
NAMES = {"debian": "Debian", "raspbian": "Debian", "ubuntu": "Ubuntu", "fedora": "Fedora"}
FAMILIES = {"debian": "Debian", "ubuntu": "Debian", "rhel": "RedHat", "fedora": "RedHat", "suse": "Suse"}
PACKAGERS = ("apt", "dnf", "zypper", "pacman", "apk")


def finding(field: str, wrong: str, mend: str) -> dict[str, str]:
    """One thing that is wrong, and what to do about it."""
    return {"field": field, "wrong": wrong, "mend": mend}


def facts() -> dict[str, str]:
    """The few of Ansible's facts that the roles use."""
    return {
        "ansible_system": platform.system(),
        "ansible_machine": platform.machine(),
        "ansible_architecture": platform.machine(),
        "ansible_kernel": platform.release(),
        "ansible_hostname": socket.gethostname().partition(".")[0],
        "ansible_python_version": platform.python_version(),
        "ansible_service_mgr": service_manager(),
        **(_mac() if platform.system() == "Darwin" else _linux()),
    }


def service_manager() -> str:
    """launchd, systemd, or the name of the process with the id 1."""
    if platform.system() == "Darwin":
        return "launchd"
    # Where systemd is merely installed, this is not there.
    return "systemd" if os.path.isdir("/run/systemd/system") else _read("/proc/1/comm").strip() or "unknown"


def _linux() -> dict[str, str]:
    told = {}
    for line in (_read("/etc/os-release") or _read("/usr/lib/os-release")).splitlines():
        name, _, value = line.partition("=")
        told[name] = value.strip("\"'")
    kind, version = told.get("ID", ""), told.get("VERSION_ID", "")
    relatives = [kind, *told.get("ID_LIKE", "").split()]
    return {
        "ansible_distribution": NAMES.get(kind) or told.get("NAME", "unknown"),
        "ansible_distribution_version": version,
        "ansible_distribution_major_version": version.partition(".")[0],
        "ansible_distribution_release": told.get("VERSION_CODENAME", ""),
        "ansible_os_family": next((FAMILIES[name] for name in relatives if name in FAMILIES), "unknown"),
        "ansible_pkg_mgr": next((name for name in PACKAGERS if shutil.which(name)), "unknown"),
    }


def _mac() -> dict[str, str]:
    version = platform.mac_ver()[0]
    return {
        "ansible_distribution": "MacOSX",
        "ansible_distribution_version": version,
        "ansible_distribution_major_version": version.partition(".")[0],
        "ansible_distribution_release": platform.release(),
        "ansible_os_family": "Darwin",
        "ansible_pkg_mgr": "homebrew",
    }


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def check_processor(wheelhouse: str) -> list[dict[str, str]]:
    """Whether the runtime's packages come built for this machine; a wheelhouse may hold what others do not offer."""
    system, kind = platform.system(), platform.machine()
    if sys.maxsize < 1 << 32:
        kind = NARROW.get(kind, kind)
    if wheelhouse or kind in PREBUILT.get(system, ()):
        return []
    system_64 = "the 64-bit Raspberry Pi OS" if kind.startswith("arm") else "a 64-bit system (x86_64 or ARM64)"
    mend = f"install {system_64}, or give outlast_wheelhouse, a directory there with packages built for it"
    return [finding("machine", f"{system} on {kind} has no prebuilt packages", mend)]


def check_manager(manager: str) -> list[dict[str, str]]:
    """Whether the service manager that was chosen is this machine's, and may be told what to do."""
    if manager not in {"systemd", "launchd"}:
        return []
    field, here = "outlast_service_manager", service_manager()
    if here != manager:
        fitting = here if here in {"systemd", "launchd"} else "supervisord"
        wrong = f"{manager} is not what runs this machine: it is {platform.system()} under {here}"
        return [finding(field, wrong, f"set {field}: {fitting}")]
    return _needs_root(f"{field}: {manager}")


def check_user(user: str, managed: bool) -> list[dict[str, str]]:
    """Whether the node's user is there, or will be made."""
    if managed:
        return _needs_root("outlast_manage_machine: true")
    if user and uid_of(user) is None:
        mend = "make that user there, or set outlast_manage_machine: true, which makes it"
        return [finding("outlast_user", f"{user} does not exist there", mend)]
    return []


def uid_of(user: str) -> int | None:
    """The user's number, that of who this runs as without a user, or None where there is no such user yet."""
    if not user:
        return os.geteuid()
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _needs_root(setting: str) -> list[dict[str, str]]:
    if os.geteuid() == 0:
        return []
    name = pwd.getpwuid(os.geteuid()).pw_name
    mend = "set ansible_become: true; where sudo asks for a password, add --ask-become-pass"
    return [finding("ansible_become", f"{setting} needs root, and this runs as {name}", mend)]
