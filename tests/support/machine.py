"""One test host: a systemd container with an address of its own, reached over SSH.

Rules kept here: its keys and its host key are on its disk before it starts for the first time, so host keys are checked from
the first login on; an address stays over a reboot; it is given what this machine itself needs to reach package archives,
and nothing else of this machine's.

Left to others: networks, inventories, and removing hosts (hosts.py); the images (images.py); the Mac's double
(molecule/shared/mac).
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .images import IMAGES, Trouble, apt_settings, native, say

__all__ = ["REPOSITORY", "Machine", "checked", "podman", "start"]

REPOSITORY = Path(__file__).resolve().parents[2]
USER = "operator"
_DOUBLE = REPOSITORY / "molecule" / "shared" / "mac"
_LIMIT_S = 600.0
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
# Where npm on a host keeps what it downloads: a folder of this machine, beside the images.
_NPM_CACHE = "/var/cache/outlast/npm"
_NPM_KEYS = ("registry", "proxy", "https-proxy", "noproxy", "strict-ssl")
_PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")
# The emulator hands on neither user namespaces nor credentials nor the setting up of a network: units that ask for one fail
# at their start (217/USER, 243/CREDENTIALS, 225/NETWORK). On a real ARM machine they do not.
_EMULATED = {
    "outlast-.service": "PrivateUsers=no",
    "e2scrub_reap.service": "PrivateNetwork=no",
    "systemd-journald.service": "LoadCredential=",
    "systemd-sysusers.service": "LoadCredential=",
    "systemd-tmpfiles-setup.service": "LoadCredential=",
    "systemd-tmpfiles-clean.service": "LoadCredential=",
    "systemd-tmpfiles-setup-dev.service": "LoadCredential=",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """One host. ``address`` is an IPv4 address that is reached from this machine alone."""

    name: str
    image: str
    address: str
    container: str
    folder: str

    @property
    def is_mac(self) -> bool:
        """Is it a Mac's double?"""
        return self.image.startswith("mac")

    @property
    def is_emulated(self) -> bool:
        """Is its processor another one than this machine's?"""
        return not native(IMAGES[self.image].arch)

    @property
    def variables(self) -> dict[str, Any]:
        """What the inventory says about it."""
        listed = yaml.safe_load(Path(self.folder, "inventory", "hosts.yml").read_text())
        return dict(listed["outlast"]["hosts"][self.name])

    @property
    def inside(self) -> Any:
        """Testinfra's host: over SSH as the operator, with sudo."""
        import testinfra  # type: ignore[import-untyped] # the rest of this module must work without it

        extra = " ".join(self._ssh_options())
        return testinfra.get_host(f"ssh://{USER}@{self.address}", sudo=True, ssh_extra_args=extra, controlpersist=0)

    def console(self, *command: str, stdin: str = "", check: bool = True) -> str:
        """Run a command as root at its console, so to speak: where SSH does not matter. Returns what it printed; raises Trouble."""
        return podman("exec", "-i", self.container, *command, stdin=stdin, check=check)

    def ssh(
        self, *command: str, options: Sequence[str] = (), limit_s: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command over SSH as the operator, as a login of its own; ``options`` are ssh's (``Name=value``)."""
        more = [word for option in (*options, "BatchMode=yes") for word in ("-o", option)]
        line = ["ssh", *self._ssh_options(), *more, f"{USER}@{self.address}", *command]
        return subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s, check=False
        )

    def reboot(self) -> None:
        """Stop its systemd as a shutdown would, start it again, and wait until it is up. Raises Trouble."""
        podman("stop", "--time", "120", self.container)
        podman("start", self.container)
        self.wait()

    def sleep(self) -> None:
        """Halt every process in it, as a lid that closes does: it does not answer until ``wake``."""
        podman("pause", self.container)

    def wake(self) -> None:
        """Let it go on where it was."""
        podman("unpause", self.container)

    def wait(self, limit_s: float = _LIMIT_S) -> None:
        """Wait until systemd has started all, and a login works. Raises Trouble."""
        deadline = time.monotonic() + limit_s
        state = ""
        while state not in {"running", "degraded"} or self.ssh("true").returncode:
            if time.monotonic() > deadline:
                raise Trouble(
                    f"{self.name}: not up after {limit_s:.0f} s ({state}); mend: podman exec {self.container} journalctl -b"
                )
            if podman("inspect", "--format", "{{.State.Running}}", self.container).strip() != "true":
                said = podman("logs", self.container).strip().splitlines()[-1:]
                raise Trouble(f"{self.name}: its container ended ({''.join(said)}); mend: podman logs {self.container}")
            time.sleep(0.3)
            state = self.console("systemctl", "is-system-running", check=False).strip()

    def words(self, lines: int = 60) -> str:
        """What its services said last: the journal, and on the Mac the logs that launchd's jobs write."""
        logs = self.console(
            "sh", "-c",
            f"systemctl --failed --no-legend --plain; journalctl --no-pager -o short-iso -n {lines} -u 'outlast*' -u launchd;"
            f"tail -qn {lines} /usr/local/var/outlast/run/log/*.log /var/log/outlast/*.log 2>/dev/null",
            check=False,
        )  # fmt: skip
        return f"--- {self.name} ({self.image}, {self.address}) ---\n{logs}"

    def _ssh_options(self) -> list[str]:
        return ["-i", f"{self.folder}/id_ed25519", *checked(Path(self.folder)).split()]


