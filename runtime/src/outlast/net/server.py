"""A small HTTP/1.1 server on asyncio: TCP, or TLS over it, for peers, a Unix socket for the node's own people and programs.

Rules kept here: whatever a stranger sends costs bounded memory and time (see HttpLimits), and one address that takes all the
connections keeps no other out; requests of one connection are answered in order, one at a time, and no more is read
meanwhile; a peer or the console never sees a traceback, the ``on_error`` callback does; a request whose handler has begun is
handled to its end even if its sender hangs up.

Left to others: what requests mean, how long a handler may take, and that only one daemon runs in a home: two that start
in the same instant are kept apart by the home's lock, not by the socket file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import stat
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from outlast.errors import BadInput
from outlast.net.connection import Connection, Handler
from outlast.net.http import HttpLimits

if TYPE_CHECKING:
    import ssl

__all__ = ["HttpLimits", "HttpServer"]

_SUN_PATH = 103 if sys.platform == "darwin" else 107
_BACKLOG = 128


class Cuttable(Protocol):
    """A connection, or one that is about to be; ``remote``: the address that it came from, or ``unix``."""

    remote: str

    def abort(self, *, cancel: bool = False) -> None: ...


class HttpServer:
    """Serves ``handler`` on any number of sockets, which share one set of limits.

    ``on_error`` is given what a handler raised; by default one line, without the error's text, goes to the log
    ``outlast.net.server``.
    """

    def __init__(
        self,
        handler: Handler,
        limits: HttpLimits,
        *,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self.handler = handler
        self.limits = limits
        self._on_error = on_error or _log_error
        self._listeners: list[asyncio.Server] = []
        self._files: list[tuple[Path, int, int]] = []
        self._connections: set[Cuttable] = set()
        # Ordered: the first has been so longest.
        self._idle: dict[Cuttable, None] = {}
        self._waiting: dict[Cuttable, None] = {}
        self._nobody = asyncio.Event()
        self._nobody.set()
        self.closing = False

    async def start_tcp(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen on an address, with ``tls`` for nothing else than that; port 0 takes a free one. Returns the port.

        Raises BadInput if that cannot be had.
        """
        loop = asyncio.get_running_loop()
        try:
            listener = await loop.create_server(self._accepts(tls), host, port, backlog=_BACKLOG)
        except (OSError, OverflowError, UnicodeError) as error:
            raise BadInput(f"{host}:{port}", f"cannot listen there ({_reason(error)})", "choose another") from None
        self._listeners.append(listener)
        return int(listener.sockets[0].getsockname()[1])

    async def start_unix(self, path: str | os.PathLike[str]) -> None:
        """Listen on a socket file that only its owner may open, from the moment it exists; replaces a dead daemon's.

        Raises BadInput if the path is too long for a socket, is something else, or is served by a live process.
        """
        file = Path(path)
        bound = _bind_unix(file)
        try:
            info = os.lstat(file)
            listener = await asyncio.get_running_loop().create_unix_server(
                self._connection, sock=bound, backlog=_BACKLOG
            )
        except BaseException:
            bound.close()
            file.unlink(missing_ok=True)
            raise
        self._listeners.append(listener)
        self._files.append((file, info.st_dev, info.st_ino))

    async def close(self, grace_s: float = 5.0) -> None:
        """Accept nothing more, let requests that have begun finish for ``grace_s`` seconds, then cut the rest off."""
        self.closing = True
        for listener in self._listeners:
            listener.close()
        for file, device, inode in self._files:
            _unlink_own(file, device, inode)
        self._files.clear()
        for idle in list(self._idle):
            idle.abort()
        try:
            async with asyncio.timeout(grace_s):
                await self._nobody.wait()
        except TimeoutError:
            pass
        finally:
            for connection in list(self._connections):
                connection.abort(cancel=True)
        # A handler that resists being cancelled does not hold up the stop for ever.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._nobody.wait()
                for listener in self._listeners:
                    await listener.wait_closed()
        self._listeners.clear()

    # What follows is for the connections.

    def admit(self, connection: Cuttable) -> bool:
        """Take a new connection in, if need be at the cost of the address with the most of them: of the one that has been idle
        longest, or else keeps us waiting longest, or else, where that leaves it no fewer, of one at work; false if there is
        no room.
        """
        if self.closing:
            return False
        if len(self._connections) >= self.limits.connections:
            held = Counter(one.remote for one in self._connections)
            at_work = [one for one in self._connections if held[one.remote] > held[connection.remote] + 1]
            # Of equals the first is taken.
            longest = max([*self._idle, *self._waiting, *at_work], key=lambda one: held[one.remote], default=None)
            if longest is None:
                return False
            longest.abort()
            self.forget(longest)
        self._connections.add(connection)
        self._nobody.clear()
        return True

    def forget(self, connection: Cuttable) -> None:
        """The connection is over, and so is its handler."""
        self.set_idle(connection, False)
        self._connections.discard(connection)
        if not self._connections:
            self._nobody.set()

    def set_idle(self, connection: Cuttable, idle: bool) -> None:
        """Nothing is lost if an idle connection is cut."""
        self._idle.pop(connection, None)
        self._waiting.pop(connection, None)
        if idle and connection in self._connections:
            self._idle[connection] = None

    def set_waiting(self, connection: Cuttable) -> None:
        """A part of a request is here, or of an answer taken: the peer must begin anew if the connection is cut."""
        self._idle.pop(connection, None)
        if connection in self._connections:
            self._waiting[connection] = None

    def report(self, error: Exception) -> None:
        """Pass on what went wrong in a handler; a fault in the callback changes nothing for the peer."""
        with contextlib.suppress(Exception):
            self._on_error(error)

    def _connection(self) -> Connection:
        return Connection(self)

    def _accepts(self, tls: ssl.SSLContext | None) -> Callable[[], asyncio.BaseProtocol]:
        if tls is None:
            return self._connection
        from outlast.net.tls import Handshake

        return lambda: Handshake(self, tls, self._connection)


