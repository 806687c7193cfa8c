"""``outlast-files``: the one command that a peer's SSH key may run here, whatever it asks for.

sshd runs it in place of what the peer typed, which is in SSH_ORIGINAL_COMMAND and is data: it never meets a shell.

Rules kept here: read only; nothing outside ``workspace/artifacts`` is opened, no link is followed, also where agents put one
a moment ago; an artifact is as large and an answer takes as long as ``files`` in node.yml says, at most; what is refused is
one line that tells nothing of this machine, and an event, once a minute at most.

Left to others: who is let in (sshd), what is asked (files.wire).
"""

from __future__ import annotations

import argparse
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from outlast.clock import SystemClock
from outlast.config import load_config
from outlast.core.ids import valid_unit
from outlast.core.record import one_line
from outlast.errors import ConfigError, FilesError
from outlast.files import wire
from outlast.home import Home
from outlast.quantity import duration, size
from outlast.store.events import EventLog
from outlast.work.artifacts import MANIFEST, Manifest

__all__ = ["main", "serve"]

_CHUNK = 1 << 18
_BURST = 60.0
_LISTED = 200
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def main() -> None:
    """Answer one request, and exit: 0 answered, 1 not to be had, 2 refused, 78 this node's configuration is wrong."""
    parser = argparse.ArgumentParser(prog="outlast-files", description="Answers a peer that asks for files over SSH.")
    parser.add_argument("--home", type=Path, required=True, help="the node's folder")
    parser.add_argument("--peer", required=True, help="whose key was used")
    given = parser.parse_args()
    os.umask(0o077)
    asked = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    try:
        code = serve(Home(given.home), given.peer, asked, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # The peer has what it wanted. Python must not complain when it closes what is closed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def serve(home: Home, peer: str, asked: str, out: BinaryIO) -> int:
    """Answer what ``peer`` asked, to ``out``; what it is not told goes to standard error as one line. Returns the exit code.

    Raises BrokenPipeError when the peer stops listening.
    """
    try:
        config = load_config(home.config)
    except ConfigError:
        return _say("this node cannot answer now; look at `outlast config check` there", 78)
    events = EventLog(home.logs, config.node, SystemClock())
    request = wire.parse(asked)
    if request is None:
        _refused(home, peer, asked, events)
        return _say("only `list artifacts` and `get artifacts UNIT` are answered here", 2)
    # A peer that stops reading must not keep this process for ever; the default action of the signal ends it.
    signal.alarm(int(duration(config.files.timeout)) + 1)
    try:
        if request.verb == "list":
            out.write(msgspec.json.encode(_listed(home)) + b"\n")
        else:
            _send(home, request.unit, size(config.files.size_limit), out)
            events.emit("files.sent", correlation_id=request.unit, peer=peer)
    except BrokenPipeError:
        raise
    except FilesError as error:
        return _say(str(error), 1)
    except OSError as error:
        events.emit("files.not_read", correlation_id=request.unit, peer=peer, error=str(error))
        return _say(f"{request.unit or 'the list'} cannot be read there now; look at `outlast tail` on that node", 1)
    return 0


def _say(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    return code


def _refused(home: Home, peer: str, asked: str, events: EventLog) -> None:
    """One event; what is refused within a minute of it is only counted, and told with the next."""
    place = home.refused(peer)
    try:
        since, count = map(float, place.read_text().split())
    except (OSError, ValueError):
        since, count = 0.0, 0.0
    now = time.time()
    if fresh := not 0 <= now - since < _BURST:
        events.emit("files.refused", peer=peer, asked=one_line(asked), more_since_last=int(count))
    with suppress(OSError):
        place.write_text(f"{now} 0" if fresh else f"{since} {int(count) + 1}")


def _listed(home: Home) -> list[wire.Listed]:
    """The newest artifacts; what has no readable manifest is not one."""
    found = []
    with _artifacts(home) as folder, os.scandir(folder) as entries:
        named = [
            (entry.stat(follow_symlinks=False).st_mtime, entry.name) for entry in entries if valid_unit(entry.name)
        ]
        for _, unit in sorted(named, reverse=True)[:_LISTED]:
            try:
                manifest = _manifest(folder, unit, sys.maxsize)[0]
            except (FilesError, OSError):
                continue
            total = sum(file.size for file in manifest.files)
            found.append(wire.Listed(unit, manifest.ended, manifest.detail, len(manifest.files), total))
    return found


def _send(home: Home, unit: str, most_bytes: int, out: BinaryIO) -> None:
    """Write an artifact as a stream. Raises FilesError; OSError."""
    with _artifacts(home) as folder:
        manifest, data = _manifest(folder, unit, most_bytes)
        out.write(wire.header(MANIFEST, len(data)) + data + bytes(wire.padding(len(data))))
        for file in manifest.files:
            with _opened(folder, f"{unit}/{file.path}") as fd:
                if os.fstat(fd).st_size != file.size:
                    raise FilesError(f"{unit}: {file.path} is not what its manifest says; nobody can fetch it as it is")
                out.write(wire.header(file.path, file.size))
                _copy(fd, file.size, out)
                out.write(bytes(wire.padding(file.size)))
        out.write(wire.END)


def _copy(fd: int, left: int, out: BinaryIO) -> None:
    while left:
        chunk = os.read(fd, min(left, _CHUNK))
        if not chunk:
            raise FilesError("a file became shorter while it was sent; ask again")
        out.write(chunk)
        left -= len(chunk)


def _manifest(folder: int, unit: str, most_bytes: int) -> tuple[Manifest, bytes]:
    """Raises FilesError; OSError."""
    try:
        with _opened(folder, f"{unit}/{MANIFEST}") as fd:
            data = os.read(fd, wire.MANIFEST_LIMIT + 1)
    except FileNotFoundError:
        raise FilesError(f"there is no artifact {unit}; ask for the list") from None
    if len(data) > wire.MANIFEST_LIMIT:
        raise FilesError(f"{unit}: its manifest is damaged; it is not sent")
    return wire.check(data, unit, most_bytes), data


@contextmanager
def _artifacts(home: Home) -> Iterator[int]:
    fd = os.open(home.artifacts, _FOLDER)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _opened(folder: int, path: str) -> Iterator[int]:
    """A plain file below an open directory; no part of its path may be a link. Raises OSError."""
    *folders, name = path.split("/")
    with ExitStack() as stack:
        for part in folders:
            folder = os.open(part, _FOLDER, dir_fd=folder)
            stack.callback(os.close, folder)
        fd = os.open(name, _FILE, dir_fd=folder)
        stack.callback(os.close, fd)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise OSError(f"{path} is not a plain file")
        yield fd
