"""No fsync is there for nothing: taking any single one out of the code loses something that was acknowledged.

The call sites are found in the source, so that a new one is covered by itself: some operation of ``fault.operations`` must
reach it, and must break without it. Each is switched off where it stands, by the lines of the call on the stack.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from fault.powercut import Broken, Operation, Voice, after_every_failure, after_every_kill, every_cut, recorded
from fault.test_power_cut import OPERATIONS, disks, room
from support.disk import Settled
from support.forgetful import Forgetful

import outlast

__all__ = ["disks", "room"]

_SOURCE = Path(outlast.__file__).parent
_SYNC = re.compile(r"f(data)?sync(_\w+)?")
_UNSEEN = {
    "health.py:_broken: durable.fsync_dir(home.workspace)": "it asks whether the file system still answers, and keeps nothing"
}
"""Sites whose absence no power cut of this model can show, each with the reason why it stays."""


@dataclass(frozen=True)
class Site:
    """One call that brings something to the disk: ``name`` says where, and lasts longer than its lines."""

    name: str
    file: str
    lines: range


@cache
def _sites() -> list[Site]:
    found: list[Site] = []
    for path in sorted(_SOURCE.rglob("*.py")):
        text = path.read_text()
        if _SYNC.search(text):
            _Finder(path, found).visit(ast.parse(text))
    return found


class _Finder(ast.NodeVisitor):
    def __init__(self, path: Path, found: list[Site]) -> None:
        self._path, self._found, self._within = path, found, [str(path.relative_to(_SOURCE))]

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        self._within.append(node.name)
        self.generic_visit(node)
        self._within.pop()

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef

    def visit_Call(self, node: ast.Call) -> None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if _SYNC.fullmatch(called):
            name = f"{':'.join(self._within)}: {ast.unparse(node)}"
            again = sum(site.name.startswith(name) for site in self._found)
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            self._found.append(Site(f"{name} (again)" if again else name, str(self._path), lines))
        self.generic_visit(node)


@contextmanager
def _watched(swallow: Callable[[frozenset[tuple[str, int]]], bool]) -> Iterator[None]:
    """Ask ``swallow(stack)`` at each fsync and fdatasync, as pairs of file and line, whether it is left out."""
    kept = {name: getattr(os, name) for name in ("fsync", "fdatasync") if hasattr(os, name)}

    def watching(real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(fd: int) -> None:
            frame, stack = sys._getframe(1), set()
            while frame is not None:
                stack.add((frame.f_code.co_filename, frame.f_lineno))
                frame = frame.f_back  # type: ignore[assignment]
            if not swallow(frozenset(stack)):
                real(fd)

        return sync

    for name, real in kept.items():
        setattr(os, name, watching(real))
    try:
        yield
    finally:
        for name, real in kept.items():
            setattr(os, name, real)


def _through(site: Site, stack: frozenset[tuple[str, int]]) -> bool:
    return any((site.file, line) in stack for line in site.lines)


@pytest.fixture(scope="module")
def reached(disks: Forgetful) -> dict[str, list[int]]:
    """Which operations, by their places in the table, come by which site."""
    found: dict[str, list[int]] = {site.name: [] for site in _sites()}
    for number, operation in enumerate(OPERATIONS):
        stacks: set[frozenset[tuple[str, int]]] = set()

        def seen(stack: frozenset[tuple[str, int]], stacks: set[frozenset[tuple[str, int]]] = stacks) -> bool:
            stacks.add(stack)
            return False

        with _watched(seen):
            source = recorded(disks, operation)
            if operation.later:
                # What a start finds that was left by one that was killed.
                log = disks.taken(source).log
                for after in range(log.index(Settled()) + 1, len(log), max(1, len(log) // 16)):
                    operation.later(disks.killed(source, after), Voice(lambda _: None))
        for site in _sites():
            if any(_through(site, stack) for stack in stacks):
                found[site.name].append(number)
    return found


@pytest.mark.parametrize("site", [site for site in _sites() if site.name not in _UNSEEN], ids=lambda site: site.name)
def test_without_any_single_fsync_something_is_lost(
    disks: Forgetful, room: Path, reached: dict[str, list[int]], site: Site
) -> None:
    """With this one call left out there is a power cut after which a promise is broken."""
    assert reached[site.name], "no operation comes by here: put one into the table of fault.operations"
    operations = [OPERATIONS[number] for number in reached[site.name]]
    # The cheapest first: what is lost mostly shows as soon as something was acknowledged.
    tries: list[Callable[[Operation], object]] = [
        lambda operation: every_cut(operation, disks.taken(recorded(disks, operation)), room, told=True),
        lambda operation: operation.later and after_every_kill(disks, operation, room),
        lambda operation: after_every_failure(disks, operation, room),
        lambda operation: every_cut(operation, disks.taken(recorded(disks, operation)), room),
    ]
    with _watched(lambda stack: _through(site, stack)):
        for attempt in tries:
            for operation in operations:
                try:
                    attempt(operation)
                except Broken:
                    return
    names = ", ".join(operation.name for operation in operations)
    pytest.fail(f"nothing is lost without it, in {names}: is it needed?", pytrace=False)


def test_what_is_said_to_be_unseen_is_there() -> None:
    """The list of what cannot be shown names only calls that exist."""
    assert set(_UNSEEN) <= {site.name for site in _sites()}
