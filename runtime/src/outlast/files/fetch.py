"""Asks a peer for its artifacts over SSH, and publishes one here as if it had been made here.

Rules kept here: who answers must hold the host key that Ansible wrote down under the peer's name, wherever it is now; an
artifact appears in ``workspace/artifacts`` whole, checked and durable, by one rename, or not at all; one that is here and the
same is fine, one that is here and differs stays as it is; every failure is one line. One fetch at a time runs in a home, so
that what lies in ``var/fetch`` when it begins is what a killed one left.

Left to others: what is taken from a stream (files.receive), letting peers in (the role ``siblings``).
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import IO, TypeVar, cast

import msgspec

from outlast.core.plainjson import from_json
from outlast.core.record import one_line
from outlast.errors import BadInput, FilesError, PeerError
from outlast.files.receive import receive
from outlast.files.wire import MANIFEST_LIMIT, Listed, Request, Truncated, read_manifest
from outlast.home import Home
from outlast.quantity import duration, size
from outlast.settings import Config, Ssh
from outlast.store import durable
from outlast.work.artifacts import MANIFEST, Manifest, publish, verify

__all__ = ["Fetched", "artifacts_of", "fetch"]

_SAID = 8192
_FULL = (errno.ENOSPC, errno.EDQUOT)
_SITE = "run ansible-playbook site.yml, which brings keys and addresses up to date"
# What ssh says on its standard error, and what that means for whoever asked; {peer} is the peer's name.
_TROUBLE = {
    "HOST IDENTIFICATION HAS CHANGED": "its host key is not the one that was written down, so nothing was asked; "
    f"where {{peer}}'s machine was set up anew, {_SITE}; else find out who answers there",
    "Host key verification failed": f"its host key is not known here, so nothing was asked; {_SITE}",
    "Permission denied": f"it does not take this node's SSH key; {_SITE}",
}
T = TypeVar("T")


class Fetched(msgspec.Struct, frozen=True):
    """What is here now: ``already`` says that it was before. ``bytes`` are those of the files together."""

    peer: str
    unit: str
    path: str
    files: int
    bytes: int
    already: bool


def artifacts_of(home: Home, config: Config, peer: str) -> list[Listed]:
    """Ask ``peer`` for its newest artifacts. Raises BadInput, PeerError, FilesError."""

    def take(stream: BufferedIOBase) -> list[Listed]:
        data = stream.read(MANIFEST_LIMIT)
        if not data.endswith(b"\n"):
            raise Truncated("the list ended too early; ask again")
        try:
            return msgspec.json.decode(data, type=list[Listed])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise FilesError(f"{peer} answered with no list; see that both run the same release") from None

    return _ask(home, config, peer, Request("list"), take)


def fetch(home: Home, config: Config, peer: str, unit: str) -> Fetched:
    """Bring ``artifacts/UNIT`` of ``peer`` here. Raises BadInput, PeerError, FilesError, DurabilityError."""
    target = home.artifacts / unit

    def take(stream: BufferedIOBase) -> Fetched:
        manifest, data = read_manifest(stream, unit, size(config.files.size_limit))
        already = os.path.lexists(target)
        if not already:
            receive(stream, manifest, data, folder)
            durable.make_dir(home.artifacts, mode=durable.SHARED_FOLDER)
            publish(folder, target)
        _compare(target, manifest, peer)
        total = sum(file.size for file in manifest.files)
        return Fetched(peer, unit, str(target), len(manifest.files), total, already)

    try:
        with _room(home, unit) as folder:
            return _ask(home, config, peer, Request("get", unit), take)
    except OSError as error:
        if error.errno in _FULL:
            raise FilesError(f"disk: full at {home.root}; make room there and fetch again") from error
        name = os.path.basename(os.fsdecode(error.filename or unit))
        raise FilesError(f"{unit}: {one_line(name)}: {error.strerror or error}; it is not taken") from error


def _compare(target: Path, manifest: Manifest, peer: str) -> None:
    """Is what lies here what the peer has? Raises FilesError."""
    mend = f"both are kept as they are: move {target} away to have {peer}'s"
    try:
        ours = from_json((target / MANIFEST).read_bytes(), Manifest)
    except (OSError, ValueError):
        raise FilesError(f"{manifest.unit}: another one without a manifest is here; {mend}") from None
    if ours != manifest:
        raise FilesError(f"{manifest.unit}: another one is here; {mend}")
    if wrong := verify(target, manifest):
        raise FilesError(f"{manifest.unit}: the one here is damaged ({one_line(wrong)}); {mend}")


@contextmanager
def _room(home: Home, unit: str) -> Iterator[Path]:
    """An empty folder, after whoever fetches now is done; it is gone afterwards unless it was moved to its place."""
    durable.make_dir(home.fetching, mode=durable.SHARED_FOLDER)
    fd = os.open(home.fetching, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    folder = home.fetching / unit
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        for left in home.fetching.iterdir():
            shutil.rmtree(left, ignore_errors=True)
        folder.mkdir(mode=durable.SHARED_FOLDER)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


def _ask(home: Home, config: Config, peer: str, request: Request, take: Callable[[BufferedIOBase], T]) -> T:
    """Ask over SSH, and let ``take`` read the answer. Raises BadInput, PeerError, FilesError, and what ``take`` raises."""
    ssh = _way(home, config, peer)
    seconds = duration(config.files.timeout)
    late = threading.Event()
    try:
        process = subprocess.Popen(
            _command(home, peer, ssh, request), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except FileNotFoundError:
        raise PeerError("ssh: it is not installed here; install OpenSSH's client") from None

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    with process:
        timer.start()
        try:
            return take(cast(BufferedIOBase, process.stdout))
        except Truncated as error:
            said = cast(IO[bytes], process.stderr).read(_SAID).decode(errors="replace")
            if late.is_set():
                wrong = f"not done in {config.files.timeout}; ask again, or raise files.timeout on both nodes"
                raise PeerError(f"{peer}: {wrong}") from None
            raise _explain(peer, ssh, process.wait(), said) or error from None
        finally:
            timer.cancel()
            process.kill()


def _way(home: Home, config: Config, peer: str) -> Ssh:
    """Raises BadInput."""
    if peer not in config.peers:
        known = ", ".join(sorted(config.peers)) or "none are configured"
        raise BadInput("PEER", f"{config.node} has no peer {peer!r}", f"one of: {known}")
    ssh = config.peers[peer].ssh
    if ssh is None:
        wrong = f"it is not set, so {peer}'s files cannot be fetched"
        mend = f"where {peer} is on this machine, read them in its home; else set outlast_manage_machine, and {_SITE}"
        raise BadInput(f"peers.{peer}.ssh", wrong, mend)
    if (owner := home.workspace.stat().st_uid) != os.geteuid():
        # Root, too, would leave files behind that the node may not read.
        name = pwd.getpwuid(owner).pw_name
        raise BadInput("user", f"the workspace is {name}'s, not yours", f"ask as {name}: sudo -u {name} outlast …")
    if not home.ssh_key.exists():
        raise BadInput(str(home.ssh_key), "the node has no SSH key", _SITE)
    return ssh


def _command(home: Home, peer: str, ssh: Ssh, request: Request) -> list[str]:
    """What is run: nothing of the user's own SSH configuration counts, and nothing is asked on a terminal."""
    options = {
        "BatchMode": "yes",
        "ClearAllForwardings": "yes",
        "ConnectTimeout": "10",
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlgorithms": "ssh-ed25519",
        # Machines travel: the key is looked up under the node's name, whatever its address is.
        "HostKeyAlias": peer,
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "IdentityFile": _quoted(home.ssh_key),
        "LogLevel": "ERROR",
        "Port": str(ssh.port),
        "PreferredAuthentications": "publickey",
        "ServerAliveInterval": "15",
        "StrictHostKeyChecking": "yes",
        "UpdateHostKeys": "no",
        "User": ssh.user,
        "UserKnownHostsFile": _quoted(home.known_hosts),
    }
    settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "none", "-T", *settings, "--", ssh.host, str(request)]


def _quoted(path: Path) -> str:
    """A path as ssh reads it in an option: in quotes, and with no `%` of its own."""
    return f'"{path}"'.replace("%", "%%")


def _explain(peer: str, ssh: Ssh, code: int, said: str) -> PeerError | FilesError | None:
    """Why there is no answer, by ssh's exit code and what was said; None when nobody gave a reason."""
    lines = [one_line(line, 300) for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    # ssh ends with 255 for itself, and with the other side's exit code otherwise.
    if code == 255:
        for sign, meaning in _TROUBLE.items():
            if sign in said:
                return PeerError(f"{peer}: {meaning.format(peer=peer)}")
        where = f"{ssh.host}, port {ssh.port}"
        return PeerError(f"{peer} is not reachable over SSH at {where}: {last or 'the connection broke'}")
    if code in {126, 127}:
        return PeerError(f"{peer}: its runtime does not answer there; {_SITE}")
    return FilesError(f"{peer}: {last}") if code > 0 and last else None
