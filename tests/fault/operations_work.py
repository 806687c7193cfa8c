"""What is cut at every I/O step, and what must hold afterwards: the work of a node. See fault.powercut."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path

import msgspec
from fault.operations import NOON
from fault.powercut import Operation, Said, Voice
from support.artifacts import UNIT, make_home, manifest_of
from support.clock import FixedClock

from outlast.config import load_config
from outlast.core.ids import message_id, new_unit
from outlast.files import wire
from outlast.files.receive import receive
from outlast.home import Home
from outlast.local import Local
from outlast.messages import Envelope, Result, Task
from outlast.settings import Config
from outlast.store import durable
from outlast.work.artifacts import MANIFEST, Manifest, publish, verify
from outlast.work.handoffs import Handoffs
from outlast.work.tasks import Tasks

__all__ = ["WORK", "make_node"]

_AGENT = 'mkdir -p data; echo "made for $OUTLAST_UNIT" > result.md; echo 1 2 3 > data/numbers'


def _units(count: int) -> list[str]:
    return [new_unit("coz", NOON, number) for number in range(count)]


class Parts:
    """A node without its network, as a start opens it."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root / "axiom")
        config: Config = load_config(self.home.config)
        self.clock = FixedClock(NOON)
        self.local = Local(config, self.home, self.clock)
        memory, ledger, events = self.local.memory, self.local.ledger, self.local.events
        self.tasks = Tasks(config, self.home, memory, ledger, events, self.clock, lambda _: None, dict)
        self.handoffs = Handoffs(config, self.home.handoffs, memory, ledger, events, self.clock, lambda _: None)
        self.tasks.recover()
        self.handoffs.recover()

    async def carry_on(self) -> None:
        """Do what is open."""
        running = asyncio.create_task(self.tasks.run())
        while not self.tasks.idle() or self.tasks.running:
            assert not running.done(), running.exception()
            await asyncio.sleep(0.001)
        running.cancel()

    def close(self) -> None:
        """What a stop does last."""
        self.local.memory.flush()
        self.local.close()


def make_node(disk: Path) -> None:
    """A provisioned home whose events are elsewhere: they are not promised, and would hide what is."""
    agent = {"command": ["/bin/sh", "-c", _AGENT], "after_crash": "rerun", "attempts": 9}
    retry = {"base": "1ms", "max": "5ms"}
    home = make_home(disk, "axiom", agent=agent, retry=retry, peers={"coz": {"url": "http://127.0.0.1:18802"}})
    home.logs.rmdir()
    home.logs.symlink_to("/dev/shm" if os.path.isdir("/dev/shm") else "/tmp")


def _start_once(disk: Path) -> None:
    make_node(disk)
    Parts(disk).close()


async def _carry_out(parts: Parts, units: list[str], voice: Voice) -> None:
    for number, unit in enumerate(units):
        envelope = Envelope(
            v=1, sender="coz", to="axiom", channel="main", seq=number + 1, trace_id="0" * 32, span_id="0" * 16,
            correlation_id=unit, message=Task(unit=unit, task="host report"),
        )  # fmt: skip
        with voice(f"accepted {unit}"):
            parts.tasks.accept(envelope, Task(unit=unit, task="host report"))
        if voice.failed:
            continue
        voice.say(f"begin closed {unit}")
        await parts.carry_on()
        # What the disk would not keep of the agent's files is a failed task, and told as such.
        voice.say(f"{parts.local.memory.state.units[unit].status} closed {unit}")


def _act_task(disk: Path, voice: Voice) -> None:
    parts = Parts(disk)
    asyncio.run(_carry_out(parts, _units(1), voice))
    parts.close()


def _task_later(disk: Path, voice: Voice) -> None:
    parts = Parts(disk)
    asyncio.run(_carry_out(parts, [_units(2)[1]], voice))
    parts.close()


