"""Breaks a gateway in each way, and takes the time until its node says so and until it works again.

Rules kept here: noticed is what the node says by itself, in its status or its alerts, without being asked to look; working is
what the node calls so: calls through the databases succeed. Each begins with a node that has no trouble behind it, and who
has to do something, as a person is told to, does it at once.

Left to others: the node (openclaw.py), the table (gateway.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil

from bench.openclaw import Beside, Kept, passed, truth, turn
from bench.processes import BenchError, run, running, say
from bench.table import Figure, Goal, Row
from outlast.home import Home
from outlast.openclaw.place import Place
from outlast.openclaw.settings import OpenClaw
from outlast.openclaw.stranger import is_taken
from tests.support.live import LiveNode, free_port
from tests.support.openclaw import Gateway

__all__ = ["broken_configuration", "crash_loop", "damage", "damaged", "full_disk", "hung", "killed", "stranger"]

# OpenClaw keeps 256 MiB free when it looks at a copy of its state.
_PAGES, _DISK_MIB = 8192, 512
_DATABASE_S = 120.0


def _rows(what: str, again: str, noticed: float, works: float, goal: Goal | None = None) -> list[Row]:
    say(f"openclaw: {what} {noticed:.1f} s, {again} {works:.1f} s")
    return [Row(what, "s", Figure(noticed), goal=goal), Row(again, "s", Figure(works))]


def killed(kept: Kept) -> list[Row]:
    """kill -9, once."""
    kept.fresh()
    pid, began = kept.said().pid, time.monotonic()
    os.kill(pid, signal.SIGKILL)
    noticed = kept.passed(began, lambda: not kept.is_well(pid), "a node that noticed a kill")
    works = kept.passed(began, lambda: kept.works(but=pid), "a gateway that works again")
    return _rows("gateway killed, noticed", "killed, works again", noticed, works)


def crash_loop(kept: Kept) -> list[Row]:
    """kill -9 of each that is started, until none is started any more."""
    kept.fresh()
    began, dead = time.monotonic(), set[int]()

    def rests() -> bool:
        found = kept.said()
        if found.phase == "running" and found.pid not in dead:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)
            dead.add(found.pid)
        return found.phase == "resting"

    passed(began, rests, "a crash loop that rests")
    ended = time.monotonic() - began
    told = kept.passed(began, lambda: kept.alert("crash loop", "SIGKILL"), "an alert of a crash loop")
    works = kept.passed(began, lambda: kept.works() and kept.said().pid not in dead, "a gateway that works again")
    say(f"openclaw: {len(dead)} kills in {ended:.1f} s, then {kept.seen()['remedies']}")
    return _rows(
        f"killed {len(dead)} times in a loop, rest and reason told", "killed in a loop, works again", told, works
    )


def broken_configuration(kept: Kept) -> list[Row]:
    """A configuration that OpenClaw refuses, at a restart; then the one before."""
    kept.fresh()
    config, aside = kept.place.config, kept.place.config.with_name("aside.json")
    config.rename(aside)
    try:
        broken = json.loads(aside.read_bytes())
        broken["gateway"]["port"] = "seven"
        config.touch(mode=0o600)
        config.write_text(json.dumps(broken))
        began = time.monotonic()
        kept.type("openclaw", "restart")
        told = kept.passed(began, lambda: kept.alert("exit code 78"), "an alert of the configuration")
        alert = kept.alert("exit code 78")
        say(f"openclaw: {alert}")
    finally:
        mended = time.monotonic()
        aside.replace(config)
    works = kept.passed(mended, kept.works, "a gateway that works again")
    rows = _rows("configuration broken, reason told", "configuration mended, works again", told, works)
    if "gateway.port" not in alert:
        rows[0] = Row(rows[0].measure, "s", Figure(None, why=f"what is wrong is not in the alert: {alert}"))
    return rows


def damage(place: Place) -> None:
    """Overwrite the first pages of its database while it runs, and the log from which SQLite would mend them."""
    database = place.state / "state" / "openclaw.sqlite"
    for path, most in ((database, _PAGES), (database.with_name("openclaw.sqlite-wal"), 1 << 30)):
        with path.open("r+b") as file:
            file.write(os.urandom(min(path.stat().st_size, most)))


def damaged(kept: Kept, beside: Figure) -> list[Row]:
    """Its database overwritten while it runs; then the command that the node names."""
    kept.fresh()
    pid, began = kept.said().pid, time.monotonic()
    damage(kept.place)
    noticed = kept.passed(began, lambda: not kept.is_well(pid), "a node that noticed a broken database")
    told = kept.passed(began, lambda: kept.alert("outlast openclaw restore --last"), "an alert that names the command")
    typed = time.monotonic()
    kept.type("openclaw", "restore", "--last", "--sure")
    works = kept.passed(typed, kept.works, "a gateway that works again")
    say(
        f"openclaw: database overwritten: noticed {noticed:.1f} s, command told {told:.1f} s, and restored {works:.1f} s"
    )
    goal = Goal(_DATABASE_S)
    return [
        Row("database overwritten, noticed", "s", Figure(noticed), [beside], goal),
        Row("database overwritten, command told that restores it", "s", Figure(told)),
        Row("from that command to working again", "s", Figure(works)),
    ]


def hung(kept: Kept) -> list[Row]:
    """SIGSTOP."""
    kept.fresh()
    pid, began = kept.said().pid, time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    noticed = kept.passed(began, lambda: not kept.is_well(pid), "a node that noticed a hang")
    works = kept.passed(began, lambda: kept.works(but=pid), "a gateway that works again")
    return _rows("gateway hung (SIGSTOP), noticed", "hung, works again", noticed, works)


def stranger(kept: Kept) -> list[Row]:
    """Another program takes the port while it is stopped, and goes."""
    kept.fresh()
    kept.type("openclaw", "stop")
    port = kept.place.settings.port
    with running(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"], kept.home.root / "web"
    ) as web:
        passed(time.monotonic(), lambda: is_taken(port), "the stranger")
        began = time.monotonic()
        with contextlib.suppress(BenchError):
            kept.type("openclaw", "start")
        named = kept.passed(began, lambda: kept.alert(f"process {web.pid} ("), "an alert that names the stranger")
    gone = time.monotonic()
    works = kept.passed(gone, kept.works, "a gateway that works again")
    return _rows("port taken by a stranger, named", "stranger gone, works", named, works)


def full_disk(folder: Path, beside: Beside) -> list[Row]:
    """A node with its gateway on a small disk, which is filled, and emptied again."""
    what = "disk full, told"
    if os.geteuid() or sys.platform != "linux":
        return [Row(what, "s", Figure(None, why="a small disk wants root, on Linux"))]
    beside.kept.type("openclaw", "stop")
    with _small(folder / "disk") as disk, _alone(disk, beside) as kept:
        kept.passed(time.monotonic(), lambda: kept.works() and kept.seen().get("snapshot_at"), "a gateway that works")
        turn(kept.place, "before the disk is full")
        filler = disk / "filler"
        began = time.monotonic()

        def told() -> str:
            _fill(filler)  # what the node gives up to go on is taken as well
            return kept.alert(name="disk")

        noticed = kept.passed(began, told, "an alert of a full disk")
        say(f"openclaw: {kept.alert(name='disk')}")
        with contextlib.suppress(BenchError):
            turn(kept.place, "while it is full")
            say("openclaw: on a full disk the agent took a turn")
        filler.unlink()
        room = time.monotonic()
        works = kept.passed(
            room, lambda: kept.works() and truth(kept.place) and _turns(kept.place), "an agent that answers"
        )
    return _rows(what, "room again, agent answers", noticed, works)


def _turns(place: Place) -> bool:
    with contextlib.suppress(BenchError):
        return bool(turn(place, "after the disk was full"))
    return False


def _fill(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        for piece in (1 << 16, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(piece))


@contextlib.contextmanager
def _small(path: Path) -> Iterator[Path]:
    path.mkdir(parents=True)
    run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m,mode=0700", "outlast-bench", str(path)], path, {}, 30)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


@contextlib.contextmanager
def _alone(root: Path, beside: Beside) -> Iterator[Kept]:
    """A node and a gateway's launcher below ``root``, as a service manager would run them; settings as nobody said any."""
    release, model = beside.kept.place.settings.release, beside.provider
    gateway = Gateway(root, Path(release), providers={model.name: model.port})
    node = LiveNode(root, "axiom", free_port(), {})
    told = OpenClaw(release=release, port=gateway.place.settings.port, agent=gateway.place.settings.agent)
    node.config = {name: node.config[name] for name in ("node", "listen", "peers", "agent")}
    node.config["openclaw"] = msgspec.to_builtins(told)
    node.configure()
    made = node.cli("keys", "init")
    if made.returncode:
        raise BenchError(made.stderr.strip())
    launcher = [sys.executable, "-m", "outlast.openclaw.launch", "--home", str(node.home.root)]
    try:
        with running(launcher, root / "launcher.log"):
            node.start()
            try:
                yield Kept(Home(node.home.root))
            finally:
                node.kill()
    finally:
        # Nothing may have it open when the disk goes.
        psutil.wait_procs([one for one in psutil.process_iter() if _is_on(one, root)], 10)


def _is_on(process: psutil.Process, root: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(str(root) in word for word in process.cmdline())
    return False