def _log_error(error: Exception) -> None:
    logging.getLogger("outlast.net.server").error("a handler raised %s", type(error).__name__)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    return "not a host and port of this machine"


def _bind_unix(file: Path) -> socket.socket:
    """A bound Unix socket whose file has mode 0600. Raises BadInput."""
    length = len(os.fsencode(file))
    if length > _SUN_PATH:
        mend = "move the node's home to a shorter path"
        raise BadInput(str(file), f"{length} bytes, a socket's path has at most {_SUN_PATH}", mend)
    _clear_stale(file)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Bound first and changed after, it would be open to all for an instant.
    umask = os.umask(0o177)
    try:
        bound.bind(os.fspath(file))
    except (OSError, ValueError) as error:
        bound.close()
        raise BadInput(str(file), f"cannot listen there ({_reason(error)})", "check the directory") from None
    finally:
        os.umask(umask)
    return bound


def _clear_stale(file: Path) -> None:
    """Remove a socket file that no process serves any more. Raises BadInput if one does, or if it is no socket."""
    try:
        if not stat.S_ISSOCK(os.lstat(file).st_mode):
            raise BadInput(str(file), "is there and is not a socket", "move it away")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            # Non-blocking: a live process with a full backlog must not hang us, and is live (EAGAIN).
            probe.setblocking(False)
            try:
                probe.connect(os.fspath(file))
            except ConnectionRefusedError:
                file.unlink()
                return
            except BlockingIOError:
                pass
        raise BadInput(str(file), "is served by a process that is running", "stop that one first")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise BadInput(str(file), f"cannot be used ({_reason(error)})", "check the directory") from None


def _unlink_own(file: Path, device: int, inode: int) -> None:
    with contextlib.suppress(OSError):
        info = os.lstat(file)
        if (info.st_dev, info.st_ino) == (device, inode):
            file.unlink()
