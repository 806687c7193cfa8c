"""Power cuts: an operation is done once on a disk that forgets, and looked at after every cut that may have befallen it.

Rules kept here: the operation says what it begins and what it was told is done, in the one order of all that happens;
after each cut the tree is laid out anew, and looked at twice by fresh objects: what was acknowledged is there, nothing is
that was not begun, and the second look finds what the first one left.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.cuts import Cut, cuts, lay_out
from support.disk import Disk, Failed, Mark, Named, Sized, Written
from support.forgetful import Forgetful

from outlast.errors import OutlastError

__all__ = [
    "Broken",
    "Operation",
    "Said",
    "Voice",
    "after_every_failure",
    "after_every_kill",
    "every_cut",
    "recorded",
    "snapshot",
]

Say = Callable[[str], None]


class Broken(AssertionError):
    """After a cut, a promise does not hold."""


@dataclass(frozen=True)
class Said:
    """What was said before the cut: ``begun`` may be there, ``done`` must be."""

    begun: tuple[str, ...]
    done: tuple[str, ...]

    @classmethod
    def before(cls, cut: Cut) -> Said:
        """The words before a cut."""
        words = [word.partition(" ") for word in cut.said]
        return cls(
            tuple(what for kind, _, what in words if kind == "begin"),
            tuple(what for kind, _, what in words if kind == "done"),
        )


class Voice:
    """How an operation says what it does: ``with voice("x"):`` begins x, and acknowledges it where nothing was raised.

    What the disk did not take is not acknowledged; ``failed`` says so of the last, and the operation may go on.
    """

    def __init__(self, say: Say) -> None:
        self.say = say
        self.failed = False

    @contextmanager
    def __call__(self, *what: str) -> Iterator[None]:
        for word in what:
            self.say(f"begin {word}")
        self.failed = True
        with contextlib.suppress(OutlastError, OSError):
            yield
            self.failed = False
            for word in what:
                self.say(f"done {word}")


@dataclass(frozen=True)
class Operation:
    """``prepare`` leaves what is on the disk before, ``act`` does it, ``check`` raises where a promise does not hold.

    ``check`` is called twice on the same folder. ``later`` is what a process does that starts after the first was killed.
    ``most``: see ``support.cuts.cuts``; ``stride``: it is killed at each so many-th step only.
    """

    name: str
    act: Callable[[Path, Voice], None]
    check: Callable[[Path, Said], None]
    prepare: Callable[[Path], None] = lambda _: None
    later: Callable[[Path, Voice], None] | None = None
    most: int = 48
    stride: int = 1

    def __str__(self) -> str:
        return self.name


def recorded(disks: Forgetful, operation: Operation, *, fail: int = 0) -> Path:
    """Do it, on a disk of its own; the ``fail``-th fsync fails."""
    disk = disks.fresh()
    operation.prepare(disk)
    disks.settle(disk)
    disks.fail(disk, fail)
    with contextlib.suppress(*[OutlastError, OSError] * bool(fail)):
        operation.act(disk, Voice(lambda text: disks.mark(disk, text)))
    return disk


def after_every_failure(disks: Forgetful, operation: Operation, room: Path) -> int:
    """Let each fsync fail once, and the power go whenever something was acknowledged, or at the end.

    How many cuts there were. Raises Broken.
    """
    count, nth = 0, 0
    while True:
        nth += 1
        path = recorded(disks, operation, fail=nth)
        disks.mark(path, "over")
        disk = disks.taken(path)
        if not any(isinstance(op, Failed) for op in disk.log):
            return count
        count += every_cut(operation, disk, room, told=True)


def after_every_kill(disks: Forgetful, operation: Operation, room: Path) -> int:
    """Kill it at each of its steps, let a fresh process do ``later`` on the same disk, and then let the power go.

    How many cuts there were. Raises Broken.
    """
    assert operation.later is not None
    source = recorded(disks, operation)
    log = disks.taken(source).log
    count = 0
    begun = next(number for number, op in enumerate(log) if isinstance(op, Mark))
    # Where something is volatile: an fsync leaves less of it than there was before.
    steps = [number + 1 for number, op in enumerate(log) if number > begun and isinstance(op, Named | Written | Sized)]
    for number in steps[:: operation.stride]:
        again = disks.killed(source, number)
        operation.later(again, Voice(lambda text, again=again: disks.mark(again, text)))
        count += every_cut(operation, disks.taken(again), room, since=number, told=True)
    return count


def every_cut(operation: Operation, disk: Disk, room: Path, *, since: int = 0, told: bool = False) -> int:
    """Look at what each cut leaves; how many there were. Raises Broken for the first that breaks a promise."""
    count = 0
    for count, cut in enumerate(cuts(disk, since=since, told=told, most=operation.most, scratch=("-shm",)), 1):
        folder = room / f"cut{count}"
        lay_out(cut.tree, folder)
        try:
            operation.check(folder, Said.before(cut))
            first = snapshot(folder)
            operation.check(folder, Said.before(cut))
            second = snapshot(folder)
            changed = sorted(path for path in first.keys() | second.keys() if first.get(path) != second.get(path))
            assert not changed, f"a second look changed {', '.join(changed)}"
        except Exception as error:
            last = cut.said[-1] if cut.said else "nothing"
            raise Broken(
                f"{operation}: cut after operation {cut.op} ({_told(disk, cut.op)}), after saying {last!r}; lost: "
                f"{cut.lost or 'no name'}; there was {sorted(cut.tree)}: {type(error).__name__}: {error}"
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return count


def _told(disk: Disk, number: int) -> str:
    return repr(disk.log[number])[:160]


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """What is in a folder: relative path to content; None for a folder. What only bears on locks or speed is left out."""
    found: dict[str, bytes | None] = {}
    for path in folder.rglob("*"):
        if not path.name.endswith(("-shm", "-wal", ".db")) and path.name != "days.json":
            found[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else None
    return found
