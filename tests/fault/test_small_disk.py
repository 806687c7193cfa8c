"""A real ext4 that is full to the last byte, breaks, or loses its power; and fsyncs that fail in a real process."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault.test_500_kills import Told
from support import writer
from support.artifacts import make_home
from support.blockdev import SmallDisk, small_disk
from support.live import LiveNode, free_port, until
from support.needs import missing

from outlast.clock import SystemClock
from outlast.config import load_config
from outlast.core.record import Step
from outlast.errors import OutlastError
from outlast.home import Home
from outlast.local import Local
from outlast.store import durable
from outlast.work.staging import stage

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path) as found:
        yield found


class Writes:
    """Every path by which something is written, each until it fails; what was acknowledged."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.local = Local(load_config(home.config), home, SystemClock())
        self.done: list[str] = []
        self.number = 0

    def paths(self) -> dict[str, Callable[[str], None]]:
        """By name; each is given a word that is new."""
        memory = self.local.memory
        return {
            "note": lambda what: memory.note("unit", f"{what} {'x' * 100}"),
            "notes": lambda what: asyncio.run(self._together(what)),
            "update": lambda what: (memory.intent(what, "step", "", "work", ("notes.md",)), memory.flush())[-1],
            "fact": lambda what: (self.local.shared.fact("axiom", what, "v" * 3000), None)[-1],
            "step": lambda what: asyncio.run(self._step(what)),
            "compact": lambda what: (memory.journal.compact(4000, self.home.memory_file), None)[-1],
            "replace": lambda what: (durable.replace(self.home.root / "var" / what, b"r" * 9000), None)[-1],
        }

    async def _together(self, what: str) -> None:
        journal = self.local.memory.journal
        await asyncio.gather(*(journal.commit(Step.NOTE, "unit", f"{what}.{number}") for number in range(8)))

    async def _step(self, unit: str) -> None:
        async def order(name: str, **body: object) -> None:
            await self.local.orders[f"step/{name}"](json.dumps({"unit": unit, **body}).encode())  # type: ignore[misc]

        await order("begin", artifacts=["notes.md"])
        staged = stage(self.home.steps / unit, io.BytesIO(f"made for {unit}\n".encode() * 300), 1 << 20)
        await order("act", artifact="notes.md", staged=staged)
        await order("commit")

    def until_it_fails(self, name: str, most: int = 300) -> BaseException | None:
        """Write by this path; what it raised."""
        for _ in range(most):
            self.number += 1
            what = f"{name}-{self.number}"
            try:
                self.paths()[name](what)
            except (OutlastError, OSError) as error:
                return error
            self.done.append(what)
        return None

    def check(self) -> None:
        """All that was acknowledged is there, for whoever opens the home anew."""
        self.local.close()
        local = Local(load_config(self.home.config), self.home, SystemClock())
        records = list(local.memory.journal.since(0))
        words = {record.what.split()[0] for record in records if record.unit == "unit"}
        words |= {what.partition(".")[0] for what in words}
        words |= {
            record.unit for record in records if record.what.startswith("done") or record.what.startswith("makes")
        }
        facts = {fact["attribute"] for fact in local.shared.query("axiom")["facts"]}  # type: ignore[attr-defined]
        files = {path.name for path in (self.home.root / "var").iterdir()}
        lost = [what for what in self.done if what not in words | facts | files and not what.startswith("compact")]
        assert not lost, f"{len(lost)} of {len(self.done)} acknowledged are lost: {lost[:5]}"
        for path in self.home.artifacts.iterdir():
            assert set((path / "notes.md").read_text().splitlines()) == {f"made for {path.name}"}
        assert not [finding for finding in local.memory.findings if "parse" in str(finding)], local.memory.findings
        local.close()


def _home(disk: SmallDisk) -> Home:
    """As site.yml leaves it, at rest."""
    home = make_home(disk.path, "axiom")
    home.memory.mkdir()
    disk.sync()
    return home


_PATHS = ["note", "notes", "update", "fact", "step", "compact", "replace"]


@pytest.mark.parametrize("first", _PATHS)
def test_a_disk_that_is_full_to_the_last_byte_loses_nothing(disk: SmallDisk, first: str) -> None:
    """Each way of writing, tried first and then all the others, fails with an error of ours and leaves the last good state; with
    room again the same process goes on; what was acknowledged is there, also after the disk was away."""
    writes = Writes(_home(disk))
    for name in _PATHS:
        assert writes.until_it_fails(name, most=2) is None, name
    disk.fill()
    for name in [first, *_PATHS]:
        error = writes.until_it_fails(name)
        assert name == "compact" or isinstance(error, OutlastError), f"{name}: {error!r}"
        assert error is None or "Traceback" not in str(error)
    disk.make_room()
    for name in _PATHS:
        assert (error := writes.until_it_fails(name, most=2)) is None, f"{name}: {error}"
    writes.check()
    disk.unmount()
    disk.mount()
    Writes.check(writes)


@pytest.mark.parametrize("how", ["broken", "gone"])
def test_a_disk_that_turns_read_only_or_vanishes_leaves_the_last_good_state(disk: SmallDisk, how: str) -> None:
    """The kernel makes it read-only for an error, or answers nothing but errors: each way of writing fails with an error of
    ours; after its repair all that was acknowledged is there and the same process goes on."""
    writes = Writes(_home(disk))
    for name in _PATHS:
        assert writes.until_it_fails(name, most=5) is None, name
    (disk.break_it if how == "broken" else disk.cut_power)()
    for name in _PATHS:
        assert isinstance(writes.until_it_fails(name), OutlastError) or name == "compact", name
    # What stays open of it holds the broken one: whoever repairs it stops the node before.
    writes.local.close()
    disk.power_on()
    again = Writes(writes.home)
    again.done, again.number = writes.done, writes.number
    for name in _PATHS:
        assert (error := again.until_it_fails(name, most=3)) is None, f"{name}: {error}"
    again.check()


