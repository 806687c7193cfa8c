"""Where alerts are sent to, and sending one message there, by a program of its own.

Rules kept here: the URLs are read for each message, so that a change needs no restart, and go to that program by its standard
input: never into a command line, an environment, an event or an error. It is a process of its own because apprise takes more
memory than the node, and it is ended with all that it started once its time is over.

Left to others: the sending itself (work.send_alert), when, and again (work.notifier).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from outlast.errors import KeyFileError
from outlast.store import regular

__all__ = ["PATIENCE_S", "Posted", "post", "read_urls"]

# A Raspberry Pi needs ten seconds to import apprise.
PATIENCE_S = 60.0
_MEND = "correct outlast_alert_urls in the inventory, then: ansible-playbook site.yml"


class Posted(msgspec.Struct, frozen=True):
    """What became of a message at one URL, called ``to`` here: its service and its line. ``why``: where it was not taken."""

    to: str
    ok: bool
    why: str


def read_urls(path: Path) -> list[str]:
    """The apprise URLs, a line each; none where there is no file. Raises KeyFileError."""
    try:
        text = regular.read(path).decode("utf-8")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise KeyFileError(f"etc/keys/{path.name}", "it is not UTF-8", _MEND) from None
    except OSError as error:
        raise KeyFileError(f"etc/keys/{path.name}", f"it cannot be read: {error.strerror or error}", _MEND) from error
    return [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]


async def post(urls: Sequence[str], title: str, body: str, kind: str, patience_s: float = PATIENCE_S) -> list[Posted]:
    """Send one message to every URL, at once, within so many seconds; what became of it at each, in their order.

    ``kind``: apprise's word for it, which is info, success, warning or failure.
    """
    if not urls:
        return []
    order = {"urls": list(urls), "title": title, "body": body, "kind": kind, "seconds": patience_s}
    try:
        # -P: what lies in a working directory is no library of ours. A group, and no session: see work.descent.
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "outlast.work.send_alert"),
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, process_group=0,
        )  # fmt: skip
    except OSError as error:
        return _all({}, len(urls), f"it could not be tried: {error.strerror or error}")
    found: dict[int, Posted] = {}
    speaking = asyncio.create_task(_speak(child, msgspec.json.encode(order), found))
    try:
        # Not asyncio.timeout: see work.runner.
        await asyncio.wait({speaking}, timeout=patience_s)
        late = not speaking.done()
    finally:
        speaking.cancel()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        await child.wait()
    return _all(found, len(urls), f"no answer within {patience_s:g} s" if late else "apprise could not be started")


async def _speak(child: Process, order: bytes, found: dict[int, Posted]) -> None:
    """Hand the order over, and take in what is answered: who took a message must be known, however long another one hangs."""
    assert child.stdin is not None and child.stdout is not None
    with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
        child.stdin.write(order)
        await child.stdin.drain()
        child.stdin.close()
        while line := await child.stdout.readline():
            number, posted = msgspec.json.decode(line, type=tuple[int, Posted])
            found[number] = posted


def _all(found: Mapping[int, Posted], count: int, why: str) -> list[Posted]:
    return [found.get(number) or Posted(f"line {number}", False, why) for number in range(1, count + 1)]
