"""What is cut at every I/O step, and what must hold afterwards: what a node does to stay well. See fault.powercut."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from fault.operations import NOON
from fault.operations_local import act_step, home_of, opened, prepare
from fault.powercut import Operation, Said, Voice
from support.audited import Scene
from support.clock import FixedClock

from outlast.config import load_config
from outlast.core.cleaning import Step as Cleaning
from outlast.store import durable
from outlast.store.journal import Journal
from outlast.store.memory import Memory
from outlast.work import ballast
from outlast.work.artifacts import MANIFEST
from outlast.work.audit import audit
from outlast.work.packing import compress

__all__ = ["UPKEEP"]

# A daily file that has become long.

_LIMIT = 1500
_PEOPLE = b"remember the milk\n"


def _prepare_long(disk: Path) -> None:
    prepare(disk)
    memory = Memory(home_of(disk), "axiom", FixedClock(NOON))
    for number in range(40):
        memory.note("unit", f"note {number}")
        if number == 20:
            with open(home_of(disk).memory / "2026-11-21.md", "ab") as file:
                file.write(_PEOPLE)
    memory.close()


def _compact(disk: Path) -> None:
    with opened(disk) as local:
        local.memory.journal.compact(_LIMIT, home_of(disk).memory_file)


def _act_compact(disk: Path, voice: Voice) -> None:
    with voice("compacted"):
        _compact(disk)


def _check_compact(disk: Path, said: Said) -> None:
    home = home_of(disk)
    before = [f"note {number}" for number in range(40)]
    if "compacted" in said.done:
        assert (home.memory / "2026-11-21.md").stat().st_size < _LIMIT and list(home.archive.iterdir())
    for _ in range(2):
        with opened(disk) as local:
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
    prepare(disk)
    home = home_of(disk)
    _logs(disk).mkdir()
    (_logs(disk) / "2026-10-01.jsonl").write_bytes(b'{"event":"old"}\n' * 200)
    (home.artifacts / "old").mkdir()
    (home.artifacts / "old" / "result.md").write_bytes(b"result\n" * 200)
    (home.trash / "gone").mkdir()
    (home.trash / "gone" / "file").write_bytes(b"nobody misses it")


def _act_clean(disk: Path, voice: Voice) -> None:
    with opened(disk) as local:
        with voice("log"):
            compress(_logs(disk) / "2026-10-01.jsonl", lambda: None)
        for kind, name in (("artifact", "old"), ("trash", "gone")):
            with voice(kind):
                asyncio.run(local.cleaner._do(Cleaning(kind, name, 0, "it is old")))  # type: ignore[arg-type]
        with voice("ballast"):
            ballast.set_by(home_of(disk), 20_000)


def _clean_later(disk: Path, voice: Voice) -> None:
    """What was seen as packed already is not packed again, and the rest goes."""
    log = _logs(disk) / "2026-10-01.jsonl"
    if log.exists():
        with voice("log"):
            compress(log, lambda: None)
    with opened(disk) as local:
        local.cleaner._finish_earlier()
    voice.say("done nothing")


def _check_clean(disk: Path, said: Said) -> None:
    home, log = home_of(disk), _logs(disk) / "2026-10-01.jsonl"
    packed = log.with_name(f"{log.name}.gz")
    whole = b'{"event":"old"}\n' * 200
    held = [gzip.decompress(packed.read_bytes()) if packed.exists() else b"", log.read_bytes() if log.exists() else b""]
    assert whole in held and set(held) <= {b"", whole}, [len(one) for one in held]
    assert "log" not in said.done or not log.exists()
    with opened(disk) as local:
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
    prepare(disk)
    act_step(disk, Voice(lambda _: None))
    home = home_of(disk)
    data = home.state_file.read_bytes()
    home.state_file.write_bytes(data[: len(data) // 2])
    shutil.copytree(home.artifacts / "one", home.artifacts / "three")
    manifest = (home.artifacts / "three" / MANIFEST).read_bytes().replace(b'"one"', b'"three"')
    (home.artifacts / "three" / MANIFEST).write_bytes(manifest)
    with open(home.memory / "2026-11-21.md", "ab") as file:
        file.write(b"- 12:00:00 NOTE unit torn [axi")


def _act_recover(disk: Path, voice: Voice) -> None:
    with voice("recovered"), opened(disk) as local:
        local.memory.flush()


def _compact_later(disk: Path, voice: Voice) -> None:
    """By whoever has but the journal: it rests on nothing that the start of a node brings to the disk."""
    home = home_of(disk)
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
    with opened(disk) as local:
        units = local.memory.state.units
        assert {name: unit.status for name, unit in units.items()} == {"one": "done", "two": "failed", "three": "done"}
        local.memory.flush()
    home = home_of(disk)
    assert b"unit torn [axi" in (home.memory / "2026-11-21.md").read_bytes()
    assert "recovered" not in said.done or any(path.name.endswith("STATE.json") for path in home.trash.iterdir())


# An artifact that the journal knows nothing of.


def _prepare_found(disk: Path) -> None:
    _prepare_broken(disk)
    home = home_of(disk)
    (home.artifacts / "three").rename(home.root / "three")
    home.state_file.unlink()


def _act_found(disk: Path, voice: Voice) -> None:
    with voice("moved"):
        durable.move(disk / "axiom" / "three", home_of(disk).artifacts / "three")


def _found_later(disk: Path, voice: Voice) -> None:
    with opened(disk) as local:
        local.memory.flush()
        voice.say("done three" if "three" in local.memory.state.units else "done")


def _check_found(disk: Path, said: Said) -> None:
    assert not {"three", "moved"} & set(said.done) or (home_of(disk).artifacts / "three" / "notes.md").exists()
    with opened(disk) as local:
        assert ("three" in local.memory.state.units) == (home_of(disk).artifacts / "three").exists()


# The report of an audit.


def _prepare_record(disk: Path) -> None:
    scene = Scene(disk, NOON)
    for number in range(3):
        scene.task(f"coz-d1zjstvszx0{number}", NOON - 60 + number)
    scene.ledger.close()


def _act_audit(disk: Path, voice: Voice) -> None:
    home = home_of(disk)
    with voice("report"):
        audit(home, load_config(home.config), "coz", NOON, since=NOON - 3600, until=None, key="")


def _check_audit(disk: Path, said: Said) -> None:
    folder = home_of(disk).audits
    reports = [path.read_text() for path in folder.glob("*.md")] if folder.exists() else []
    assert all(text.startswith("# Audit of coz") and "coz-d1zjstvszx02" in text for text in reports)
    assert reports or "report" not in said.done


UPKEEP = [
    Operation("compaction", _act_compact, _check_compact, _prepare_long, _compact_later, most=12),
    Operation("cleaning", _act_clean, _check_clean, _prepare_clutter, _clean_later, most=12, stride=2),
    Operation("recover", _act_recover, _check_recover, _prepare_broken, _go_on(_act_recover), most=12, stride=2),
    Operation("audit", _act_audit, _check_audit, _prepare_record),
    Operation("found", _act_found, _check_found, _prepare_found, _found_later),
]