def start(machine: Machine, network: str, labels: Sequence[str]) -> None:
    """Make one host and wait until it is up. Raises Trouble."""
    image = IMAGES[machine.image]
    # crun refuses machines with both generations of cgroups.
    runtime = ["--runtime", "runc"] if shutil.which("runc") else []
    podman(
        *runtime, "create", "--name", machine.container, "--hostname", machine.name, *labels, "--network", network,
        "--ip", machine.address, "--no-hosts", "--arch", image.arch, "--privileged", "--systemd=always",
        "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=32768:32768", "--volume", f"{_npm_cache()}:{_NPM_CACHE}",
        image.tag, "/lib/systemd/systemd",
    )  # fmt: skip
    root = Path(podman("mount", machine.container).strip())
    try:
        _furnish(machine, root)
    finally:
        podman("unmount", machine.container)
    podman("start", machine.container)
    machine.wait()
    if machine.is_mac:
        podman("cp", str(_DOUBLE), f"{machine.container}:/root/mac")
        machine.console("sh", "/root/mac/install")
        machine.wait()
    say(f"hosts: {machine.name} is up: {machine.image}, {machine.address}")


def _furnish(machine: Machine, root: Path) -> None:
    """Put keys and package settings on its disk before it starts for the first time."""
    folder = Path(machine.folder)
    subprocess.run(["ssh-keygen", "-q", "-A", "-f", str(root)], check=True, stdout=subprocess.DEVNULL)
    public = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
    with (folder / "known_hosts").open("a") as known:
        known.write(" ".join([machine.address, *public]) + "\n")
    authorized = root / "home" / USER / ".ssh" / "authorized_keys"
    authorized.parent.mkdir(mode=0o700)
    shutil.copy(folder / "id_ed25519.pub", authorized)
    account = authorized.parents[1].stat()
    for path in (authorized.parent, authorized):
        os.chown(path, account.st_uid, account.st_gid)
    bundle = ssl.get_default_verify_paths().cafile or _BUNDLE
    if Path(bundle).exists():
        shutil.copy(bundle, root / _BUNDLE.lstrip("/"))
    # As on a card that was written long ago: what apt knows is old.
    os.utime(root / "var/lib/apt/lists", (0, 0))
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {machine.name}\n::1 localhost\n")
    (root / "etc/pip.conf").write_text(_pip_settings())
    (root / "root/.npmrc").write_text(_npm_settings())
    (root / "etc/apt/apt.conf.d/00machine").write_text("".join(f"{line}\n" for line in apt_settings()))
    if machine.is_emulated:
        for unit, setting in _EMULATED.items():
            drop_in = root / "etc/systemd/system" / f"{unit}.d" / "emulated.conf"
            drop_in.parent.mkdir(parents=True)
            drop_in.write_text(f"# The emulator cannot do it; a real machine of this kind can.\n[Service]\n{setting}\n")


def _pip_settings() -> str:
    """How this machine reaches its Python packages, as far as it makes sense on another one."""
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    lines = [f"cert = {_BUNDLE}"]
    for match in re.finditer(r"^[^=]*\.([\w-]+)=('.*'|\".*\")$", done.stdout, re.MULTILINE):
        # Folders of this machine are not there on another one.
        value = " ".join(
            word for word in str(ast.literal_eval(match[2])).split() if not word.startswith(("file:", "/"))
        )
        if match[1] in _PIP_KEYS and value:
            lines.append(f"{match[1]} = {value}")
    return "\n".join(["[global]", *lines, ""])


def _npm_settings() -> str:
    """How this machine reaches npm's packages, as far as it says so."""
    found = {"cafile": _BUNDLE}
    if shutil.which("npm"):
        done = subprocess.run(["npm", "config", "list", "--json"], capture_output=True, text=True, check=False)
        known = json.loads(done.stdout or "{}")
        found |= {key: str(known[key]) for key in _NPM_KEYS if isinstance(known.get(key), str) and known[key]}
    return "".join(f"{key}={value}\n" for key, value in found.items())


def _npm_cache() -> Path:
    folder = IMAGES["pi-amd64"].archive.parent.parent / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def checked(folder: Path) -> str:
    return f"-o UserKnownHostsFile={folder}/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"


def podman(*arguments: str, stdin: str = "", check: bool = True) -> str:
    try:
        done = subprocess.run(
            ["podman", *arguments], input=stdin, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Trouble(
            f"podman {' '.join(arguments)}: not done after {_LIMIT_S:.0f} s; mend: look at podman ps --all"
        ) from None
    except FileNotFoundError:
        raise Trouble("podman: not installed; mend: apt-get install podman runc netavark aardvark-dns") from None
    if check and done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it says nothing"]
        raise Trouble(f"podman {arguments[0]}: {last[0]}; mend: look at podman ps --all, or run tools/molecule")
    return done.stdout
