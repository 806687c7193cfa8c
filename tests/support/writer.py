"""A process that writes to a home for as long as it lives, and says what it begins and what it was told is done.

It is forked from a nursery that has everything loaded, so that hundreds can be killed in seconds. What it says goes into a
file, a line in one write, which a kill -9 does not take back: ``begin WHAT`` before, ``done WHAT`` after.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from outlast.clock import SystemClock
from outlast.config import load_config
from outlast.core.record import Step
from outlast.errors import OutlastError
from outlast.home import Home
from outlast.local import Local
from outlast.work.staging import stage

__all__ = ["Nursery", "agent", "found", "write"]

_LIMIT = 20_000
_TEXT = "an agent remembers "


class Nursery:
    """Forks writers and agents, and kills them."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "support.writer"],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fork(self, what: str, root: Path, name: str, said: Path) -> int:
        """A process that does ``write`` or ``agent``, and what it says goes to ``said``. Its id, once it has begun."""
        assert self._server.stdin and self._server.stdout
        print(json.dumps([what, str(root), name, str(said)]), file=self._server.stdin, flush=True)
        return int(self._server.stdout.readline())

    @staticmethod
    def kill(pid: int) -> bool:
        """kill -9, and its end. False where it had ended by itself."""
        try:
            life = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        with open(life, "rb"):
            lived = not select.select([life], [], [], 0)[0]
            # It may have ended by itself by now: where its disk is gone it does.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(life, signal.SIGKILL)
            select.select([life], [], [], 30)
        return lived

    def close(self) -> None:
        """No more of them."""
        self._server.communicate("", timeout=30)


def _serve() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        what, root, name, said = json.loads(line)
        if not (pid := os.fork()):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            mouth = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                {"write": write, "agent": agent}[what](root, name, mouth)
            finally:
                os._exit(1)
        print(pid, flush=True)


def write(root: str, name: str, mouth: int) -> None:
    """Write to the home at ``root`` until killed; ``name`` is new for each process."""
    home, dice = Home(Path(root)), random.Random(name)
    asyncio.run(_write(Local(load_config(home.config), home, SystemClock()), home, name, mouth, dice))


def agent(root: str, name: str, mouth: int) -> None:
    """Append free text to the daily file, as an agent does, until killed."""
    for number in range(1_000_000):
        what = f"{name}-{number}"
        _say(mouth, "begin", f"text {what}")
        with open(Home(Path(root)).memory / f"{time.strftime('%Y-%m-%d')}.md", "a") as file:
            file.write(f"{_TEXT}{what}\n")
        _say(mouth, "done", f"text {what}")
        time.sleep(0.001)  # a thousand lines a second are enough


def found(root: Path, writers: Iterable[str]) -> list[str]:
    """What is there of what these wrote, in their words; as a fresh start reads it, and from the files themselves."""
    home = Home(root)
    local = Local(load_config(home.config), home, SystemClock())
    try:
        local.memory.journal.compact(_LIMIT, home.memory_file)
        records = list(local.memory.journal.since(0))
        words = [f"note {record.what}" for record in records if record.unit == "unit"]
        words += [f"begin {record.unit}" for record in records if record.step is Step.INTENT]
        for name in writers:
            words += [f"fact {fact['value']}" for fact in _facts(local, name)]
    finally:
        local.close()
    done = {record.unit for record in records if record.step is Step.CONFIRM and record.what.startswith("done")}
    assert done == {path.name for path in home.artifacts.iterdir()}, "STATE and artifacts differ"
    for unit in done:
        assert (home.artifacts / unit / "notes.md").read_text() == f"made for {unit}\n"
    words += [f"commit {unit}" for unit in done]
    for day in home.memory.glob("*.md"):
        lines = day.read_text(errors="replace").splitlines()
        words += [f"text {line.removeprefix(_TEXT)}" for line in lines if line.startswith(_TEXT)]
    return words


def _facts(local: Local, entity: str) -> list[dict[str, object]]:
    listed = local.shared.query(entity)
    assert isinstance(listed["facts"], list) and not listed["more"]
    return listed["facts"]


async def _write(local: Local, home: Home, name: str, mouth: int, dice: random.Random) -> None:
    for number in range(1_000_000):
        what = f"{name}-{number}"
        kind = dice.choice(["note", "note", "notes", "step", "fact", "compact"])
        # What the disk does not take is not acknowledged, and the next is tried.
        with contextlib.suppress(OutlastError):
            if kind == "note":
                _say(mouth, "begin", f"note {what}")
                local.memory.note("unit", what)
                _say(mouth, "done", f"note {what}")
            elif kind == "notes":
                each = (_note(local, f"{what}-{writer}", mouth) for writer in range(8))
                await asyncio.gather(*each, return_exceptions=True)
            elif kind == "fact":
                _say(mouth, "begin", f"fact {what}")
                local.shared.fact(name, f"a{number}", what)
                _say(mouth, "done", f"fact {what}")
            elif kind == "step":
                await _step(local, home, what, mouth)
            else:
                local.memory.journal.compact(_LIMIT, home.memory_file)


async def _note(local: Local, what: str, mouth: int) -> None:
    _say(mouth, "begin", f"note {what}")
    await local.memory.journal.commit(Step.NOTE, "unit", what)
    _say(mouth, "done", f"note {what}")


async def _step(local: Local, home: Home, unit: str, mouth: int) -> None:
    async def order(name: str, **body: object) -> None:
        await local.orders[f"step/{name}"](json.dumps({"unit": unit, **body}).encode())  # type: ignore[misc]

    _say(mouth, "begin", f"begin {unit}")
    await order("begin", artifacts=["notes.md"])
    _say(mouth, "done", f"begin {unit}")
    _say(mouth, "begin", f"commit {unit}")
    staged = stage(home.steps / unit, io.BytesIO(f"made for {unit}\n".encode()), 1 << 20)
    await order("act", artifact="notes.md", staged=staged)
    await order("commit")
    _say(mouth, "done", f"commit {unit}")


def _say(mouth: int, kind: str, what: str) -> None:
    os.write(mouth, f"{kind} {what}\n".encode())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write(sys.argv[1], sys.argv[2], os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    else:
        _serve()
