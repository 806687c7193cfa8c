"""The process around a node: ``python -m outlast.daemon --home HOME``, run by a service manager.

Rules kept here: one runtime at a time touches a home (a lock that dies with the process); SIGTERM and SIGINT stop in order;
exit 0 after a stop, 78 (configuration: starting again will not help) with one line that says field, wrong and mend, 1
with one line for anything else, so that the service manager starts it again; before it serves, it writes down what it
read (run/loaded), so that Ansible restarts it when something else lies on the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import msgspec

from outlast.clock import SystemClock
from outlast.config import Config, load_config
from outlast.errors import ConfigError, KeyFileError, OutlastError, UnreadableError
from outlast.home import Home
from outlast.lock import held
from outlast.node import Node
from outlast.notify import Manager
from outlast.store import durable
from outlast.store.keyring import Keyring
from outlast.stranded import Stranded

__all__ = ["CONFIGURATION", "main"]

CONFIGURATION = 78
_LEAST_S = 5.0
# A command that works in the place of a runtime holds the home for a moment.
_PATIENCE_S = 4.0
# The C library reads it when the process first asks for the local time, and never again.
_TIME_ZONE = Path("/etc/localtime")


def _digest(path: Path) -> str:
    """The SHA-256 of a file, of a key as well: it has too many bits to be guessed. Empty where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        # What to do about that is said by who reads it next.
        return ""


def _load(home: Home) -> tuple[Config, Keyring, dict[str, str]]:
    """The configuration, the keys, and the digests of their files by path below the home."""
    # Taken before the file is read: what is changed in between counts as not read, which costs one restart at worst.
    files = {path: _digest(path) for path in (home.config, _TIME_ZONE)}
    config = load_config(home.config)
    files |= {path: _digest(path) for path in (home.keys / f"{name}.key" for name in (config.node, *config.peers))}
    keyring = Keyring(home.keys, config.node, list(config.peers))
    return config, keyring, {_told(path, home): digest for path, digest in files.items()}


def _told(path: Path, home: Home) -> str:
    """A path as run/loaded has it: relative to the home where it lies in there."""
    return str(path.relative_to(home.root) if path.is_relative_to(home.root) else path)


def _reopen(log: str) -> None:
    """Go on printing into the file of that name, which may be another one by now."""
    with contextlib.suppress(OSError):
        fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for stream in (1, 2):
            os.dup2(fd, stream)
        os.close(fd)


async def _serve(node: Node | Stranded, manager: Manager) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await node.run(stop, manager)


def main(arguments: list[str] | None = None) -> int:
    """Run a node in the foreground until a signal stops it. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m outlast.daemon", description="Run one Outlast node.")
    parser.add_argument("--home", required=True, type=Path, help="the node's folder, with etc/node.yml")
    home = Home(parser.parse_args(arguments).home.resolve())
    os.umask(0o077)
    began = time.monotonic()
    manager, log = Manager(os.environ), os.environ.pop("OUTLAST_LOG", "")
    _end_on_signals()
    if log:
        signal.signal(signal.SIGHUP, lambda *_: _reopen(log))
    code = _run(home, manager)
    if code == 1:
        _last(_LEAST_S - (time.monotonic() - began))
    return code


def _last(seconds: float) -> None:
    """Stay for as long as this, or until a signal: supervisord starts what ended anew at once, and again, and again.

    A full disk or a port that is taken is not better a second later; a node that did serve for a while is back at once.
    """
    _end_on_signals()
    time.sleep(max(0.0, seconds))


def _end_on_signals() -> None:
    """Before a node serves and after it failed there is nothing to stop in order, and no traceback to show.

    The process ends by the signal itself: to a service manager that is the end it asked for, and no failure.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def _run(home: Home, manager: Manager) -> int:
    try:
        config, keyring, files = _load(home)
        with held(home, _PATIENCE_S):
            read = {"pid": os.getpid(), "release": os.path.realpath(sys.prefix), "files": files}
            durable.replace(home.loaded, msgspec.json.encode(read))
            node: Node | Stranded
            try:
                node = Node(config, home, keyring, SystemClock())
            except UnreadableError as error:
                # Ending would not tell anybody, and a start a moment later finds the same.
                node = Stranded(config, home, str(error), SystemClock())
            try:
                asyncio.run(_serve(node, manager))
            except Exception as error:
                # What we did not foresee is kept for whoever mends it; the log of the service shows one line.
                node.events.emit("node.crashed", error=repr(error), trace=traceback.format_exc())
                raise
    except (ConfigError, KeyFileError) as error:
        print(f"outlast: {error}", file=sys.stderr, flush=True)
        return CONFIGURATION
    except OutlastError as error:
        print(f"outlast: {error}", file=sys.stderr, flush=True)
        return 1
    except OSError as error:
        print(f"outlast: {error.strerror or error}: {error.filename or home.root}", file=sys.stderr, flush=True)
        return 1
    except Exception as error:  # noqa: BLE001 (the last line of defence: a person sees one line)
        print(f"outlast: stopped by a defect: {error!r}; the event node.crashed has the details", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
