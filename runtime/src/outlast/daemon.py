"""The process around a node: ``python -m outlast.daemon --home HOME``, run by a service manager.

Rules kept here: one runtime at a time touches a home (a lock that dies with the process); SIGTERM and SIGINT stop in order;
exit 0 after a stop, 78 (configuration: starting again will not help) with one line that says field, wrong and mend, 1
with one line for anything else, so that the service manager starts it again.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import signal
import sys
import traceback
from pathlib import Path

from outlast.clock import SystemClock
from outlast.config import load_config
from outlast.errors import BadInput, ConfigError, KeyFileError, OutlastError
from outlast.home import Home
from outlast.node import Node
from outlast.store import durable
from outlast.store.keyring import Keyring

__all__ = ["CONFIGURATION", "main"]

CONFIGURATION = 78


def _lock(home: Home) -> int:
    durable.make_dir(home.lock.parent)
    fd = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise BadInput("--home", f"another runtime is at work in {home.root}", "stop it first") from None
    return fd


async def _serve(node: Node) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await node.run(stop)


def main(arguments: list[str] | None = None) -> int:
    """Run a node in the foreground until a signal stops it. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m outlast.daemon", description="Run one Outlast node.")
    parser.add_argument("--home", required=True, type=Path, help="the node's folder, with etc/node.yml")
    home = Home(parser.parse_args(arguments).home.resolve())
    os.umask(0o077)
    try:
        config = load_config(home.config)
        keyring = Keyring(home.keys, config.node, list(config.peers))
        lock = _lock(home)
        try:
            node = Node(config, home, keyring, SystemClock())
            try:
                asyncio.run(_serve(node))
            except Exception as error:
                # What we did not foresee is kept for whoever mends it; the log of the service shows one line.
                node.events.emit("node.crashed", error=repr(error), trace=traceback.format_exc())
                raise
        finally:
            os.close(lock)
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
