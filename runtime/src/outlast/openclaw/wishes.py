"""What the gateway's launcher is asked to do, and what it says of itself: two small files between it and everybody else.

Rules kept here: one wish at a time, and a newer one takes the older one's place; a wish is taken once, by the launcher alone,
which then says that it is done; one that yields goes before no other, and is not carried out where somebody stopped it; a
launcher counts as there only while the process that wrote the file lives, and starts nothing while somebody keeps it stopped.

Left to others: carrying a wish out (openclaw.launch), and who may have one (openclaw.watch, the command line).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from outlast.core.gateway import Launched
from outlast.core.plainjson import from_json, to_json
from outlast.errors import DurabilityError, GatewayError
from outlast.openclaw.place import Place
from outlast.quantity import duration
from outlast.store import durable, regular

__all__ = [
    "Wish", "ask", "await_done", "bell", "is_kept_stopped", "is_pending", "launched", "lock", "pending", "say", "stopped",
    "take",
]  # fmt: skip

_LOOK_S, _PATIENCE_S, _SPARE_S = 0.1, 3.0, 30.0
_FIELD = "openclaw"


class Wish(msgspec.Struct, frozen=True):
    """``restart``: end it and start it; ``stop``: end it, and leave it so; ``start``; ``doctor``: end it, run its own doctor,
    start it. ``why``: for whoever reads the status. ``yields``: to every other, and to whoever stopped it."""

    name: str
    action: Literal["restart", "stop", "start", "doctor"]
    why: str
    yields: bool = False


def ask(place: Place, action: Literal["restart", "stop", "start", "doctor"], why: str, *, yields: bool = False) -> str:
    """Wish for something; the name that tells when it is done, empty where it yields to another. Raises DurabilityError."""
    wish = Wish(secrets.token_hex(8), action, why, yields)
    durable.make_dir(place.wish.parent)
    if not durable.replace(place.wish, to_json(wish), still=lambda: not (yields and is_pending(place))):
        return ""
    # So that the launcher need not look for wishes all the time; where nobody reads it, none is there.
    with contextlib.suppress(OSError):
        fd = os.open(_bell(place), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(fd, b"!")
        finally:
            os.close(fd)
    return wish.name


def bell(place: Place) -> int:
    """Open what rings when somebody wishes for something; for the launcher, which reads it. Raises OSError."""
    path = _bell(place)
    if not path.is_fifo():
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
    # For writing as well: else it is at its end whenever nobody rings.
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def await_done(place: Place, name: str, seconds: float) -> Launched:
    """Wait until a wish is carried out. Raises GatewayError where nobody does it, or not in time: it is taken back then."""
    began = time.monotonic()
    while True:
        there = launched(place)
        if there is not None and there.done == name:
            return there
        waited = time.monotonic() - began
        if there is None and waited > _PATIENCE_S:
            _take_back(place, name)
            mend = "start its service: ansible-playbook site.yml"
            raise GatewayError("away", _FIELD, "its service does not run", mend)
        if waited > seconds:
            _take_back(place, name)
            mend = "see outlast openclaw status, and outlast logs gateway"
            raise GatewayError("late", _FIELD, f"that was not done within {seconds:.0f} s", mend)
        time.sleep(_LOOK_S)


@contextlib.contextmanager
def stopped(place: Place, why: str) -> Iterator[None]:
    """Meanwhile the gateway does not run, and nobody starts it; it is proven gone, and started again whatever came of it, but
    where somebody stops it meanwhile.

    Raises GatewayError, DurabilityError, OSError.
    """
    before = launched(place)
    try:
        with _holding(_kept(place), "another command keeps it stopped", "wait for that to end"):
            if before is None or before.phase == "ended":
                with _holding(_lock(place), "its launcher starts just now", "try again in a moment"):
                    yield
            else:
                await_done(place, ask(place, "stop", why), duration(place.settings.stop_within) + _SPARE_S)
                yield
    finally:
        # Who stopped it before, or since, wants it so.
        there = launched(place, dead=True)
        is_ours = there is not None and (there.phase, there.reason) == ("stopped", why) and not is_pending(place)
        if before is not None and before.phase != "stopped" and is_ours:
            name, began = ask(place, "start", f"done: {why}"), time.monotonic()
            # Until its launcher did that it is stopped, as if a person had; one that starts anew does it as well.
            while ((there := launched(place)) is None or there.done != name) and time.monotonic() - began < _SPARE_S:
                time.sleep(_LOOK_S)


def is_kept_stopped(place: Place) -> bool:
    """Does somebody work on its state, so that it is not to be started?"""
    return _is_held(_kept(place))


def _take_back(place: Place, name: str) -> None:
    """Nobody waits for it any more: done later, it would surprise."""
    wish = pending(place)
    if wish is not None and wish.name == name:
        take(place, name)


def is_pending(place: Place) -> bool:
    """Is there a wish that nobody took yet?"""
    return place.wish.exists()


def pending(place: Place) -> Wish | None:
    """It, left where it is; what cannot be read is none."""
    return _read(place.wish)


def _read(path: Path) -> Wish | None:
    try:
        return from_json(regular.read(path), Wish)
    except (OSError, ValueError):
        return None


def take(place: Place, name: str = "") -> Wish | None:
    """Take the wish, if there is one, or only the one of this name. For the launcher. Raises nothing: what cannot be read is
    dropped."""
    # First out of everybody's way: one that is written meanwhile is the next one.
    taken = place.wish.with_name(f"wish.{os.getpid()}")
    with contextlib.suppress(OSError):
        os.rename(place.wish, taken)
        wish = _read(taken)
        if name and wish is not None and wish.name != name:
            wish = None
            with contextlib.suppress(OSError):
                os.link(taken, place.wish)
        os.unlink(taken)
        return wish
    return None


def say(place: Place, what: Launched) -> bool:
    """Write what the launcher has to say; False where the disk takes nothing."""
    try:
        durable.make_dir(place.launched.parent)
        return durable.replace(place.launched, to_json(what))
    except DurabilityError:
        return False


def launched(place: Place, *, dead: bool = False) -> Launched | None:
    """What the launcher says; None where none lives, unless ``dead`` ones' last words are wanted."""
    try:
        found = from_json(regular.read(place.launched), Launched)
    except (OSError, ValueError):
        return None
    return found if dead or found.phase == "ended" or _is_held(_lock(place)) else None


def lock(place: Place) -> int | None:
    """Be the one launcher of this node, for as long as the file stays open; None where there is one. Raises OSError."""
    return _held(_lock(place))


@contextlib.contextmanager
def _holding(path: Path, wrong: str, mend: str) -> Iterator[None]:
    """Hold a lock. Raises GatewayError where somebody has it."""
    fd = _held(path)
    if fd is None:
        raise GatewayError("late", _FIELD, wrong, mend)
    try:
        yield
    finally:
        os.close(fd)


def _held(path: Path) -> int | None:
    """A lock, for as long as the file stays open; None where somebody has it."""
    durable.make_dir(path.parent)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            # Who looks whether somebody has it holds it for a moment as well.
            if time.monotonic() > deadline:
                os.close(fd)
                return None
            time.sleep(_LOOK_S)


def _is_held(path: Path) -> bool:
    """A lock cannot be left behind, and a process id may be another's by now."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False


def _lock(place: Place) -> Path:
    return place.launched.with_name("launcher.lock")


def _kept(place: Place) -> Path:
    return place.launched.with_name("kept.lock")


def _bell(place: Place) -> Path:
    return place.launched.with_name("bell")
