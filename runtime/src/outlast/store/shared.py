"""What the nodes know together, on the disk: ``workspace/shared/AGENT.jsonl``, the live entries of each agent, one a line.

Rules kept here:

* ``commit`` returns when its entries are on the disk; where it raises, nothing that failed is in memory.
* Every line carries a checksum. One that is torn or damaged is passed over and reported, and the file is written anew; the file
  as it was is kept in trash. A line that a newer version wrote stays as it is.
* Others write these files as well (git, which takes the union of lines): before anything is said or written, a changed file is
  read again and joined, and what it has lost of what is known here is written again.
* A file most of whose lines are superseded is written anew.

Left to others: what entries mean (core.crdt), and bringing back from a sibling what was lost here (net.exchange).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from hashlib import blake2s
from pathlib import Path

import msgspec

from outlast.clock import Clock, stamp
from outlast.core.crdt import AGENT, Entry, Replica
from outlast.core.findings import Finding
from outlast.errors import DurabilityError
from outlast.store import durable, regular
from outlast.store.appendfile import AppendFile

__all__ = ["SharedFiles", "line", "read_line"]

_SUFFIX = ".jsonl"
# From so many lines on a file is looked at for what is superseded in it.
_MANY = 1000
# How no file looks, not even one that is missing.
_UNKNOWN = (-1, -1, -1)
_TAIL = re.compile(rb',"sum":"([0-9a-f]{8})"\}')
_TAIL_BYTES = len(b',"sum":"01234567"}')
_decode = msgspec.json.Decoder(Entry).decode
_encode = msgspec.json.Encoder().encode


def line(entry: Entry) -> bytes:
    """Write an entry as its line: a JSON object whose last field is the checksum of the rest."""
    body = _encode(entry)
    return b'%s,"sum":"%s"}\n' % (body[:-1], _checksum(body).encode())


def read_line(data: bytes) -> Entry | bool:
    """Read a line without its end: the entry; False where it is damaged, True where it is whole and not understood."""
    tail = _TAIL.fullmatch(data, max(0, len(data) - _TAIL_BYTES))
    body = data[:-_TAIL_BYTES] + b"}"
    if tail is None or _checksum(body).encode() != tail[1]:
        return False
    try:
        entry = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return True
    return entry if not entry.unsound() else True


def _checksum(body: bytes) -> str:
    return blake2s(body, digest_size=4).hexdigest()


class SharedFiles:
    """The replica in ``folder``. One process at a time holds it; git may write there too."""

    def __init__(self, folder: Path, trash: Path, priority: Sequence[str], clock: Clock) -> None:
        """Read what is there. Raises DurabilityError."""
        self.replica = Replica(priority)
        self.findings: list[Finding] = []
        self._folder = folder
        self._trash = trash
        self._clock = clock
        self._files: dict[str, AppendFile] = {}
        # By agent: what its file looked like when all of it was known, its lines, and those of them that are not understood.
        self._seen: dict[str, tuple[int, int, int] | None] = {}
        self._lines: dict[str, int] = {}
        self._alien: dict[str, list[bytes]] = {}
        # Files in which a write failed, or that are damaged: written anew before anything is added.
        self._doubted: set[str] = set()
        with contextlib.suppress(OSError):
            durable.sweep(folder)
        self.look()

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def look(self) -> bool:
        """Take in what others wrote into the files; true if there was something. Costs a look where nothing changed.

        Raises DurabilityError where a file cannot be read.
        """
        changed = [agent for agent in self._agents() if self._stat(agent) != self._seen.get(agent)]
        if not changed:
            return False
        before = len(self.replica), dict(self.replica.have)
        for agent in changed:
            self._read(agent)
        for agent in changed:
            self._tidy(agent)
        return before != (len(self.replica), self.replica.have)

    def commit(self, entries: Iterable[Entry]) -> list[Entry]:
        """Take entries in, durably. Returns those that are new here. Raises DurabilityError."""
        self.look()
        entries = list(dict.fromkeys(entries))
        fresh = [entry for entry in entries if self.replica.wants(entry)]
        for agent in dict.fromkeys(entry.agent for entry in fresh):
            if agent in self._doubted:
                self._write_anew(agent)
            own = [entry for entry in fresh if entry.agent == agent]
            self._append(agent, own)
            self.replica.absorb(own)
            self._compact(agent)
        # What is superseded already counts as known.
        self.replica.absorb(entries)
        return fresh

    def _path(self, agent: str) -> Path:
        return self._folder / f"{agent}{_SUFFIX}"

    def _agents(self) -> list[str]:
        try:
            there = {name.removesuffix(_SUFFIX) for name in os.listdir(self._folder) if name.endswith(_SUFFIX)}
        except FileNotFoundError:
            there = set()
        except OSError as error:
            raise DurabilityError(f"{self._folder.name}/ could not be read: {error.strerror or error}") from error
        return sorted({agent for agent in there if re.fullmatch(AGENT, agent)} | set(self._seen))

    def _stat(self, agent: str) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path(agent))
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self, agent: str) -> None:
        """Join what an agent's file holds with what is known."""
        self._seen[agent] = self._stat(agent)
        entries: list[Entry] = []
        alien: list[bytes] = []
        damaged = 0
        try:
            with regular.opened(self._path(agent)) as lines:
                for text in lines:
                    # An editor, or git on a checkout, may end lines in its own way.
                    if not (text := text.rstrip(b"\r\n")).strip():
                        continue
                    found = read_line(text)
                    if isinstance(found, Entry) and found.agent == agent:
                        entries.append(found)
                    elif found is True:
                        alien.append(text + b"\n")
                    else:
                        damaged += 1
        except FileNotFoundError:
            pass
        except OSError as error:
            self._seen[agent] = _UNKNOWN
            raise DurabilityError(f"{self._path(agent).name} could not be read: {error.strerror or error}") from error
        known = self.replica.of([agent])
        self.replica.absorb(entries)
        if known and any(entry in self.replica for entry in set(known).difference(entries)):
            self._find(agent, "it had lost entries that are known here", "they were written again")
            self._doubted.add(agent)
        if damaged:
            self._find(agent, f"{damaged} damaged lines" if damaged > 1 else "a torn or damaged line", "passed over")
            self._doubted.add(agent)
        if alien and alien != self._alien.get(agent):
            told = f"{len(alien)} lines that this version does not understand"
            self.findings.append(Finding(self._name(agent), told, "they are kept; upgrade this node", ok=False))
        self._alien[agent], self._lines[agent] = alien, len(entries)

    def _tidy(self, agent: str) -> None:
        """Write a file anew that needs it. Where that fails it is done before the next write: reading must go on."""
        try:
            if agent in self._doubted:
                self._write_anew(agent)
            self._compact(agent)
        except DurabilityError as error:
            self._doubted.add(agent)
            self._find(agent, f"it could not be written anew: {error}", "it will be, before anything is added to it")

    def _compact(self, agent: str) -> None:
        lines = self._lines.get(agent, 0)
        if lines > _MANY and lines > 2 * self.replica.count(agent):
            self._write_anew(agent)

    def _append(self, agent: str, entries: Sequence[Entry]) -> None:
        data = b"".join(map(line, entries))
        file = self._files.get(agent) or self._files.setdefault(agent, AppendFile(self._path(agent)))
        before = self._stat(agent)
        try:
            file.append(data)
        except DurabilityError:
            self._seen[agent] = _UNKNOWN
            self._doubted.add(agent)
            raise
        self._lines[agent] = self._lines.get(agent, 0) + len(entries)
        after = self._stat(agent)
        # Where the file is longer than by what was written somebody else was here, and it is read at the next look.
        if after and after[1] == (before[1] if before else 0) + len(data):
            self._seen[agent] = after

    def _write_anew(self, agent: str) -> None:
        path = self._path(agent)
        entries = self.replica.of([agent])
        if path.exists():
            self._keep(path)
        durable.make_dir(self._folder, mode=durable.SHARED_FOLDER)
        data = b"".join([*map(line, entries), *self._alien.get(agent, ())])
        if file := self._files.pop(agent, None):
            file.close()
        durable.replace(path, data, mode=durable.SHARED_FILE)
        self._seen[agent], self._lines[agent] = self._stat(agent), len(entries)
        self._doubted.discard(agent)

    def _keep(self, path: Path) -> None:
        """Leave the file as it is in trash; the path goes on naming it until it is replaced."""
        durable.make_dir(self._trash)
        target = self._trash / f"{stamp(self._clock.time())}-{secrets.token_hex(2)}-{path.name}"
        try:
            os.link(path, target)
            durable.fsync_dir(self._trash)
        except OSError:
            # A file system without links.
            try:
                durable.replace(target, path.read_bytes())
            except OSError as error:
                raise DurabilityError(f"{path.name} could not be kept: {error.strerror or error}") from error

    def _name(self, agent: str) -> str:
        return f"{self._folder.name}/{self._path(agent).name}"

    def _find(self, agent: str, found: str, done: str) -> None:
        finding = Finding(self._name(agent), found, done)
        if finding not in self.findings:
            self.findings.append(finding)
