"""kill -9 at 500 random moments under load: what was acknowledged is counted before, and afterwards it is there, once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from support import writer
from support.artifacts import make_home
from support.live import LiveNode, free_port

_WRITERS, _DAEMONS = 460, 40
_LANES = 2


class Told:
    """What writers began, and what they were told is done."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []

    def hear(self, said: str, counts: int | None = None) -> None:
        """Lines of ``begin WHAT`` and ``done WHAT``; a last one without its end was not said. ``counts``: what was done in the
        lines behind so many characters does not count."""
        at = 0
        for line in said[: said.rfind("\n") + 1].splitlines(keepends=True):
            at += len(line)
            kind, _, what = line.rstrip("\n").partition(" ")
            if kind == "begin":
                self.begun.append(what)
            elif counts is None or at <= counts:
                self.done.append(what)

    def compare(self, words: list[str]) -> None:
        """None lost, none invented, none twice."""
        counted = Counter(words)
        lost = set(self.done) - set(counted)
        invented = set(counted) - set(self.begun)
        twice = [word for word, count in counted.items() if count > 1]
        assert not lost, f"{len(lost)} of {len(self.done)} acknowledged are lost: {sorted(lost)[:5]}"
        assert not invented, f"never begun: {sorted(invented)[:5]}"
        assert not twice, f"there twice: {sorted(twice)[:5]}"


def _rounds(root: Path, rounds: int, told: Told, failures: list[BaseException]) -> None:
    """In one home, so many times: a writer and an agent at once, each killed at a moment of its own."""
    dice, nursery = random.Random(root.parent.name), writer.Nursery()
    try:
        for number in range(rounds):
            said = [root.parent / f"said-{what}{number}" for what in "wa"]
            lives = [
                nursery.fork("write", root, f"w{number}", said[0]),
                nursery.fork("agent", root, f"a{number}", said[1]),
            ]
            for life in dice.sample(lives, 2):
                time.sleep(dice.uniform(0.0, 0.1))  # the moment is what is random here, nothing is waited for
                assert nursery.kill(life), "it ended by itself"
            for path in filter(Path.exists, said):
                told.hear(path.read_text())
    except BaseException as error:  # noqa: BLE001  # it is raised in the test
        failures.append(error)
    finally:
        nursery.close()


@pytest.mark.timeout(200)
def test_writers_that_are_killed_460_times_lose_nothing_acknowledged(tmp_path: Path) -> None:
    """Two homes; in each 230 rounds of a process that notes, groups notes, takes steps, adds facts and compacts, and of an agent
    that writes free text into the same file; both are killed, the next ones go on. All that was acknowledged is there, once."""
    lanes = [(tmp_path / f"lane{number}" / "axiom", Told(), list[BaseException]()) for number in range(_LANES)]
    threads = []
    for root, told, failures in lanes:
        make_home(root.parent, root.name)
        (root / "workspace" / "memory").mkdir()
        threads.append(threading.Thread(target=_rounds, args=(root, _WRITERS // _LANES, told, failures)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for root, told, failures in lanes:
        assert not failures, failures[0]
        told.compare(writer.found(root, [f"w{number}" for number in range(_WRITERS // _LANES)]))
        print(f"{_WRITERS // _LANES} rounds: {len(told.begun)} begun, {len(told.done)} acknowledged")
        assert len(told.done) > 10 * _WRITERS // _LANES, "too little was written for the kills to hit anything"


def _orders(node: LiveNode, unit: str, told: Told) -> None:
    """One unit in three steps, by the command; what it is told."""
    source = node.home.root / f"{unit}.md"
    source.write_text(f"made for {unit}\n")
    steps = {
        f"begin {unit}": ("begin", "--unit", unit, "--artifact", "notes.md"),
        f"act {unit}": ("act", "--unit", unit, "--artifact", "notes.md", "--from", str(source)),
        f"commit {unit}": ("commit", "--unit", unit),
    }
    for word, words in steps.items():
        told.begun.append(word)
        said = node.cli("step", *words)
        assert "Traceback" not in said.stderr, said.stderr
        if said.returncode != 0:
            return
        told.done.append(word)


@pytest.mark.timeout(200)
def test_a_daemon_that_is_killed_40_times_under_the_command_loses_no_step(tmp_path: Path) -> None:
    """`outlast step` begins, acts and commits while its daemon is killed and started again, and works without one meanwhile:
    what the command said is done is done, and no artifact is there that is not."""
    told, dice, over = Told(), random.Random(7), threading.Event()
    node = LiveNode(tmp_path, "axiom", free_port(), {})
    assert node.cli("keys", "init").returncode == 0

    def work() -> None:
        number = 0
        while not over.is_set():
            _orders(node, f"unit-{number}", told)
            number += 1

    workers = [threading.Thread(target=work)]
    try:
        for worker in workers:
            worker.start()
        for _ in range(_DAEMONS):
            node.start(wait=dice.random() < 0.5)
            time.sleep(dice.uniform(0.0, 0.3))  # the moment is what is random here, nothing is waited for
            node.kill()
            time.sleep(dice.uniform(0.0, 0.1))
    finally:
        over.set()
        for worker in workers:
            worker.join()
        node.kill()
    node.start()
    assert node.stop() == 0
    artifacts = {path.name for path in node.home.artifacts.iterdir()}
    committed = {line.split()[3] for line in node.journal().splitlines() if " CONFIRM " in line and " done: " in line}
    begun = {line.split()[3] for line in node.journal().splitlines() if " INTENT " in line}
    assert artifacts == committed
    words = [f"begin {unit}" for unit in begun] + [f"{what} {unit}" for unit in committed for what in ("act", "commit")]
    told.begun += [f"commit {word.removeprefix('act ')}" for word in told.begun if word.startswith("act ")]
    told.compare(words)
    print(f"{_DAEMONS} kills of a daemon: {len(told.done)} acknowledged")
    assert len(told.done) > 20
