"""Base images of the test hosts, made from Debian's packages: ``python -m tests.support.images [NAME ...]``.

Rules kept here: an image is named by the digest of its recipe, so a changed recipe is built anew and an unchanged one is
never built twice on a machine; it appears under its name only when it is whole; no registry is asked, neither for
containers nor for anything that the machine's own package settings do not name; whoever waits sees what is going on.

Left to others: what runs in them (hosts.py), and installing the programs that this needs (tools/molecule).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["IMAGES", "Image", "Trouble", "apt_settings", "ensure", "forget_emulation", "native", "say"]

SUITE = "bookworm"
_HEARTBEAT_S = 20.0
_LIMIT_S = 1800.0
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_RULE = "outlast-foreign"
# What is in Debian's cloud image and in a Pi's, as far as it matters here. What the playbook installs must not be in it.
_STOCK = (
    "systemd systemd-sysv systemd-timesyncd dbus libpam-systemd python3 python3-apt openssh-server sudo ca-certificates "
    "iproute2 iputils-ping procps kmod netbase tzdata"
)
# An emulated processor takes minutes over what a real one does in seconds: what the playbook would install there is in the
# image already. That it does install it is shown on amd64.
_AHEAD = "python3-venv nftables acl unattended-upgrades git bubblewrap tzdata"
# A privileged container must leave alone what belongs to the machine that it runs on: its binfmt registrations (without
# which no emulated program starts any more), its consoles, its kernel settings.
_MASKED = (
    "systemd-binfmt.service proc-sys-fs-binfmt_misc.mount proc-sys-fs-binfmt_misc.automount "
    "console-getty.service getty.target systemd-sysctl.service systemd-modules-load.service"
)
_SETUP = f"""
set -e
root=$1
for unit in {_MASKED}; do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
# Debian has a group of that name already, so the account gets none of its own.
chroot "$root" useradd --create-home --no-user-group --shell /bin/bash operator
echo 'operator ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/010_pi-nopasswd"
chmod 0440 "$root/etc/sudoers.d/010_pi-nopasswd"
# Every host that starts from this image has keys and an identity of its own.
rm -f "$root"/etc/ssh/ssh_host_*
: >"$root/etc/machine-id"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/archives/*.deb
"""


class Trouble(Exception):
    """One line: field: what is wrong; mend: what to do."""


@dataclass(frozen=True, slots=True)
class Image:
    """A recipe. ``arch`` is Debian's name of the processor; ``packages`` are separated by spaces."""

    name: str
    arch: str
    packages: str

    @property
    def tag(self) -> str:
        """Podman's name of it, which tells the recipe."""
        recipe = "\0".join((self.name, self.arch, self.packages, SUITE, _SETUP))
        return f"localhost/outlast-{self.name}:{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"

    @property
    def archive(self) -> Path:
        """Where it is kept, outside the checkout."""
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(os.environ.get("OUTLAST_IMAGES") or Path(cache) / "outlast" / "images")
        return folder / f"{self.tag.rpartition('/')[2].replace(':', '-')}.tar"


IMAGES = {
    image.name: image
    for image in (
        Image("pi-amd64", "amd64", _STOCK),
        Image("mac-amd64", "amd64", f"{_STOCK} python3-venv acl git"),
        Image("pi-arm64", "arm64", f"{_STOCK} {_AHEAD}"),
    )
}


def say(text: str) -> None:
    """Tell the person who waits what is going on."""
    print(text, flush=True)


def ensure(names: Sequence[str]) -> None:
    """Build and import the images that podman lacks. Raises Trouble."""
    if os.geteuid() != 0:
        raise Trouble(
            "user: test hosts run as systemd in privileged containers; mend: run the same command as root (sudo)"
        )
    for name in names:
        image = IMAGES[name]
        if not native(image.arch):
            _emulate(image.arch)
        if _run("podman", "image", "exists", image.tag).returncode == 0:
            say(f"images: {name} is there")
            continue
        with _alone(image.archive.parent):
            if not image.archive.exists():
                _build(image)
            say(f"images: {name}: importing {image.archive}")
            done = _run("podman", "import", "--quiet", "--arch", image.arch, str(image.archive), image.tag)
            if done.returncode:
                raise Trouble(
                    f"podman: {_last(done.stderr)}; mend: rm {image.archive}, then run the same command again"
                )


def _build(image: Image) -> None:
    """Make the archive. Raises Trouble."""
    _need("mmdebstrap", "mmdebstrap")
    began = time.monotonic()
    part, log = image.archive.with_suffix(".part"), image.archive.with_suffix(".log")
    command = [
        "mmdebstrap", "--variant=minbase", "--format=tar", f"--architectures={image.arch}",
        f"--include={','.join(image.packages.split())}", f"--customize-hook={_SETUP}",
        *(f"--aptopt={line}" for line in apt_settings()), SUITE, str(part), *_sources(),
    ]  # fmt: skip
    say(f"images: {image.name}: making it from Debian's packages{'' if native(image.arch) else ', emulated: minutes'}")
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_HEARTBEAT_S)
                seconds = time.monotonic() - began
                if process.returncode is None:
                    say(f"images: {image.name}: {seconds:4.0f} s, {_last(log.read_text(errors='replace'))}")
                if seconds > _LIMIT_S:
                    raise Trouble(
                        f"{image.name}: not made after {seconds:.0f} s; mend: look at {log} and at the network"
                    )
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode:
        part.unlink(missing_ok=True)
        raise Trouble(f"{image.name}: {_last(log.read_text(errors='replace'))}; mend: look at {log} and at the network")
    part.rename(image.archive)
    say(f"images: {image.name}: made in {time.monotonic() - began:.0f} s")


def apt_settings() -> list[str]:
    """How this machine reaches its package archives (proxies, certificates, dates): lines for an apt.conf."""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries", "Acquire::ForceIP")
    return [
        line for line in _run("apt-config", "dump").stdout.splitlines() if line.startswith(wanted) and '""' not in line
    ]


def _sources() -> list[str]:
    """This machine's own Debian archives, where it has the release; else mmdebstrap knows which."""
    if not shutil.which("apt-get"):
        return []
    shape = "$(CODENAME) deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = _run("apt-get", "indextargets", "--format", shape, "Created-By: Packages", "Origin: Debian").stdout
    lines = [line.partition(" ")[2] for line in listed.splitlines() if line.startswith(SUITE)]
    # Its updates alone would not make a system.
    return sorted(set(lines)) if any(f" {SUITE} " in line for line in lines) else []


def native(arch: str) -> bool:
    """Is it this machine's own processor (Debian's name)?"""
    return _run("dpkg", "--print-architecture").stdout.strip() == arch


def _emulate(arch: str) -> None:
    """See to it that the kernel starts programs of that processor, until ``forget_emulation``. Raises Trouble."""
    kind = {"arm64": "qemu-aarch64", "amd64": "qemu-x86_64"}[arch]
    if (_BINFMT / _RULE).exists():
        return
    conf = Path(f"/usr/lib/binfmt.d/{kind}.conf")
    if not conf.exists():
        raise Trouble(f"{kind}: not installed; mend: apt-get install qemu-user-static")
    if not (_BINFMT / "register").exists():
        done = _run("mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT))
        if done.returncode:
            raise Trouble(f"binfmt_misc: {_last(done.stderr)}; mend: modprobe binfmt_misc, outside any container")
    line = next(line for line in conf.read_text().splitlines() if line.startswith(":"))
    # Debian's own rule lacks C, without which sudo is not root there. C is not for good: the emulator is not made for it.
    rule = line.replace(f":{kind}:", f":{_RULE}:", 1) + "C"
    try:
        (_BINFMT / "register").write_text(rule)
    except OSError as error:
        raise Trouble(f"binfmt_misc: {error.strerror} at {rule}; mend: look at {_BINFMT}") from None
    say(f"images: this kernel now starts programs for {arch} with {kind}")


def forget_emulation() -> None:
    """Take back what an emulated host needed."""
    # This file system says "permission denied" of what is not there, because nothing can be made in it.
    with contextlib.suppress(FileNotFoundError, PermissionError):
        (_BINFMT / _RULE).write_text("-1")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One build at a time on a machine."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("images: waiting for another build on this machine")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise Trouble(
            f"{folder}: {error.strerror}; mend: make room there, or name another folder in OUTLAST_IMAGES"
        ) from error


def _need(program: str, package: str) -> None:
    if not shutil.which(program):
        raise Trouble(f"{program}: not installed; mend: apt-get install {package}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    _need(command[0], command[0])
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def _last(text: str) -> str:
    """The last line that says something; progress bars use carriage returns."""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1][:120] if lines else "it says nothing"


def main(names: Sequence[str]) -> int:
    """Build what is named, or all; return the exit code."""
    unknown = [name for name in names if name not in IMAGES]
    try:
        if unknown:
            raise Trouble(f"{unknown[0]}: no such image; mend: one of {', '.join(IMAGES)}")
        ensure(list(names) or list(IMAGES))
    except Trouble as trouble:
        print(trouble, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
