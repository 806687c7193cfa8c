"""Key files: one ``NAME.key`` an agent, and the rings in them, which change while the node runs.

Rules kept here: a key file that anybody else may read or write, or that belongs to somebody else, is refused; a secret is
never shown, not even in an error. A key is made on the node that signs with it. A change is on the disk before it counts,
but for a revocation, which counts at once. The secret of a key that is retired or revoked is erased: no copy goes to the
trash.

Left to others: carrying rings to the other nodes (Ansible), what a ring becomes (core.keys), signing and verifying
(core.webhook).
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from outlast.core import ed25519, keys
from outlast.core.keys import Key, Kind, Ring, Secret
from outlast.core.ringtext import RING_LIMIT, Outside, outside_text, parse_outside, parse_ring, ring_text
from outlast.errors import BadInput, DurabilityError, KeyFileError, SignatureError
from outlast.store import durable

__all__ = ["Keyring", "make_key", "new_key", "outside_folder", "read_ring", "write_ring"]

_AGAIN = "run ansible-playbook site.yml"
# Every one of them is tried on whatever a stranger sends in a peer's name; a rotation needs three.
_MOST = 8
_T = TypeVar("_T")


def outside_folder(folder: Path) -> Path:
    """Where the keys of outside services are, beside those of the nodes."""
    return folder / "outside"


def read_ring(path: Path) -> Ring:
    """Read one key file. Raises KeyFileError."""
    return _parsed(path, lambda text, made: parse_ring(text, made) or _refuse("it is empty"))


def _read_outside(path: Path) -> Outside:
    return _parsed(path, lambda text, _: parse_outside(text))


def _refuse(wrong: str) -> Ring:
    raise SignatureError(wrong)


def _parsed(path: Path, parse: Callable[[str, float], _T]) -> _T:
    data, made = _read(path)
    try:
        if len(data) > RING_LIMIT:
            raise SignatureError("it is too long")
        return parse(data.decode("ascii"), made)
    except SignatureError as error:
        raise KeyFileError(str(path), str(error), f"move it away and {_AGAIN}: a new key is made") from None
    except UnicodeDecodeError:
        mend = f"move it away and {_AGAIN}: a new key is made"
        raise KeyFileError(str(path), "it holds something else than keys, one a line", mend) from None


def _read(path: Path) -> tuple[bytes, float]:
    """What is in the file, and when it was written, in Unix seconds."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise KeyFileError(str(path), "there is no such key file", _AGAIN) from None
    except OSError as error:
        raise KeyFileError(str(path), f"it cannot be read ({error.strerror})", f"chmod 600 {path}") from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise KeyFileError(str(path), "it is not a regular file", f"move it away and {_AGAIN}")
        if found.st_uid != os.geteuid():
            raise KeyFileError(str(path), "it belongs to another user", f"chown it to the user that runs {path.stem}")
        if found.st_mode & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise KeyFileError(str(path), f"others may use it (mode {mode:04o})", f"chmod 600 {path}")
        return os.read(fd, RING_LIMIT + 1), found.st_mtime
    finally:
        os.close(fd)


def write_ring(path: Path, ring: Ring) -> None:
    """Replace a key file. Raises DurabilityError, and the old one stays; BadInput for a ring that is too long to be read."""
    _write(path, ring_text(ring))


def _write(path: Path, text: str) -> None:
    if len(text) > RING_LIMIT:
        raise BadInput(path.name, f"it would have more than {RING_LIMIT} bytes", "remove old revoked keys from it")
    durable.make_dir(path.parent)
    durable.replace(path, text.encode("ascii"))


def _settle(path: Path) -> None:
    """What is told to be so already must be on the disk: who wrote it may have been killed before that."""
    try:
        if path.exists():
            durable.settle(path)
            durable.fsync_dir(path.parent)
    except OSError as error:
        raise DurabilityError(f"{path.name} could not be written: {error.strerror or error}") from error


