"""What is cut at every I/O step, and what must hold afterwards: what a node does without a peer. See fault.powercut."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from fault.operations import NOON
from fault.operations_work import make_node
from fault.powercut import Operation, Said, Voice
from support.clock import FixedClock

from outlast.config import load_config
from outlast.core.record import Step
from outlast.home import Home
from outlast.local import Local
from outlast.store import shared
from outlast.work.artifacts import MANIFEST, Manifest, verify
from outlast.work.staging import stage

__all__ = ["LOCAL", "act_step", "home_of", "opened", "prepare"]


@contextmanager
def opened(disk: Path) -> Iterator[Local]:
    home = Home(disk / "axiom")
    local = Local(load_config(home.config), home, FixedClock(NOON))
    try:
        yield local
    finally:
        local.close()


def home_of(disk: Path) -> Home:
    return Home(disk / "axiom")


def prepare(disk: Path) -> None:
    make_node(disk)
    with opened(disk):
        pass


# The journal, many writers at once.


def _act_together(disk: Path, voice: Voice) -> None:
    async def one(local: Local, what: str) -> None:
        with voice(what):
            await local.memory.journal.commit(Step.NOTE, "unit", what)

    async def all_of_them(local: Local) -> None:
        for turn in range(2):
            await asyncio.gather(*(one(local, f"turn {turn} writer {number}") for number in range(5)))

    with opened(disk) as local:
        asyncio.run(all_of_them(local))


def _check_together(disk: Path, said: Said) -> None:
    with opened(disk) as local:
        found = [record.what for record in local.memory.journal.since(0) if record.unit == "unit"]
        assert set(said.done) <= set(found) <= set(said.begun), (found, said)
        assert len(found) == len(set(found))


# The five steps of a script.


async def _step(local: Local, name: str, **body: object) -> None:
    await local.orders[f"step/{name}"](json.dumps(body).encode())  # type: ignore[misc]


def act_step(disk: Path, voice: Voice) -> None:
    async def carry_out(local: Local) -> None:
        home = home_of(disk)
        with voice("begin one"):
            await _step(local, "begin", unit="one", artifacts=["more.md", "notes.md"], what="write it down")
        if voice.failed:
            return
        with voice("stage one"):
            staged = stage(home.steps / "one", io.BytesIO(b"more\n" * 200), 1 << 20)
            await _step(local, "act", unit="one", artifact="more.md", staged=staged)
        if voice.failed:
            return
        with voice("act one"):
            staged = stage(home.steps / "one", io.BytesIO(b"noted\n" * 100), 1 << 20)
            await _step(local, "act", unit="one", artifact="notes.md", staged=staged)
        if not voice.failed:
            with voice("commit one"):
                await _step(local, "commit", unit="one")
        with voice("begin two"):
            await _step(local, "begin", unit="two", artifacts=["notes.md"], what="and again")
        if not voice.failed:
            with voice("abandon two"):
                await _step(local, "abandon", unit="two", reason="no need")

    with opened(disk) as local:
        asyncio.run(carry_out(local))


def _step_later(disk: Path, voice: Voice) -> None:
    """What was found done stays so; and one more is done."""

    async def carry_out(local: Local) -> None:
        seen = [f"commit {name}" for name, unit in local.memory.state.units.items() if unit.status == "done"]
        with voice("begin three", *seen):
            await _step(local, "begin", unit="three", artifacts=["notes.md"])
        with voice("act three"):
            staged = stage(home_of(disk).steps / "three", io.BytesIO(b"noted\n" * 100), 1 << 20)
            await _step(local, "act", unit="three", artifact="notes.md", staged=staged)
        with voice("commit three"):
            await _step(local, "commit", unit="three")

    with opened(disk) as local:
        asyncio.run(carry_out(local))


def _check_step(disk: Path, said: Said) -> None:
    with opened(disk) as local:
        units, home = local.memory.state.units, home_of(disk)
        for unit, known in units.items():
            assert f"begin {unit}" in said.begun, f"{unit} is invented"
            artifact = home.artifacts / unit
            assert known.kind == "step" and artifact.exists() == (known.status == "done"), f"{unit}: {known}"
            if known.status == "done":
                manifest = msgspec.json.decode((artifact / MANIFEST).read_bytes(), type=Manifest)
                assert not verify(artifact, manifest) and (artifact / "notes.md").read_bytes() == b"noted\n" * 100
            if known.status == "failed":
                assert known.detail == "no need"
        for word in said.done:
            what, unit = word.split()
            assert unit in units, f"{word}, and it is not known"
            # What was acted is published, and a start carries that through.
            expected = {
                "begin": {"open", "done", "failed"},
                "stage": {"open", "done"},
                "act": {"done"},
                "commit": {"done"},
                "abandon": {"failed"},
            }
            assert units[unit].status in expected[what], f"{word}, and it is {units[unit]}"
            if what == "stage":
                place = home.steps / unit / "work" if units[unit].status == "open" else home.artifacts / unit
                assert (place / "more.md").read_bytes() == b"more\n" * 200
        names = {path.name for path in home.artifacts.iterdir()}
        assert names <= set(units), f"artifacts of no known unit: {names}"


# What the nodes know together.


_TORN = b'{"agent":"axiom","se'


def _prepare_shared(disk: Path) -> None:
    prepare(disk)
    home_of(disk).shared.mkdir()
    (home_of(disk).shared / "axiom.jsonl").write_bytes(_TORN + b"\n")


def _act_shared(disk: Path, voice: Voice) -> None:
    # So that the file is written anew after a few lines.
    kept, shared._MANY = shared._MANY, 3
    try:
        with opened(disk) as local:
            for number in range(4):
                with voice(f"set {number}"):
                    local.shared.set("goal", str(number))
            with voice("add"):
                local.shared.add("seen", "coz")
            with voice("fact"):
                local.shared.fact("axiom", "disk", "full")
    finally:
        shared._MANY = kept


def _shared_later(disk: Path, voice: Voice) -> None:
    with opened(disk) as local:
        seen = local.shared.get("goal")
        with voice("add", *([f"set {seen['value']}"] if "value" in seen else [])):
            local.shared.add("seen", "coz")


def _check_shared(disk: Path, said: Said) -> None:
    with opened(disk) as local:
        held = local.shared.get("goal")
        value = int(str(held["value"])) if "value" in held else -1
        least = max([int(word[4:]) for word in said.done if word.startswith("set")], default=-1)
        most = max([int(word[4:]) for word in said.begun if word.startswith("set")], default=-1)
        assert least <= value <= most, f"it holds {value}: {said}"
        found = {"add"} if "coz" in str(local.shared.get("seen")) else set()
        found |= {"fact"} if "full" in str(local.shared.query("axiom", "disk")) else set()
        torn = [path for folder in (home_of(disk).shared, home_of(disk).trash) for path in folder.iterdir()]
        assert any(_TORN in path.read_bytes() for path in torn), "what was overwritten cannot be got back"
        assert {"add", "fact"} & set(said.done) <= found <= set(said.begun), (found, said)


LOCAL = [
    Operation("journal, together", _act_together, _check_together, prepare),
    Operation("step", act_step, _check_step, prepare, _step_later, most=8, stride=3),
    Operation("shared", _act_shared, _check_shared, _prepare_shared, _shared_later, most=16),
]
