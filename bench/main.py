"""``make bench``: measures in turn, then prints the table.

Rules kept here: progress goes to standard error, the table to standard output; a goal that is missed is a line in the table
and no error; a measurement that fails is named, the others go on, and the exit code is 1; all that was started is ended.

Left to others: each measurement.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.gateway import pieces
from bench.handoff import hand_offs
from bench.hosts import site
from bench.idle import Idler, idle_rows, watch
from bench.journal import appends
from bench.messages import accepted, forged
from bench.observability import observed
from bench.openclaw import Beside, beside
from bench.peers import Supervisord, pm2
from bench.play import clone, second_up
from bench.processes import BenchError, say
from bench.ready import start_to_ready
from bench.rotation import returned, rotated
from bench.shared import merges, reconciled
from bench.state import rebuilds
from bench.supervision import fifty_idle, restarts
from bench.table import Figure, Row, render
from outlast.errors import OutlastError
from outlast.home import Home
from tests.support.live import LiveNode, pair, until

__all__ = ["main"]

_CHECKOUT = Path(__file__).resolve().parent.parent
_SETTLE_S = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print. Returns 0, 1 if something could not be measured for an error, 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure the goals beside their peers.")
    parser.add_argument(
        "--quick", action="store_true", help="fewer and shorter measurements, without hosts and what must be fetched"
    )
    parser.add_argument("--window", type=float, metavar="S", help="seconds to watch idle nodes for (60; quick: 10)")
    parts = "nodes of this machine, their state, their messages and keys, workers that are kept running, "
    parts += "OpenClaw beside a node, or hosts reached over SSH"
    parser.add_argument(
        "--only", choices=("nodes", "state", "messages", "supervision", "openclaw", "hosts"), help=parts
    )
    options = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Who started us in the background may have had SIGINT ignored, and that is kept.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="ol-", ignore_cleanup_errors=True) as folder:
            return _Bench(Path(folder).resolve(), options.quick, options.window).run(options.only)
    except KeyboardInterrupt:
        say("interrupted; what was started is stopped")
        return 130


def _interrupt(number: int, frame: object) -> None:
    # Once is enough: what was started is ended in peace.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


class _Bench:
    """One run, in the empty folder ``root``."""

    def __init__(self, root: Path, quick: bool, window: float | None) -> None:
        self._root = root
        self._quick = quick
        self._window = window or (10.0 if quick else 60.0)
        self._failed: list[str] = []
        self._idlers: list[Idler] = []
        self._missing: dict[str, str] = {}

    def run(self, only: str | None = None) -> int:
        """Measure all, or one part, print the table, and return the exit code."""
        began, load = time.monotonic(), os.getloadavg()[0]
        rows = self._nodes() if only in (None, "nodes") else []
        if only in (None, "state"):
            rows += self._state()
        if only in (None, "messages"):
            rows += self._messages()
        if only in (None, "supervision"):
            rows += self._supervision()
        if only == "openclaw" or not (only or self._quick):
            rows += self._openclaw()
        if only == "hosts" or not (only or self._quick):
            # Alone on the machine: what idles is down by now.
            rows += self._try("site.yml over SSH", lambda: site(self._folder("hosts"), 1 if self._quick else 3))
        print(f"{_machine(load)}; {'quick run, ' if self._quick else ''}{time.monotonic() - began:.0f} s\n")
        print(render(rows), flush=True)
        if self._failed:
            say(f"failed, see above: {', '.join(self._failed)}")
        return 1 if self._failed else 0

    def _nodes(self) -> list[Row]:
        with contextlib.ExitStack() as stack:
            # What idles is started first, so that it has settled by the time it is watched.
            self._try("idle nodes", lambda: self._start(stack))
            play = self._try("second make up", lambda: self._ups(stack))
            rows = [
                *self._try("start to ready", lambda: start_to_ready(self._folder("ready"), 3 if self._quick else 10)),
                *play,
                *self._try("hand-off", lambda: hand_offs(self._folder("hand"), 100, 3 if self._quick else 10)),
                *self._try("observability", lambda: observed(self._folder("seen"), 3 if self._quick else 9, 60)),
            ]
            return [*self._try("idle", self._watch), *rows]

    def _state(self) -> list[Row]:
        """What is kept, and what it takes to keep it: alone on the machine as well."""
        few = self._quick
        sizes = (500, 5_000) if few else (1_000, 10_000, 100_000)
        keys = 10_000 if few else 100_000
        return [
            *self._try("journal", lambda: appends(self._folder("journal"), 9 if few else 31, 96)),
            *self._try("STATE", lambda: rebuilds(self._folder("state"), sizes, 1 if few else 3)),
            *self._try("merge", lambda: merges(self._folder("merge"), keys, 3 if few else 5, install=not few)),
            *self._try("reconcile", lambda: reconciled(self._folder("reconcile"), keys, 1 if few else 3)),
        ]

    def _messages(self) -> list[Row]:
        """The door to a node, and its locks."""
        few = self._quick
        turns, notes, limit_s = (1, 3_200, 2.0) if few else (3, 16_000, 5.0)
        times = 1 if few else 3
        return [
            *self._try("messages", lambda: accepted(self._folder("in"), turns, notes, limit_s, fetch=not few)),
            *self._try("forged", lambda: forged(self._folder("out"), 2.0 if few else 10.0)),
            *self._try("rotation", lambda: rotated(self._folder("r"), times)),
            *self._try("return", lambda: returned(self._folder("away"), times, network=not few)),
        ]

    def _supervision(self) -> list[Row]:
        """Workers that are kept running."""
        kills, hangs = (5, 1) if self._quick else (30, 5)
        fetch = not self._quick
        return [
            *self._try("restarts", lambda: restarts(self._folder("kept"), kills, hangs, fetch=fetch)),
            *self._try("50 idle workers", lambda: fifty_idle(self._folder("fifty"), self._window, fetch=fetch)),
        ]

    def _openclaw(self) -> list[Row]:
        """One node with OpenClaw beside it, used, broken in each way, and put back. What is new here is fetched."""
        with contextlib.ExitStack() as stack:
            folder, made = self._folder("o"), list[Beside]()

            def make() -> list[Row]:
                made.append(stack.enter_context(beside(folder)))
                return []

            rows = self._try("OpenClaw beside a node", make)
            for one in made:
                for name, measure in pieces(folder, one, quick=self._quick).items():
                    rows += self._try(name, measure)
            return rows

    def _folder(self, name: str) -> Path:
        folder = self._root / name
        folder.mkdir()
        return folder

    def _try(self, name: str, measure: Callable[[], list[Row]]) -> list[Row]:
        try:
            return measure()
        except (BenchError, OutlastError, OSError, AssertionError, subprocess.SubprocessError) as error:
            self._failed.append(name)
            say(f"{name}: failed: {error}")
            return [Row(name, "s", Figure(None, why=" ".join(str(error).split())))]

    def _start(self, stack: contextlib.ExitStack) -> list[Row]:
        """Start two nodes that probe each other, with the defaults that a node has, and the peers."""
        for node in stack.enter_context(pair(self._folder("idle"))):
            _defaults(node)
            node.start()
            assert node.process is not None
            self._idlers.append(Idler("node", node.name, [node.process.pid], node.home.root))
        for name, start in {"supervisord": self._supervisord, "pm2": self._pm2}.items():
            try:
                self._idlers.append(start(stack))
            except BenchError as error:
                self._missing[name] = str(error)
        return []

    def _supervisord(self, stack: contextlib.ExitStack) -> Idler:
        peer = Supervisord(self._root / "supervisord")
        process = stack.enter_context(peer.running())
        peer.wait(process)
        return Idler("peer", "supervisord", [process.pid], self._root / "supervisord")

    def _pm2(self, stack: contextlib.ExitStack) -> Idler:
        if self._quick:
            raise BenchError("left out of a quick run, because it has to be installed first")
        say("idle: installing pm2")
        return Idler("peer", "pm2", [stack.enter_context(pm2(self._root / "pm2"))], self._root / "pm2" / "home")

    def _ups(self, stack: contextlib.ExitStack) -> list[Row]:
        copy = stack.enter_context(clone(_CHECKOUT, self._root / "c"))
        rows = second_up(copy, 1 if self._quick else 3)
        for node, (supervisord, runtime) in copy.processes().items():
            home = copy.home(node)
            self._idlers.append(Idler("node", f"{node} of make up", [runtime], home))
            self._idlers.append(Idler("whole", f"{node} of make up and its supervisord", [supervisord, runtime], home))
        return rows

    def _watch(self) -> list[Row]:
        """Everything that idles is watched over the same seconds, once the nodes have greeted each other."""
        say("idle: waiting until every node has greeted its peer, which it looks for every 30 s")
        homes = [Home(idler.folder) for idler in self._idlers if idler.kind == "node"]
        until(lambda: all(map(_settled, homes)), limit=_SETTLE_S, what="the event peer.back of every node")
        return idle_rows(self._idlers, watch(self._idlers, self._window), self._missing, self._window)


def _settled(home: Home) -> bool:
    """Has the node seen its peer? That is written down."""
    return any(b'"peer.back"' in log.read_bytes() for log in home.logs.glob("*.jsonl"))


def _defaults(node: LiveNode) -> None:
    node.config = {name: node.config[name] for name in ("node", "listen", "peers", "agent")}
    node.configure()


def _machine(load: float) -> str:
    python = f"Python {platform.python_version()}"
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{time.strftime('%Y-%m-%d')}, {system}, {os.cpu_count()} cores, load {load:.1f} before, {python}"