def test_a_node_on_a_disk_that_fills_and_breaks_says_so_and_goes_on(disk: SmallDisk) -> None:
    """A running node whose disk is full refuses a step in one line and stays up, and takes it once there is room; whose disk
    breaks, says that it is not ready; after the repair it starts, and knows all it had acknowledged."""
    node = LiveNode(disk.path, "axiom", free_port(), {}, {"clean": {"ballast": "1MiB"}, "health": {"interval": "1s"}})
    assert node.cli("keys", "init").returncode == 0
    disk.sync()
    try:
        node.start()
        begin = ("step", "begin", "--artifact", "notes.md", "--unit")
        assert node.cli(*begin, "unit-1").returncode == 0
        # What the node gives up to go on is taken as well.
        until(lambda: disk.fill() or not node.home.ballast.exists(), what="the ballast is given up")
        disk.fill()
        said = until(
            lambda: (found := node.cli(*begin, f"unit-2-{time.time_ns()}")).returncode and found, what="a refusal"
        )
        assert said.returncode == 1 and said.stderr.count("\n") == 1 and said.stderr.startswith("outlast: "), said
        assert not node.ended()
        disk.make_room()
        assert node.cli(*begin, "unit-3").returncode == 0
        disk.break_it()
        assert node.cli(*begin, "unit-4").returncode == 1
        until(lambda: not node.status()["ready"], what="the node says that it cannot write")
        assert not node.ended() and "alert (now): " in node.cli("status").stdout
        node.kill()
        disk.power_on()
        node.start()
        known = {unit["unit"] for unit in node.status()["open"]}
        assert {"unit-1", "unit-3"} <= known and "unit-4" not in known
        assert node.cli(*begin, "unit-4").returncode == 0
        assert "Traceback" not in node.log()
    finally:
        node.kill()


@pytest.mark.timeout(120)
def test_the_power_of_a_real_ext4_goes_under_load(disk: SmallDisk) -> None:
    """Writers and agents write to an ext4 whose power goes at 20 random moments: what the writers were told is done is there
    after the log was replayed, and nothing that they had not begun. Agents do not fsync, and are promised nothing."""
    root, told, dice, nursery = _home(disk).root, Told(), random.Random(3), writer.Nursery()
    elsewhere = disk.path.parent
    try:
        for number in range(20):
            said = [elsewhere / f"said-{what}{number}" for what in "wa"]
            lives = [
                nursery.fork("write", root, f"w{number}", said[0]),
                nursery.fork("agent", root, f"a{number}", said[1]),
            ]
            time.sleep(dice.uniform(0.05, 0.3))  # the moment is what is random here, nothing is waited for
            # Who asks the kernel in this very moment may be told that all is well: nobody is, whose power is gone.
            counts = said[0].stat().st_size if said[0].exists() else 0
            disk.cut_power()
            for life in lives:
                nursery.kill(life)
            if said[0].exists():
                told.hear(said[0].read_text(), counts)
            disk.power_on()
    finally:
        nursery.close()
    words = writer.found(root, [f"w{number}" for number in range(20)])
    told.compare([word for word in words if not word.startswith("text ")])
    print(f"20 power cuts of ext4: {len(told.done)} acknowledged")
    assert len(told.done) > 20


_FIU = [Path("/usr/lib/fiu/fiu_run_preload.so"), Path("/usr/lib/fiu/fiu_posix_preload.so")]


def _life(root: Path, name: str, said: Path, env: dict[str, str]) -> str:
    """What a writer said until it ended, or had said enough."""
    command = [sys.executable, "-m", "support.writer", str(root), name, str(said)]
    process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, env=env, stderr=subprocess.PIPE)
    until(lambda: process.poll() is not None or (said.exists() and said.stat().st_size > 4000), what="it writes")
    process.kill()
    _, wrong = process.communicate()
    # A start that fails says so; anything else goes on.
    assert not wrong or b"DurabilityError" in wrong.splitlines()[-1], wrong.decode()
    return said.read_text() if said.exists() else ""


@pytest.mark.parametrize("call", ["fsync", "fdatasync"])
def test_fsyncs_that_fail_in_a_real_process_acknowledge_nothing_that_is_not_there(tmp_path: Path, call: str) -> None:
    """Under libfiu every tenth fsync or fdatasync of a process, SQLite's too, fails with EIO: it goes on, and what it was told
    is done is there, once."""
    if not all(path.exists() for path in _FIU):
        missing("libfiu (Debian: fiu-utils), for fsyncs that fail")
    root, told = make_home(tmp_path, "axiom").root, Told()
    (root / "workspace" / "memory").mkdir()
    chance = f"enable_random name=posix/io/sync/{call},probability=0.1,failinfo=5"
    env = {**os.environ, "LD_PRELOAD": " ".join(map(str, _FIU)), "FIU_ENABLE": chance}
    rounds = 0
    while rounds < 40 and (len(told.done) < 40 or len(told.begun) == len(told.done)):
        told.hear(_life(root, f"w{rounds}", tmp_path / f"said{rounds}", env))
        rounds += 1
    told.compare(writer.found(root, [f"w{number}" for number in range(rounds)]))
    lost = len(told.begun) - len(told.done)
    print(f"{call} fails: {len(told.done)} acknowledged, {lost} refused")
    assert told.done and lost
