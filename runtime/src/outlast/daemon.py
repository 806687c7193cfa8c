"""The process around a node: ``python -m outlast.daemon --home HOME``, run by a service manager.

Rules kept here: one runtime at a time touches a home (a lock that dies with the process); SIGTERM and SIGINT stop in order;
exit 0 after a stop, 78 (configuration: starting again will not help) with one line that says field, wrong and mend, 1
with one line for anything else, so that the service manager starts it again; before it serves, it writes down what it
read (run/loaded), so that Ansible restarts it when something else lies on the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from outlast.config import load_config
from outlast.errors import ConfigError, DurabilityError, KeyFileError, OutlastError
from outlast.home import Home
from outlast.lock import held
from outlast.notify import Manager
from outlast.settings import Config
from outlast.store import durable
from outlast.store.keyring import Keyring, outside_folder

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


class _Loaded:
    """run/loaded: the digests of what this process has read, by path below the home where a file lies in there."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._files: dict[str, str] = {}

    def reading(self, *paths: Path) -> None:
        """Called before these are read: what is changed in between counts as not read, which costs one restart at worst."""
        for path in paths:
            name = path.relative_to(self._home.root) if path.is_relative_to(self._home.root) else path
            self._files[str(name)] = _digest(path)

    def write(self) -> None:
        """Write it down. Raises DurabilityError."""
        read = {"pid": os.getpid(), "release": os.path.realpath(sys.prefix), "files": self._files}
        durable.replace(self._home.loaded, msgspec.json.encode(read))

    def changed(self, path: Path) -> None:
        """What this process itself wrote it has read as well."""
        self.reading(path)
        # The change is made. Where this cannot be told, Ansible restarts a runtime that had no need of it.
        with contextlib.suppress(DurabilityError):
            self.write()


def _keys(home: Home, config: Config, loaded: _Loaded) -> Keyring:
    """Read the keys. The home must be held: a command may change them in the place of a runtime. Raises KeyFileError."""
    files = [home.keys / f"{name}.key" for name in (config.node, *config.peers)]
    loaded.reading(*files, *outside_folder(home.keys).glob("*.key"))
    keyring = Keyring(home.keys, config.node, config.peers)
    keyring.kept = loaded.changed
    return keyring


def _reopen(log: str) -> None:
    """Go on printing into the file of that name, which may be another one by now."""
    with contextlib.suppress(OSError):
        fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for stream in (1, 2):
            os.dup2(fd, stream)
        os.close(fd)


def main(arguments: list[str] | None = None) -> int:
    """Run a node in the foreground until a signal stops it. Returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 2 or given[0] != "--home":
        print("usage: python -m outlast.daemon --home HOME    (the folder that holds etc/node.yml)", file=sys.stderr)
        return CONFIGURATION
    home = Home(Path(given[1]).resolve())
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


def _speaks_tls(config: Config) -> bool:
    return config.listen.tls is not None or any(peer.pin for peer in config.peers.values())


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """What is imported meanwhile does not find this module, and must be able to do without.

    asyncio can do without ssl, and a node that does not use it is 2.5 MiB smaller.
    """
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def _run(home: Home, manager: Manager) -> int:
    try:
        loaded = _Loaded(home)
        loaded.reading(home.config, _TIME_ZONE)
        config = load_config(home.config)
        with held(home, _PATIENCE_S):
            keyring = _keys(home, config, loaded)
            if tls := config.listen.tls:
                loaded.reading(home.tls / tls.certificate, home.tls / tls.key)
            loaded.write()
            with contextlib.nullcontext() if _speaks_tls(config) else _without("ssl"):
                from outlast.serving import serve
            serve(config, home, keyring, manager)
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
