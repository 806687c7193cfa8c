"""The process that keeps jobs and takes launchctl's orders: see README.md beside the package.

Keeps: orders that change something are taken from root (and from who runs this) alone; the codes and texts of an answer
are what launchctl ends with and prints. Leaves to others: one job (job.py), how it is described (words.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import json
import os
import plistlib
import signal
import socket
import struct
import sys
from collections.abc import Callable

from launchd_double import words
from launchd_double.definition import EIO, RefusedError, read
from launchd_double.job import Job

PERM, NO_PROCESS, IN_PROGRESS, NO_DOMAIN, NO_SERVICE, NOT_HERE, USAGE = 1, 3, 36, 112, 113, 125, 64
# So long bootout waits before it says that the end is in progress.
BOOTOUT_S = 1.0
READ_ONLY = {"print", "print-disabled", "list", "error"}


class OrderError(Exception):
    """An order that is not carried out: the code and the text for whoever gave it."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.code = code


class Launchd:
    """Below root: Library/LaunchDaemons, and var/db/com.apple.xpc.launchd/disabled.plist; launchctl uses the socket."""

    def __init__(self, root: str, socket_path: str, patience: int) -> None:
        self.daemons = os.path.join(root, "Library/LaunchDaemons")
        self.overrides_path = os.path.join(root, "var/db/com.apple.xpc.launchd/disabled.plist")
        self.socket_path = socket_path
        self.jobs: dict[str, Job] = {}
        self.overrides: dict[str, bool] = {}
        self.patience = patience

    async def run(self) -> None:
        """Load what is to be loaded at the machine's start, take orders until SIGTERM, and end every job."""
        loop = asyncio.get_running_loop()
        over = asyncio.Event()
        loop.add_signal_handler(signal.SIGCHLD, self._look)
        for which in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(which, over.set)
        with contextlib.suppress(FileNotFoundError), open(self.overrides_path, "rb") as file:
            self.overrides = plistlib.load(file)
        for path in sorted(glob.glob(os.path.join(self.daemons, "*.plist"))):
            try:
                self._load(path)
            except RefusedError as error:
                _log(str(error))
        os.makedirs(os.path.dirname(self.socket_path), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket_path)
        server = await asyncio.start_unix_server(self._answer, self.socket_path)
        # Anybody may read; who may order is told by the peer's user.
        os.chmod(self.socket_path, 0o666)  # noqa: S103
        _ready()
        await over.wait()
        server.close()
        await asyncio.gather(*(job.remove() for job in list(self.jobs.values())))

    def _look(self) -> None:
        for job in list(self.jobs.values()):
            job.look()

    def _load(self, path: str) -> None:
        definition = read(path, os.getuid())
        label = definition.label
        if label in self.jobs:
            raise RefusedError(EIO, f"{label}: already bootstrapped")
        if self.overrides.get(label, definition.disabled):
            raise RefusedError(EIO, f"{label}: service is disabled")
        self.jobs[label] = Job(definition, self.patience)
        self.jobs[label].load()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            argv = json.loads(await reader.readline())
            code, out, err = await self.order(argv, _peer(writer))
            writer.write(json.dumps({"code": code, "out": out, "err": err}).encode())
            await writer.drain()
        writer.close()

    async def order(self, argv: list[str], uid: int) -> tuple[int, str, str]:
        """Carry out what launchctl was asked for by that user. Return its exit code, output and error output."""
        verb, arguments = (argv[0], argv[1:]) if argv else ("help", [])
        known: dict[str, Callable[[list[str]], object]] = {
            "bootstrap": self._bootstrap,
            "bootout": self._bootout,
            "kickstart": self._kickstart,
            "kill": self._kill,
            "enable": lambda rest: self._override(rest, False),
            "disable": lambda rest: self._override(rest, True),
            "print": self._print,
            "print-disabled": self._print_disabled,
            "list": self._list,
            "error": lambda rest: f"{rest[0]}: {words.strerror(int(rest[0]))}\n",
        }
        if verb not in known:
            return USAGE, "", f"Unrecognized subcommand: {verb}\nUsage: launchctl <subcommand> ...\n"
        try:
            if verb not in READ_ONLY and uid not in (0, os.getuid()):
                raise OrderError(PERM, _failed(verb, PERM))
            done = known[verb](arguments)
            said = await done if asyncio.iscoroutine(done) else done
        except OrderError as error:
            return error.code, "", f"{error}\n"
        except (IndexError, ValueError):
            return USAGE, "", f"Usage: launchctl {verb} ...\n"
        return 0, said if isinstance(said, str) else "", ""

    def _bootstrap(self, arguments: list[str]) -> None:
        domain, paths = arguments[0], arguments[1:]
        if domain.rstrip("/") != "system":
            raise OrderError(NOT_HERE, _failed("bootstrap", NOT_HERE))
        if not paths:
            raise ValueError
        for path in paths:
            try:
                self._load(path)
            except RefusedError as error:
                _log(str(error))
                raise OrderError(error.code, _failed("bootstrap", error.code)) from error

    async def _bootout(self, arguments: list[str]) -> None:
        target = arguments[0]
        if target == "system" and len(arguments) == 2:
            by_path = {job.definition.path: label for label, job in self.jobs.items()}
            if arguments[1] not in by_path:
                raise OrderError(EIO, _failed("bootout", EIO))
            target = f"system/{by_path[arguments[1]]}"
        label = _label(target)
        if label not in self.jobs:
            raise OrderError(NO_PROCESS, _failed("bootout", NO_PROCESS))
        gone = self.jobs[label].remove()
        gone.add_done_callback(lambda _: self.jobs.pop(label, None))
        try:
            await asyncio.wait_for(asyncio.shield(gone), BOOTOUT_S)
        except TimeoutError as error:
            raise OrderError(IN_PROGRESS, _failed("bootout", IN_PROGRESS)) from error

    def _kickstart(self, arguments: list[str]) -> str:
        options, target = arguments[:-1], arguments[-1]
        if set(options) - {"-k", "-p", "-kp", "-pk"}:
            raise ValueError
        job = self._job(target)
        job.kickstart(any("k" in option for option in options))
        with_pid = any("p" in option for option in options) and job.process
        return f"{job.process.pid}\n" if with_pid and job.process else ""

    def _kill(self, arguments: list[str]) -> None:
        name, target = arguments[0].removeprefix("SIG"), arguments[1]
        number = int(name) if name.isdigit() else getattr(signal, f"SIG{name}", None)
        if number is None:
            raise ValueError
        process = self._job(target).process
        if process is None:
            raise OrderError(NO_PROCESS, "No process to signal.")
        process.send_signal(number)

    def _override(self, arguments: list[str], off: bool) -> None:
        self.overrides[_label(arguments[0])] = off
        os.makedirs(os.path.dirname(self.overrides_path), exist_ok=True)
        with open(f"{self.overrides_path}.new", "wb") as file:
            plistlib.dump(self.overrides, file)
        os.rename(f"{self.overrides_path}.new", self.overrides_path)

    def _print(self, arguments: list[str]) -> str:
        if arguments[0].rstrip("/") == "system":
            return words.domain(self.jobs, self.overrides)
        return words.service(self._job(arguments[0], "Bad request.\n"))

    def _print_disabled(self, arguments: list[str]) -> str:
        if arguments[0].rstrip("/") != "system":
            raise OrderError(NO_DOMAIN, "Could not find domain")
        return words.disabled(self.overrides)

    def _list(self, arguments: list[str]) -> str:
        if not arguments:
            return words.listing(self.jobs)
        if arguments[0] not in self.jobs:
            raise OrderError(NO_SERVICE, f'Could not find service "{arguments[0]}" in domain for port')
        return words.one(self.jobs[arguments[0]])

    def _job(self, target: str, before: str = "") -> Job:
        label = _label(target)
        if label not in self.jobs:
            raise OrderError(NO_SERVICE, before + words.no_service(label))
        return self.jobs[label]


def _label(target: str) -> str:
    domain, _, label = target.partition("/")
    if domain != "system":
        raise OrderError(NO_DOMAIN, f"Could not find domain for {target}")
    if not label:
        # Apple's takes the whole domain down; nothing of ours may ask for that.
        raise ValueError
    return label


def _failed(verb: str, code: int) -> str:
    what = {"bootstrap": "Bootstrap failed", "bootout": "Boot-out failed"}.get(verb, f"Could not {verb} service")
    return f"{what}: {code}: {words.strerror(code)}"


def _peer(writer: asyncio.StreamWriter) -> int:
    size = struct.calcsize("3i")
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", credentials)[1])


def _ready() -> None:
    if address := os.environ.pop("NOTIFY_SOCKET", ""):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", address.replace("@", "\0", 1))


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
