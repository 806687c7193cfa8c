"""What is cut at every I/O step, and what must hold afterwards: what a node does without a peer. See fault.powercut."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from fault.operations import NOON
from fault.operations_work import make_node
from fault.powercut import Operation, Said, Voice
from support.clock import FixedClock

from outlast.config import load_config
from outlast.core.cleaning import Step as Cleaning
from outlast.core.record import Step
from outlast.home import Home
from outlast.local import Local
from outlast.store import durable, shared
from outlast.store.journal import Journal
from outlast.store.memory import Memory
from outlast.work import ballast
from outlast.work.artifacts import MANIFEST, Manifest, verify
from outlast.work.packing import compress
from outlast.work.staging import stage

__all__ = ["LOCAL"]


@contextmanager
def _opened(disk: Path) -> Iterator[Local]:
    home = Home(disk / "axiom")
    local = Local(load_config(home.config), home, FixedClock(NOON))
    try:
        yield local
    finally:
        local.close()


def _home(disk: Path) -> Home:
    return Home(disk / "axiom")


def _prepare(disk: Path) -> None:
    make_node(disk)
    with _opened(disk):
        pass


# The journal, many writers at once.


def _act_together(disk: Path, voice: Voice) -> None:
    async def one(local: Local, what: str) -> None:
        with voice(what):
            await local.memory.journal.commit(Step.NOTE, "unit", what)

    async def all_of_them(local: Local) -> None:
        for turn in range(2):
            await asyncio.gather(*(one(local, f"turn {turn} writer {number}") for number in range(5)))

    with _opened(disk) as local:
        asyncio.run(all_of_them(local))


def _check_together(disk: Path, said: Said) -> None:
    with _opened(disk) as local:
        found = [record.what for record in local.memory.journal.since(0) if record.unit == "unit"]
        assert set(said.done) <= set(found) <= set(said.begun), (found, said)
        assert len(found) == len(set(found))


# The five steps of a script.


async def _step(local: Local, name: str, **body: object) -> None:
    await local.orders[f"step/{name}"](json.dumps(body).encode())  # type: ignore[misc]


def _act_step(disk: Path, voice: Voice) -> None:
    async def carry_out(local: Local) -> None:
        home = _home(disk)
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

    with _opened(disk) as local:
        asyncio.run(carry_out(local))


def _step_later(disk: Path, voice: Voice) -> None:
    """What was found done stays so; and one more is done."""

    async def carry_out(local: Local) -> None:
        seen = [f"commit {name}" for name, unit in local.memory.state.units.items() if unit.status == "done"]
        with voice("begin three", *seen):
            await _step(local, "begin", unit="three", artifacts=["notes.md"])
        with voice("act three"):
            staged = stage(_home(disk).steps / "three", io.BytesIO(b"noted\n" * 100), 1 << 20)
            await _step(local, "act", unit="three", artifact="notes.md", staged=staged)
        with voice("commit three"):
            await _step(local, "commit", unit="three")

    with _opened(disk) as local:
        asyncio.run(carry_out(local))


def _check_step(disk: Path, said: Said) -> None:
    with _opened(disk) as local:
        units, home = local.memory.state.units, _home(disk)
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
    _prepare(disk)
    _home(disk).shared.mkdir()
    (_home(disk).shared / "axiom.jsonl").write_bytes(_TORN + b"\n")


def _act_shared(disk: Path, voice: Voice) -> None:
    # So that the file is written anew after a few lines.
    kept, shared._MANY = shared._MANY, 3
    try:
        with _opened(disk) as local:
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
    with _opened(disk) as local:
        seen = local.shared.get("goal")
        with voice("add", *([f"set {seen['value']}"] if "value" in seen else [])):
            local.shared.add("seen", "coz")


def _check_shared(disk: Path, said: Said) -> None:
    with _opened(disk) as local:
        held = local.shared.get("goal")
        value = int(str(held["value"])) if "value" in held else -1
        least = max([int(word[4:]) for word in said.done if word.startswith("set")], default=-1)
        most = max([int(word[4:]) for word in said.begun if word.startswith("set")], default=-1)
        assert least <= value <= most, f"it holds {value}: {said}"
        found = {"add"} if "coz" in str(local.shared.get("seen")) else set()
        found |= {"fact"} if "full" in str(local.shared.query("axiom", "disk")) else set()
        torn = [path for folder in (_home(disk).shared, _home(disk).trash) for path in folder.iterdir()]
        assert any(_TORN in path.read_bytes() for path in torn), "what was overwritten cannot be got back"
        assert {"add", "fact"} & set(said.done) <= found <= set(said.begun), (found, said)


# A daily file that has become long.

_LIMIT = 1500
_PEOPLE = b"remember the milk\n"


def _prepare_long(disk: Path) -> None:
    _prepare(disk)
    memory = Memory(_home(disk), "axiom", FixedClock(NOON))
    for number in range(40):
        memory.note("unit", f"note {number}")
        if number == 20:
            with open(_home(disk).memory / "2026-11-21.md", "ab") as file:
                file.write(_PEOPLE)
    memory.close()


def _compact(disk: Path) -> None:
    with _opened(disk) as local:
        local.memory.journal.compact(_LIMIT, _home(disk).memory_file)


def _act_compact(disk: Path, voice: Voice) -> None:
    with voice("compacted"):
        _compact(disk)


def _check_compact(disk: Path, said: Said) -> None:
    home = _home(disk)
    before = [f"note {number}" for number in range(40)]
    if "compacted" in said.done:
        assert (home.memory / "2026-11-21.md").stat().st_size < _LIMIT and list(home.archive.iterdir())
    for _ in range(2):
        with _opened(disk) as local:
            assert [record.what for record in local.memory.journal.since(0) if record.unit == "unit"] == before
        texts = [path for path in home.memory.iterdir() if path.is_file() and not path.name.endswith(".old")]
        assert sum(path.read_bytes().count(_PEOPLE) for path in texts) == 1, texts
        # A start that carries it on does so once.
        _compact(disk)
    assert home.memory_file.read_text().count("\n## ") + home.memory_file.read_text().startswith("## ") == 1


# Cleaning.


def _logs(disk: Path) -> Path:
    return disk / "axiom" / "old"


def _prepare_clutter(disk: Path) -> None:
    _prepare(disk)
    home = _home(disk)
    _logs(disk).mkdir()
    (_logs(disk) / "2026-10-01.jsonl").write_bytes(b'{"event":"old"}\n' * 200)
    (home.artifacts / "old").mkdir()
    (home.artifacts / "old" / "result.md").write_bytes(b"result\n" * 200)
    (home.trash / "gone").mkdir()
    (home.trash / "gone" / "file").write_bytes(b"nobody misses it")


def _act_clean(disk: Path, voice: Voice) -> None:
    with _opened(disk) as local:
        with voice("log"):
            compress(_logs(disk) / "2026-10-01.jsonl", lambda: None)
        for kind, name in (("artifact", "old"), ("trash", "gone")):
            with voice(kind):
                asyncio.run(local.cleaner._do(Cleaning(kind, name, 0, "it is old")))  # type: ignore[arg-type]
        with voice("ballast"):
            ballast.set_by(_home(disk), 20_000)


def _clean_later(disk: Path, voice: Voice) -> None:
    """What was seen as packed already is not packed again, and the rest goes."""
    log = _logs(disk) / "2026-10-01.jsonl"
    if log.exists():
        with voice("log"):
            compress(log, lambda: None)
    with _opened(disk) as local:
        local.cleaner._finish_earlier()
    voice.say("done nothing")


def _check_clean(disk: Path, said: Said) -> None:
    home, log = _home(disk), _logs(disk) / "2026-10-01.jsonl"
    packed = log.with_name(f"{log.name}.gz")
    whole = b'{"event":"old"}\n' * 200
    held = [gzip.decompress(packed.read_bytes()) if packed.exists() else b"", log.read_bytes() if log.exists() else b""]
    assert whole in held and set(held) <= {b"", whole}, [len(one) for one in held]
    assert "log" not in said.done or not log.exists()
    with _opened(disk) as local:
        local.cleaner._finish_earlier()
    result = b"result\n" * 200
    kept = [path.read_bytes() for path in (home.artifacts / "old" / "result.md",) if path.exists()]
    kept += [(path / "result.md").read_bytes() for path in home.trash.glob("*-old") if (path / "result.md").exists()]
    for archive in home.trash.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            kept += [tar.extractfile("old/result.md").read()]  # type: ignore[union-attr]
    assert kept and set(kept) == {result}, f"{len(kept)} copies"
    assert "artifact" not in said.done or not (home.artifacts / "old").exists()
    assert "trash" not in said.done or not (home.trash / "gone").exists()
    if "ballast" in said.done or home.ballast.exists():
        assert home.ballast.stat().st_size == 20_000


# A start that has much to put right.


def _prepare_broken(disk: Path) -> None:
    _prepare(disk)
    _act_step(disk, Voice(lambda _: None))
    home = _home(disk)
    data = home.state_file.read_bytes()
    home.state_file.write_bytes(data[: len(data) // 2])
    shutil.copytree(home.artifacts / "one", home.artifacts / "three")
    manifest = (home.artifacts / "three" / MANIFEST).read_bytes().replace(b'"one"', b'"three"')
    (home.artifacts / "three" / MANIFEST).write_bytes(manifest)
    with open(home.memory / "2026-11-21.md", "ab") as file:
        file.write(b"- 12:00:00 NOTE unit torn [axi")


def _act_recover(disk: Path, voice: Voice) -> None:
    with voice("recovered"), _opened(disk) as local:
        local.memory.flush()


def _compact_later(disk: Path, voice: Voice) -> None:
    """By whoever has but the journal: it rests on nothing that the start of a node brings to the disk."""
    home = _home(disk)
    journal = Journal(home.memory, "axiom", FixedClock(NOON))
    journal.compact(_LIMIT, home.memory_file)
    journal.close()
    voice.say("ended")


def _go_on(operation: Callable[[Path, Voice], None]) -> Callable[[Path, Voice], None]:
    """Somebody else does it again, and is told less: what it found done may not be, and is done again next time."""

    def later(disk: Path, voice: Voice) -> None:
        operation(disk, Voice(lambda text: voice.say(text.replace("done", "ended"))))
        voice.say("done")

    return later


def _check_recover(disk: Path, said: Said) -> None:
    with _opened(disk) as local:
        units = local.memory.state.units
        assert {name: unit.status for name, unit in units.items()} == {"one": "done", "two": "failed", "three": "done"}
        local.memory.flush()
    home = _home(disk)
    assert b"unit torn [axi" in (home.memory / "2026-11-21.md").read_bytes()
    assert "recovered" not in said.done or any(path.name.endswith("STATE.json") for path in home.trash.iterdir())


# An artifact that the journal knows nothing of.


def _prepare_found(disk: Path) -> None:
    _prepare_broken(disk)
    home = _home(disk)
    (home.artifacts / "three").rename(home.root / "three")
    home.state_file.unlink()


def _act_found(disk: Path, voice: Voice) -> None:
    with voice("moved"):
        durable.move(disk / "axiom" / "three", _home(disk).artifacts / "three")


def _found_later(disk: Path, voice: Voice) -> None:
    with _opened(disk) as local:
        local.memory.flush()
        voice.say("done three" if "three" in local.memory.state.units else "done")


def _check_found(disk: Path, said: Said) -> None:
    assert not {"three", "moved"} & set(said.done) or (_home(disk).artifacts / "three" / "notes.md").exists()
    with _opened(disk) as local:
        assert ("three" in local.memory.state.units) == (_home(disk).artifacts / "three").exists()


LOCAL = [
    Operation("journal, together", _act_together, _check_together, _prepare),
    Operation("step", _act_step, _check_step, _prepare, _step_later, most=8, stride=3),
    Operation("shared", _act_shared, _check_shared, _prepare_shared, _shared_later, most=16),
    Operation("compaction", _act_compact, _check_compact, _prepare_long, _compact_later, most=12),
    Operation("cleaning", _act_clean, _check_clean, _prepare_clutter, _clean_later, most=12, stride=2),
    Operation("recover", _act_recover, _check_recover, _prepare_broken, _go_on(_act_recover), most=12, stride=2),
    Operation("found", _act_found, _check_found, _prepare_found, _found_later),
]
