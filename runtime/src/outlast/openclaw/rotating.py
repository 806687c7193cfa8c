"""Changing both tokens of the gateway while messages go through it, and proving that the old ones open nothing.

Rules kept here:

* Write-ahead: the old and the new tokens are on the disk before either file is changed, and stay there until the gateway that
  runs was seen to refuse the old ones. Whatever ends this in between, the same command goes on with the same new tokens.
* Nobody of ours is refused on the way: while that file is there, both are tried (openclaw.tokens ``current``).
* It is proven, not hoped for: the running gateway lets the new token in, and the old one not; else it is started anew.
* A gateway that does not run takes the new ones at its next start; that is said.

Left to others: who else may know an old token (``held`` looks, a person decides), when to rotate (rotate-keys.yml).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from outlast.core.plainjson import to_json
from outlast.errors import DurabilityError, GatewayError, HeldError
from outlast.openclaw import hooks, rpc, tokens, wishes
from outlast.openclaw.place import Place
from outlast.openclaw.tokens import Change
from outlast.quantity import duration
from outlast.store import durable, regular

__all__ = ["Rotated", "held", "rotate"]

_SOON_S, _EACH_S, _LOOK_S, _SPARE_S, _ALONE_S = 20.0, 4.0, 0.25, 30.0, 60.0
# Larger files are none that a token is written to.
_LARGEST = 4 << 20


@dataclass(frozen=True, slots=True)
class Rotated:
    """How it ended. ``resumed``: what another run had begun; ``proved``: a running gateway refuses the old ones; ``held``: who
    still holds one, never which."""

    resumed: bool
    proved: bool
    restarted: bool = False
    held: list[str] = field(default_factory=list)


async def rotate(place: Place) -> Rotated:
    """Change both. Raises DurabilityError, HeldError, KeyFileError; GatewayError where a gateway runs that goes on with an old
    one."""
    with _alone(place):
        return await _rotate(place)


@contextlib.contextmanager
def _alone(place: Place) -> Iterator[None]:
    """One at a time: who was cut off elsewhere (Ctrl-C in Ansible) may be at work here still. Raises HeldError, OSError."""
    durable.make_dir(place.folder)
    fd, deadline = os.open(place.folder, os.O_RDONLY | os.O_CLOEXEC), time.monotonic() + _ALONE_S
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise HeldError("openclaw", "its tokens are being changed", "wait for that to end") from None
                time.sleep(_LOOK_S)
        yield
    finally:
        os.close(fd)


async def _rotate(place: Place) -> Rotated:
    tokens.ensure(place)
    resumed = place.rotation.exists()
    change = _planned(place)
    tokens.replace_hooks(place, change.hooks.new)
    tokens.replace_gateway(place, change.gateway.new)
    running = _runs(place)
    restarted = running and not await _taken(place, change)
    if restarted:
        await _restart(place)
        if not await _within(duration(place.settings.start_within), lambda: _changed(place, change)):
            raise GatewayError(
                "refused", "openclaw", "the gateway goes on with an old token", "outlast openclaw stop, then start"
            )
    found = held(place, change)
    try:
        place.rotation.unlink()
        durable.fsync_dir(place.folder)
    except OSError as error:
        raise DurabilityError(f"{place.rotation.name} could not be removed: {error.strerror or error}") from error
    return Rotated(resumed, running, restarted, found)


def held(place: Place, change: Change) -> list[str]:
    """Processes of ours that have an old token in their arguments or environment, and files of ours that hold one. The record
    of the rotation itself does not count."""
    old = [change.gateway.old.encode(), change.hooks.old.encode()]
    found = [f"process {pid} ({name})" for pid, name, text in _processes() if any(token in text for token in old)]
    for path in _files(place):
        try:
            if path.stat().st_size <= _LARGEST and any(token in regular.read(path) for token in old):
                found.append(str(path))
        except OSError:
            # Gone meanwhile, or no file of ours.
            continue
    return sorted(found)


def _planned(place: Place) -> Change:
    """What is to be changed into what; as an interrupted run planned it. Raises DurabilityError, KeyFileError."""
    if (begun := tokens.change(place)) is not None:
        return begun
    both = (tokens.gateway(place), tokens.hooks(place))
    change = Change(*(tokens.Pair(old, tokens.new()) for old in both))
    durable.replace(place.rotation, to_json(change))
    return change


def _runs(place: Place) -> bool:
    there = wishes.launched(place)
    return there is not None and there.phase in ("running", "ending", "mending")


async def _taken(place: Place, change: Change) -> bool:
    """Have it read its files, again where it was just reading them as they were before; whether it did in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SOON_S
    while True:
        await _reload(place, change)
        if await _within(_EACH_S, lambda: _changed(place, change)):
            return True
        if loop.time() > deadline:
            return False


async def _reload(place: Place, change: Change) -> None:
    """Have it read its files again: of the hooks it sees by itself that they changed, of the other it has to be told."""
    for token in (change.gateway.old, change.gateway.new):
        try:
            await rpc.call(place, "secrets.reload", scopes=rpc.ADMIN, token=token, timeout=_SOON_S)
        except GatewayError:
            # It knows this one not, or no longer; whether it has the new one is asked next.
            continue


async def _restart(place: Place) -> None:
    patience = duration(place.settings.stop_within) + _SPARE_S
    await asyncio.to_thread(lambda: wishes.await_done(place, wishes.ask(place, "restart", "new tokens"), patience))


async def _changed(place: Place, change: Change) -> bool:
    """Whether the gateway lets both new tokens in, and neither old one."""
    is_new = await _opens(place, change.gateway.new) and await hooks.opens(place, change.hooks.new)
    return is_new and not await _opens(place, change.gateway.old) and not await hooks.opens(place, change.hooks.old)


async def _opens(place: Place, token: str) -> bool:
    try:
        await rpc.call(place, "status", token=token)
    except GatewayError as error:
        if error.kind == "refused":
            return False
        if error.kind == "failed":
            return True  # It was let in, and something else is wrong.
        raise
    return True


async def _within(seconds: float, question: Callable[[], Awaitable[bool]]) -> bool:
    """Ask until it is so, or time is over. A gateway that cannot be asked has not said yes."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        try:
            if await question():
                return True
        except GatewayError:
            pass
        if loop.time() > deadline:
            return False
        await asyncio.sleep(_LOOK_S)


def _processes() -> Iterator[tuple[int, str, bytes]]:
    """Each process whose environment may be read: its name, arguments and environment."""
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *(f"{name}={value}" for name, value in process.environ().items())]
            yield process.pid, process.name(), "\0".join(words).encode(errors="surrogateescape")
        except (psutil.Error, OSError):
            # Somebody else's, or gone.
            continue


def _files(place: Place) -> Iterator[Path]:
    """Where a token of the gateway may have been written: our configuration, OpenClaw's and what its doctor was given of it,
    and the definitions of services."""
    home, doctors = place.home.root, place.launched.parent / "doctor"
    folders = [home / "etc", place.state, doctors, Path("/etc/systemd/system"), Path("/Library/LaunchDaemons")]
    for folder in folders:
        for root, _, names in os.walk(folder):
            yield from (path for name in names if (path := Path(root, name)) != place.rotation and path.is_file())
