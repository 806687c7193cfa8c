"""The five steps for agents and scripts, through the orders: once each, whatever is asked again, whenever it is cut off."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.artifacts import make_home
from support.clock import FixedClock

from outlast.clock import SystemClock
from outlast.config import load_config
from outlast.control import carry_out
from outlast.core.ids import valid_unit
from outlast.core.promises import RESERVED, check_names, check_unit
from outlast.errors import BadInput, DurabilityError
from outlast.home import Home
from outlast.store.events import EventLog
from outlast.store.memory import Memory
from outlast.work.staging import at_work, busy, stage
from outlast.work.steps import Steps


class Desk:
    """A node's memory and its steps, as a start leaves them."""

    def __init__(self, home: Home) -> None:
        for folder in (home.workspace, home.artifacts, home.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.home, clock = home, FixedClock(1_000_000.0)
        self.memory = Memory(home, "coz", clock)
        self.memory.check()
        self.steps = Steps(
            home, load_config(home.config), self.memory, EventLog(home.logs, "coz", clock), SystemClock()
        )
        self.found = self.steps.recover()

    def order(self, name: str, **fields: Any) -> Any:
        return asyncio.run(carry_out(self.steps.orders(), f"step/{name}", msgspec.json.encode(fields)))

    def begin(self, unit: str = "8", *names: str) -> Any:
        return self.order("begin", unit=unit, artifacts=list(names or ("notes.md",)), what="study")

    def act(self, unit: str = "8", name: str = "notes.md", data: bytes = b"text\n") -> Any:
        source = self.home.root / "source"
        source.write_bytes(data)
        folder = self.home.steps / unit
        with at_work(folder, alone=False), open(source, "rb") as stream:
            staged = stage(folder, stream, 1 << 20)
            try:
                return self.order("act", unit=unit, artifact=name, staged=staged)
            finally:
                (folder / staged).unlink(missing_ok=True)

    def commit(self, unit: str = "8") -> Any:
        return self.order("commit", unit=unit)

    def said(self, unit: str = "8") -> list[str]:
        """The steps that the journal has of a unit, in order."""
        lines = "".join(path.read_text() for path in sorted(self.home.memory.glob("*.md"))).splitlines()
        return [line.split(" ")[2] + ":" + line.split(" ")[4].rstrip(":") for line in lines if f" {unit} " in line]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(make_home(tmp_path, "coz"))


def test_five_steps(desk: Desk) -> None:
    """Begin, act, commit: INTENT first, the artifact whole and with its manifest, STATE.json and CONFIRM last; nothing is left."""
    assert desk.begin("8", "notes.md", "plots/fig.png")["missing"] == ["notes.md", "plots/fig.png"]
    assert desk.said() == ["INTENT:makes"]
    assert desk.act() == {
        "unit": "8", "status": "open", "changed": True, "published": False, "artifacts": ["notes.md", "plots/fig.png"],
        "missing": ["plots/fig.png"], "detail": "",
    }  # fmt: skip
    assert not (desk.home.artifacts / "8").exists()
    assert desk.act(name="plots/fig.png", data=b"png")["published"]
    assert desk.said() == ["INTENT:makes"] and desk.memory.state.units["8"].status == "open"
    assert desk.commit()["detail"] == "notes.md, plots/fig.png"
    assert desk.said() == ["INTENT:makes", "CONFIRM:done"]
    artifact = desk.home.artifacts / "8"
    assert sorted(path.name for path in artifact.rglob("*") if path.is_file()) == [
        ".outlast.json",
        "fig.png",
        "notes.md",
    ]
    manifest = msgspec.json.decode((artifact / ".outlast.json").read_bytes())
    assert (manifest["from"], manifest["kind"], manifest["makes"]) == ("coz", "step", ["notes.md", "plots/fig.png"])
    assert os.listdir(desk.home.steps) == []
    again = Desk(desk.home)
    assert again.memory.state.units["8"].confirmed and again.memory.check() == [] == again.found


def test_again_is_fine(desk: Desk) -> None:
    """Each step may be asked for twice: it is done once, and the answer says that nothing changed."""
    assert [desk.begin()["changed"] for _ in range(2)] == [True, False]
    assert [desk.act()["changed"] for _ in range(2)] == [True, False]
    assert [desk.commit()["changed"] for _ in range(2)] == [True, False]
    assert desk.act()["status"] == desk.begin()["status"] == "done"
    assert desk.said() == ["INTENT:makes", "CONFIRM:done"]


def test_the_wrong_order_is_one_clear_error(desk: Desk) -> None:
    """What cannot be done now says what is wrong and what to type instead."""
    with pytest.raises(BadInput, match="8 is not begun; outlast step begin --unit 8"):
        desk.commit()
    with pytest.raises(BadInput, match="8 is not begun"):
        desk.act()
    desk.begin()
    with pytest.raises(
        BadInput, match="8 is not acted yet: notes.md missing; outlast step act --unit 8 --artifact notes.md"
    ):
        desk.commit()
    with pytest.raises(BadInput, match="8 was to make notes.md; keep to that, or abandon it first"):
        desk.begin("8", "other.md")
    with pytest.raises(BadInput, match="8 makes notes.md, not other.md"):
        desk.act(name="other.md")
    desk.act()
    assert [desk.act(data=data)["same"] for data in (b"text\n", b"other\n")] == [True, False]
    assert (desk.home.artifacts / "8" / "notes.md").read_bytes() == b"text\n"
    with pytest.raises(BadInput, match="published already; outlast step commit --unit 8"):
        desk.order("abandon", unit="8", reason="no")
    desk.commit()
    with pytest.raises(BadInput, match="8 is done"):
        desk.order("abandon", unit="8", reason="no")
    with pytest.raises(BadInput, match="8 made notes.md; choose another name"):
        desk.begin("8", "other.md")
    (desk.home.artifacts / "9").mkdir()
    with pytest.raises(BadInput, match="artifacts/9 is there, and no step's"):
        desk.begin("9")


def test_abandoned_units_may_be_begun_again(desk: Desk) -> None:
    """Abandoning keeps what was staged in the trash and closes the unit; twice is fine; begun again it makes something else."""
    desk.begin("8", "a", "b")
    desk.act(name="a", data=b"kept")
    assert desk.order("abandon", unit="8", reason="no time")["changed"]
    assert not desk.order("abandon", unit="8", reason="no time")["changed"]
    assert [path.read_bytes() for path in desk.home.trash.rglob("a")] == [b"kept"]
    with pytest.raises(BadInput, match="8 is failed: no time; begin it again"):
        desk.act(name="a")
    assert Desk(desk.home).memory.state.units["8"].status == "failed"
    desk.begin("8", "c")
    desk.act(name="c")
    assert desk.commit()["status"] == "done"
    assert desk.said() == ["INTENT:makes", "CONFIRM:failed", "INTENT:makes", "CONFIRM:done"]


def test_what_is_not_what_was_made_is_not_done(desk: Desk) -> None:
    """VERIFY reads every file back: a published file that was changed closes the unit as failed, the artifact is set aside."""
    desk.begin()
    desk.act()
    (desk.home.artifacts / "8" / "notes.md").write_text("else")
    found = desk.commit()
    assert found["status"] == "failed" and "notes.md has other content" in found["detail"]
    assert not (desk.home.artifacts / "8").exists() and len(list(desk.home.trash.iterdir())) == 1
    desk.begin()
    desk.act()
    assert desk.commit()["status"] == "done"


def test_only_plain_files_are_published(desk: Desk) -> None:
    """The rules of an agent's artifact: a link in it refuses the whole; an empty file is none; too much is refused at once."""
    desk.begin()
    (desk.home.steps / "8" / "work" / "link").symlink_to("/etc/passwd")
    with pytest.raises(BadInput, match="link is a symbolic link"):
        desk.act()
    (desk.home.steps / "8" / "work" / "link").unlink()
    with pytest.raises(BadInput, match="it is empty"):
        desk.act(data=b"")
    with pytest.raises(BadInput, match="more than 1048576 bytes"):
        desk.act(data=bytes(2 << 20))
    assert sorted(os.listdir(desk.home.steps / "8")) == ["work"]
    assert desk.order("act", unit="8")["published"]


@pytest.mark.parametrize(
    "unit", ["", "-a", "A", "a b", "a/b", "..", "a" * 65, "a\n", "coz-d1zjstvszxm8", *sorted(RESERVED)]
)
def test_units_that_cannot_be(unit: str) -> None:
    """A unit's name is a folder's, stands in a record, and is taken for nothing else."""
    with pytest.raises(BadInput, match="--unit"):
        check_unit(unit)
    assert not valid_unit("8") and check_unit("8") == "8" and check_unit("study-unit-8")


@pytest.mark.parametrize(
    "names",
    [[""], ["/a"], ["../a"], ["a/../b"], ["a//b"], ["./a"], ["a/"], ["a\nb"], ["a, b"], ["a: b"], [" a"], [".outlast.json"],
     [".Outlast.JSON"], ["a", "a/b"], ["é" * 110], ["x" * 60, "y" * 61], [], ["\udcff"]],
)  # fmt: skip
def test_names_that_cannot_be(names: list[str]) -> None:
    """What is promised lies below the artifact, fits into a record, and can be read back out of it."""
    with pytest.raises(BadInput, match="--artifact"):
        check_names(names)
    assert check_names(["a", "b/c.md", "a"]) == ("a", "b/c.md")


def test_one_at_a_time(tmp_path: Path) -> None:
    """Who runs a step has its place alone, a child that inherited it as well; a folder that was removed meanwhile is no place."""
    folder = tmp_path / "8"
    with at_work(folder, alone=True) as place:
        assert busy(folder)
        child = os.dup(place)
        for alone in (True, False):
            with pytest.raises(BadInput, match="8 is being worked on"), at_work(folder, alone=alone):
                pass
    assert not folder.exists()
    with at_work(folder, alone=True):  # a new one: the child holds what is gone
        pass
    os.close(child)
    with at_work(folder, alone=False), at_work(folder, alone=False):
        assert busy(folder)
    assert not busy(folder)
    with at_work(folder, alone=False):
        (folder / "x").touch()
    assert (folder / "x").exists()


def test_many_begin_at_once(desk: Desk) -> None:
    """32 that begin the same unit at the same time make one INTENT; 32 units make 32."""

    async def all_at_once() -> list[Any]:
        orders = desk.steps.orders()
        bodies = [{"unit": unit, "artifacts": ["a"]} for n in range(32) for unit in ("same", f"unit-{n}")]
        return await asyncio.gather(*(carry_out(orders, "step/begin", msgspec.json.encode(body)) for body in bodies))

    found = asyncio.run(all_at_once())
    assert sum(one["changed"] for one in found) == 33
    assert desk.said("same") == ["INTENT:makes"] and len(desk.memory.state.open("step")) == 33


def cut_off(home: Home, moment: int) -> bool:
    """Take all steps in a process that ends before its ``moment``-th call that writes. True if there was such a moment."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0
    left = moment

    def counted(real: Any) -> Any:
        def call(*args: Any, **fields: Any) -> Any:
            nonlocal left
            left -= 1
            return os._exit(9) if left == 0 else real(*args, **fields)

        return call

    try:
        desk = Desk(home)
        for name in ("write", "fsync", "fdatasync", "rename", "mkdir", "rmdir", "unlink"):
            setattr(os, name, counted(getattr(os, name)))
        all_steps(desk)
        os._exit(0)
    finally:
        os._exit(1)


def all_steps(desk: Desk) -> None:
    if desk.begin("8", "a", "d/b")["status"] == "open":
        desk.act(name="a")
        desk.act(name="d/b")
    desk.commit()


def test_a_crash_at_any_moment_is_put_right(tmp_path: Path) -> None:
    """Cut off before any call that writes: the next start tells what is open, nothing is half there, and going on ends done."""
    moment, told = 1, []
    while cut_off(home := make_home(tmp_path / str(moment), "coz"), moment):
        desk = Desk(home)
        told += [finding.found for finding in desk.found]
        artifact, open_units = home.artifacts / "8", desk.memory.state.open("step")
        assert not (artifact.exists() and open_units), moment
        if artifact.exists():
            assert {"a", "d", ".outlast.json"} == set(os.listdir(artifact)), moment
            assert desk.memory.state.units["8"].confirmed, moment
        all_steps(desk)
        records = [record for record in desk.said() if not record.startswith("RECOVER")]
        assert records == ["INTENT:makes", "CONFIRM:done"], moment
        assert os.listdir(home.steps) == [], moment
        moment += 1
    assert moment > 50
    assert set(told) == {"its artifact was published, and STATE.json did not know"} and len(told) > 2


def test_a_full_disk_leaves_the_unit_open(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the disk does not take is said, and can be done again when there is room."""
    desk.begin()

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(DurabilityError, match="No space left"):
            desk.act()
    assert sorted(os.listdir(desk.home.steps / "8")) == ["work"]
    desk.act()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(DurabilityError, match="No space left"):
            desk.commit()
    assert desk.commit()["status"] == "done"


def test_leftovers_are_cleared(desk: Desk) -> None:
    """What lies in var/steps and belongs to no open unit goes to the trash at a start, but not from under who is at work."""
    for unit in ("gone", "held"):
        (desk.home.steps / unit / "work").mkdir(parents=True)
        (desk.home.steps / unit / "work" / "x").write_text("x")
    fd = os.open(desk.home.steps / "held", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    Desk(desk.home)
    os.close(fd)
    assert os.listdir(desk.home.steps) == ["held"]
    assert [path.read_text() for path in desk.home.trash.rglob("x")] == ["x"]
