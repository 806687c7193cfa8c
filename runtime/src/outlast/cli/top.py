"""``outlast top``: the node and its peers, live, in a terminal of any size; once and plainly where there is none.

Rules kept here: whatever ends it, the terminal is as it was; a node that goes and comes back is waited for.

Left to others: the picture (cli.frame), how peers are asked (net.neighbours).
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from outlast.cli.common import Where, as_json, emit
from outlast.cli.frame import frame
from outlast.cli.show import tell
from outlast.cli.talk import NotRunning, order
from outlast.core.overview import overview
from outlast.core.timeline import timeline
from outlast.errors import OutlastError
from outlast.home import Home
from outlast.store import history

__all__ = ["top"]

_EVERY_S = 2.0
_LOOK_BACK_S, _LOOK_BACK_BYTES, _INCIDENTS = 86_400.0, 512 << 10, 12
# The other screen, without a cursor; and back.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_TO_TOP, _TO_END_OF_LINE, _TO_END = "\x1b[H", "\x1b[K", "\x1b[J"


@click.command()
@click.option("--once", is_flag=True, help="Show one picture, and end; as where the output is no terminal.")
@as_json
@click.pass_obj
def top(where: Where, once: bool, as_json: bool) -> int:
    """Watch the node and its peers; q or Ctrl-C ends.

    Modes and why, services, jobs, probes, channels, and what failed last. Exit code 3 when the node is not running.
    """
    home = where.home
    if as_json or once or not (sys.stdout.isatty() and sys.stdin.isatty()):
        seen = _seen(home)
        if as_json:
            emit(seen)
        else:
            tell("\n".join(_picture(seen, None)))
        return 0
    with _screen() as keys:
        while True:
            try:
                lines = _picture(_seen(home), shutil.get_terminal_size())
            except NotRunning as error:
                lines = [f"outlast top  {time.strftime('%H:%M:%S')}", "", str(error), "", "q or Ctrl-C ends"]
            shown = "\n".join(f"{line}{_TO_END_OF_LINE}" for line in lines)
            sys.stdout.write(f"{_TO_TOP}{shown}{_TO_END}")
            sys.stdout.flush()
            if _ends(keys, _EVERY_S):
                return 0


def _seen(home: Home) -> dict[str, Any]:
    """The node's status, its peers as far as they told, and what failed last. Raises NotRunning."""
    status = order(home, "status", seconds=10.0)
    peers: dict[str, Any] = {}
    if status["channels"]:
        with contextlib.suppress(OutlastError):
            peers = order(home, "peers", seconds=10.0).get("peers", {})
    events = history.events(home.logs, time.time() - _LOOK_BACK_S, _LOOK_BACK_BYTES)
    return {"status": status, "peers": peers, "failed": msgspec.to_builtins(timeline(events)[-_INCIDENTS:])}


def _picture(seen: dict[str, Any], size: tuple[int, int] | None) -> list[str]:
    status = seen["status"]
    overviews = {status["node"]: msgspec.to_builtins(overview(status))}
    told: dict[str, str] = {}
    for peer, one in sorted(seen["peers"].items()):
        if one.get("overview"):
            overviews[peer] = one["overview"]
        if one.get("state") != "told":
            told[peer] = " ".join(filter(None, (one.get("state"), one.get("why"))))
    return frame(overviews, status, told, seen["failed"], time.time(), size)


@contextlib.contextmanager
def _screen() -> Iterator[int]:
    """The whole terminal, and its keys as they are pressed."""
    import termios
    import tty

    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    try:
        tty.setcbreak(keys)
        sys.stdout.write(_ENTER)
        yield keys
    except KeyboardInterrupt:
        return
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


def _ends(keys: int, seconds: float) -> bool:
    """Wait so long; says whether somebody wants to end."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if not select.select([keys], [], [], left)[0]:
            return False
        pressed = os.read(keys, 64)
        # Nothing: the terminal is gone.
        if not pressed or b"q" in pressed or b"\x03" in pressed:
            return True
        if pressed.strip() == b"":
            return False
    return False