def _check_task(disk: Path, said: Said) -> None:
    parts = Parts(disk)
    asyncio.run(parts.carry_on())
    units, home = parts.local.memory.state.units, parts.home
    for word in said.done:
        what, _, unit = word.partition(" ")
        assert unit in units, f"{unit} was accepted, and is not known"
        assert what == "accepted" or units[unit].status == "done", f"{unit} was done, and is {units[unit].status}"
    for unit, known in units.items():
        assert f"accepted {unit}" in said.begun, f"{unit} is invented"
        artifact = home.artifacts / unit
        if known.status == "failed" and "could not be" in known.detail:
            continue
        assert known.status == "done" and known.confirmed, f"{unit} is {known.status}: {known.detail}"
        manifest = msgspec.json.decode((artifact / MANIFEST).read_bytes(), type=Manifest)
        assert not verify(artifact, manifest) and len(manifest.files) == 2
        sent = parts.local.ledger
        assert sent.waiting(message_id(unit, "result")), "its result is told to nobody"
    assert {path.name for path in home.artifacts.iterdir()} <= set(units), "an artifact of no known unit"
    assert not any(home.tasks.iterdir()), "something is left of a closed task"
    parts.close()


def _act_handoff(disk: Path, voice: Voice) -> None:
    parts = Parts(disk)
    for unit in [new_unit("axiom", NOON, number) for number in range(2)]:
        with voice(f"made {unit}"):
            parts.handoffs.make(unit, "coz", "host report")
        if voice.failed:
            continue
        with voice(f"closed {unit}"):
            parts.handoffs.confirmed("coz", Result(unit=unit, verdict="done", detail="well", files=()))
    parts.close()


def _check_handoff(disk: Path, said: Said) -> None:
    parts = Parts(disk)
    units = parts.local.memory.state.units
    for word in said.done:
        what, _, unit = word.partition(" ")
        assert unit in units, f"{unit} was made, and is not known"
        assert what == "made" or units[unit].status == "done", f"{unit} was closed, and is {units[unit].status}"
        ledger = parts.local.ledger
        assert ledger.waiting(message_id(unit, "task")), f"{unit} is not on its way"
    for unit, known in units.items():
        assert f"made {unit}" in said.begun, f"{unit} is invented"
        assert known.status in {"open", "done"} or f"made {unit}" not in said.done, f"{unit} is {known.status}"
    parts.close()


def _act_receive(disk: Path, voice: Voice) -> None:
    files = {"report.md": b"all well\n", "data/numbers": b"1 2 3\n" * 300}
    manifest = manifest_of(files)
    home = Home(disk / "axiom")
    folder = home.fetching / UNIT
    durable.make_dir(home.fetching)
    folder.mkdir()
    with voice(f"fetched {UNIT}"):
        receive(_wire(manifest, files), manifest, msgspec.json.encode(manifest), folder)
        publish(folder, home.artifacts / UNIT)


def _wire(manifest: Manifest, files: dict[str, bytes]) -> io.BytesIO:
    """The files of a manifest as they come from a peer."""
    parts = []
    for file in manifest.files:
        parts += [wire.header(file.path, file.size), files[file.path], bytes(wire.padding(file.size))]
    return io.BytesIO(b"".join([*parts, wire.END]))


def _check_receive(disk: Path, said: Said) -> None:
    artifact = Home(disk / "axiom").artifacts / UNIT
    if said.done or artifact.exists():
        manifest = msgspec.json.decode((artifact / MANIFEST).read_bytes(), type=Manifest)
        assert len(manifest.files) == 2 and not verify(artifact, manifest)


WORK = [
    Operation("first start", lambda disk, _: Parts(disk).close(), lambda disk, _: Parts(disk).close(), make_node),
    Operation("task", _act_task, _check_task, _start_once, _task_later, most=4, stride=11),
    Operation("handoff", _act_handoff, _check_handoff, _start_once, most=16),
    Operation("receive", _act_receive, _check_receive, make_node),
]