def new_key(kind: Kind) -> Secret:
    """A fresh secret. Raises BadInput where Ed25519 is asked for and its library is missing."""
    fresh = secrets.token_bytes(32)
    if kind == "hmac":
        return Secret(fresh)
    try:
        return Secret(fresh, ed25519.public(fresh))
    except SignatureError as error:
        raise BadInput("keys.kind", *str(error).split(": ", 1)) from error


def make_key(path: Path, kind: Kind = "hmac") -> bool:
    """Make a key file unless there is one already, whatever is in it. True if one was made.

    Raises DurabilityError, BadInput.
    """
    if os.path.lexists(path):
        return False
    write_ring(path, _first(kind, time.time()))
    return True


def _first(kind: Kind, now: float, ring: Ring = ()) -> Ring:
    return keys.use(keys.prepare(ring, new_key(kind), now, ""))


class Keyring:
    """The rings of the node itself, of its peers, and of outside services, as they are now.

    Methods that change one raise DurabilityError, and then nothing has changed.
    """

    def __init__(self, folder: Path, own: str, peers: Collection[str]) -> None:
        """Read the node's own key file and those of its peers. Raises KeyFileError for the first that is wrong.

        A peer whose file is not there yet is left out of ``peers``: a node can be made while its sibling sleeps, and works
        alone until the key comes.
        """
        self.node = own
        self.own = read_ring(folder / f"{own}.key")
        if any(key.secret and not key.secret.key for key in self.own):
            mend = f"move it away and {_AGAIN}: a new key is made"
            raise KeyFileError(str(folder / f"{own}.key"), "it holds public halves, which sign nothing", mend)
        files = {peer: folder / f"{peer}.key" for peer in peers}
        self.peers = {peer: read_ring(path) for peer, path in files.items() if os.path.lexists(path)}
        self.outside: dict[str, Outside] = {}
        for path in sorted(outside_folder(folder).glob("*.key")):
            if path.stem == own or path.stem in files:
                mend = f"give the service another name: move {path} away, then outlast keys add"
                raise KeyFileError(str(path), f"{path.stem} is a node's name", mend)
            self.outside[path.stem] = _read_outside(path)
        # Told of every file that was written.
        self.kept: Callable[[Path], None] = lambda _: None
        self._folder = folder
        self._known = frozenset(peers)

    def __iter__(self) -> Iterator[tuple[str, Ring]]:
        """Every agent's name and its ring, the node's own first."""
        yield self.node, self.own
        yield from sorted(self.peers.items())
        yield from ((name, one.ring) for name, one in sorted(self.outside.items()))

    def path(self, agent: str) -> Path:
        """Where an agent's keys are."""
        folder = outside_folder(self._folder) if agent in self.outside else self._folder
        return folder / f"{agent}.key"

    def prepare(self, kind: Kind, now: float, rotation: str) -> Key:
        """Make the next key, unless one waits already; returns it. ``now``: Unix seconds. Raises BadInput as well."""
        ring = self.own
        if keys.pending(ring) is None:
            ring = keys.prepare(ring, new_key(kind), now, rotation)
        self._keep(self.node, ring)
        return ring[0]

    def use(self) -> Key:
        """Sign with the newest key from now on; returns it. Raises BadInput as well."""
        if not keys.accepted(self.own):
            raise BadInput("keys", f"{self.node} has no key that is not revoked", "outlast keys prepare makes one")
        self._keep(self.node, keys.use(self.own))
        return keys.signing(self.own)

    def retire(self) -> list[str]:
        """Let go of what is older than the active key; returns the ids of the keys that were accepted until now.

        Raises BadInput as well.
        """
        before = self.own
        if not keys.signs(before):
            raise BadInput("keys", f"no key of {self.node} signs", "outlast keys prepare and use come first")
        self._keep(self.node, keys.retire(self.own))
        return _ended(before, self.own)

    def revoke(self, agent: str, ids: Collection[str] | None = None) -> list[str]:
        """Never again accept these keys of ``agent``, or any that it has now; returns those that were accepted until now.

        The node itself signs nothing then until it has prepared and used a key. Where a revocation cannot be written down it
        holds until the runtime ends. Raises BadInput as well.
        """
        before = self._ring(agent)
        ring = keys.revoke(before, ids)
        try:
            self._keep(agent, ring)
        except DurabilityError:
            self._set(agent, ring)
            raise
        return _ended(before, ring)

    def accept(self, agent: str, text: str) -> bool:
        """Take in what a peer says that its ring is; returns whether that changed anything. Raises BadInput as well."""
        if agent not in self._known:
            known = ", ".join(sorted(self._known)) or "none are configured"
            raise BadInput("AGENT", f"{self.node} has no peer {agent!r}", f"one of: {known}")
        try:
            incoming = keys.shared(parse_ring(text))
        except SignatureError as error:
            mend = f"on {agent}: outlast keys show"
            raise BadInput("ring", f"not what a node's key file holds: {error}", mend) from None
        if not incoming:
            raise BadInput("ring", "it is empty", f"on {agent}: outlast keys show")
        merged = keys.merge(self.peers.get(agent, ()), incoming)
        if len(keys.accepted(merged)) > _MOST:
            raise BadInput("ring", f"more than {_MOST} keys would be accepted", f"on {agent}: outlast keys retire")
        return self._keep(agent, merged)

    def add(self, name: str, allow: tuple[str, ...], rate: int, now: float) -> Secret:
        """Make the key of an outside service, which may send messages of these types, ``rate`` a minute; returns it.

        Raises BadInput as well.
        """
        if name == self.node or name in self._known:
            raise BadInput("NAME", f"{name} is a node's name", "give the service another one")
        there = self.outside.get(name)
        if there and keys.accepted(there.ring):
            raise BadInput("NAME", f"{name} has a key already", f"outlast keys remove {name}")
        # What an outside service signs with is Standard Webhooks' common case.
        ring = _first("hmac", now, there.ring if there else ())
        self._keep_outside(name, Outside(allow, rate, ring))
        secret = keys.signing(ring).secret
        assert secret is not None
        return secret

    def remove(self, name: str) -> list[str]:
        """Let go of an outside service: its secret is erased; returns the ids. Raises BadInput as well."""
        there = self.outside.get(name)
        if there is None:
            known = ", ".join(sorted(self.outside)) or "there are none"
            raise BadInput("NAME", f"{name} is not an outside service", f"one of: {known}")
        return self.revoke(name)

    def unlike(self) -> list[str]:
        """The agents whose files are not what is held here. Raises KeyFileError for the first that is wrong."""
        there = Keyring(self._folder, self.node, self._known)
        held, found = dict(self), dict(there)
        return sorted(name for name in {*held, *found} if held.get(name) != found.get(name))

    def _ring(self, agent: str) -> Ring:
        if agent == self.node:
            return self.own
        if agent in self.outside:
            return self.outside[agent].ring
        if agent in self._known:
            return self.peers.get(agent, ())
        known = ", ".join([self.node, *sorted(self._known), *sorted(self.outside)])
        raise BadInput("AGENT", f"{agent!r} has no keys here", f"one of: {known}")

    def _keep(self, agent: str, ring: Ring) -> bool:
        if ring == self._ring(agent):
            _settle(self.path(agent))
            return False
        if agent in self.outside:
            self._keep_outside(agent, msgspec.structs.replace(self.outside[agent], ring=ring))
            return True
        path = self.path(agent)
        write_ring(path, ring)
        self._set(agent, ring)
        self.kept(path)
        return True

    def _keep_outside(self, name: str, one: Outside) -> None:
        path = outside_folder(self._folder) / f"{name}.key"
        _write(path, outside_text(one))
        self.outside[name] = one
        self.kept(path)

    def _set(self, agent: str, ring: Ring) -> None:
        if agent == self.node:
            self.own = ring
        elif agent in self.outside:
            self.outside[agent] = msgspec.structs.replace(self.outside[agent], ring=ring)
        else:
            self.peers[agent] = ring


def _ended(before: Ring, after: Ring) -> list[str]:
    live = {key.id for key in keys.accepted(after)}
    return [key.id for key in keys.accepted(before) if key.id not in live]
