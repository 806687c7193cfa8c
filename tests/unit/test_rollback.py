"""Changes on trial: whatever happens between two steps, what was before is back, unless somebody said in time that it stays."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live import until

from plugins.module_utils import rollback

PROGRAM = """
import sys
from plugins.module_utils import rollback
rollback.Trial(*sys.argv[1:3]).watch()
"""


class Machine:
    """A directory that plays the machine: two files, a program that reads them, and who watches."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trial = rollback.Trial(str(root / "base"), str(root / "run"))
        self.old, self.fresh, self.live = root / "etc/old.conf", root / "etc/fresh.conf", root / "live"
        self.old.parent.mkdir()
        self.old.write_text("before\n")
        self.old.chmod(0o644)
        self.load()
        self.watcher: subprocess.Popen[bytes] | None = None

    @property
    def reload(self) -> list[list[str]]:
        """What makes the running state agree with the files."""
        return [["/bin/sh", "-c", f"cat {self.root}/etc/*.conf > {self.live}"]]

    def load(self) -> None:
        """Do that."""
        subprocess.run(self.reload[0], check=True)

    def watch(self) -> None:
        """Have somebody watch."""
        command = [sys.executable, "-c", PROGRAM, self.trial.base, self.trial.run]
        self.watcher = subprocess.Popen(command, cwd=Path(__file__).parents[2])

    def stop(self, *, reboot: bool) -> None:
        """Kill who watches; a restart of the machine also empties the folder of the mark."""
        if self.watcher:
            self.watcher.kill()
            self.watcher.wait()
        if reboot:
            shutil.rmtree(self.trial.run, ignore_errors=True)

    def begin(self, limit_s: float) -> str:
        """Change one file and make another, on trial."""
        changes = [rollback.Change(str(self.old), b"after\n", 0o600), rollback.Change(str(self.fresh), b"new\n", 0o600)]
        return self.trial.begin(changes, self.reload, limit_s, str(self.root / "trash"))

    def is_before(self) -> bool:
        """Whether all is as it was, files and what runs."""
        mode = self.old.stat().st_mode & 0o777
        files = (self.old.read_text(), mode, self.fresh.exists()) == ("before\n", 0o644, False)
        return files and self.live.read_text() == "before\n" and not self.trial.pending()

    def is_after(self) -> bool:
        """Whether all is changed, files and what runs."""
        return self.fresh.exists() and self.live.read_text() == "new\nafter\n"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine on which nothing has happened yet."""
    made = Machine(tmp_path)
    yield made
    made.stop(reboot=False)


def test_what_is_kept_in_time_stays(machine: Machine) -> None:
    """With its token a trial ends well, and what was overwritten lies in the trash."""
    machine.watch()
    token = machine.begin(60)
    assert machine.is_after()
    assert machine.trial.keep(token)
    assert machine.is_after() and not machine.trial.pending()
    (kept,) = (machine.root / "trash").iterdir()
    assert kept.read_text() == "before\n" and kept.stat().st_mode & 0o777 == 0o600


def test_time_that_is_up_takes_it_back(machine: Machine) -> None:
    """Without a word, what was before comes back with its modes, and a word that comes too late changes nothing."""
    machine.watch()
    token = machine.begin(1)
    until(machine.is_before, what="what was before")
    assert not machine.trial.keep(token)
    assert machine.is_before()


def test_a_restart_of_the_machine_takes_it_back(machine: Machine) -> None:
    """After a start of the machine during a trial, what was before is back at once, long before the deadline."""
    machine.watch()
    token = machine.begin(3600)
    machine.stop(reboot=True)
    assert not machine.trial.keep(token)
    machine.watch()
    until(machine.is_before, what="what was before")


def test_a_watcher_that_died_is_replaced_in_the_middle(machine: Machine) -> None:
    """Who watches may die: the next one goes on with the same deadline."""
    machine.watch()
    token = machine.begin(3)
    machine.stop(reboot=False)
    machine.watch()
    until(machine.is_before, what="what was before")
    assert not machine.trial.keep(token)


def test_nothing_is_changed_while_nobody_watches(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the roll-back does not run there is no trial either."""
    monkeypatch.setattr(rollback, "WATCH_WITHIN_S", 0.2)
    with pytest.raises(rollback.TrialTrouble, match=r"^roll-back: nobody keeps watch.*; mend: "):
        machine.begin(60)
    assert machine.is_before()


def test_what_cannot_be_loaded_is_taken_back_at_once(machine: Machine) -> None:
    """A command that fails ends the trial, with its last line."""
    machine.watch()
    change = [rollback.Change(str(machine.fresh), b"new\n")]
    refuse = ["/bin/sh", "-c", f"[ ! -e {machine.fresh} ] || {{ echo syntax error >&2; exit 1; }}"]
    with pytest.raises(rollback.TrialTrouble, match="syntax error; nothing was changed"):
        machine.trial.begin(change, [*machine.reload, refuse], 60, str(machine.root / "trash"))
    assert machine.is_before()


def test_a_full_disk_does_not_keep_it_from_being_taken_back(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was before comes back without a byte being written, also where that was cut off and is tried again."""
    machine.watch()
    machine.begin(3600)
    machine.stop(reboot=False)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as cut_off:
        cut_off.setattr(rollback.Trial, "_reload", full)
        with pytest.raises(OSError):
            machine.trial.undo()
    really = rollback.put
    monkeypatch.setattr(rollback, "put", lambda path, content, *rest: full() if content else really(path, None, 0))
    machine.trial.undo()
    assert machine.is_before()
    assert sorted(path.name for path in machine.old.parent.iterdir()) == ["old.conf"]


def test_a_second_trial_starts_from_what_was_before_the_first(machine: Machine) -> None:
    """What an interrupted run left on trial is taken back before anything else, and its token is worth nothing."""
    machine.watch()
    first = machine.begin(60)
    second = machine.begin(60)
    assert not machine.trial.keep(first)
    assert machine.is_after()
    assert machine.trial.keep(second)
    (kept,) = (machine.root / "trash").iterdir()
    assert kept.read_text() == "before\n"


def test_a_crash_at_any_moment_leaves_it_as_before(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write, rename or command is the last one to happen, what was before is back once somebody watches again."""

    class Crash(BaseException):
        """The power goes."""

    steps = {"rename": os.rename, "mkdir": os.mkdir, "fsync": os.fsync, "unlink": os.unlink}
    threads: list[threading.Thread] = []

    def acknowledge() -> None:
        until(lambda: machine.trial.pending() or crashed, what="a trial or a crash")
        if not crashed:
            rollback.put(machine.trial.watched, machine.trial.pending().encode(), 0o600)

    for last in range(1000):
        crashed: list[str] = []
        left = [last]

        def counted(name: str, crashed: list[str] = crashed, left: list[int] = left) -> object:
            def step(*words: object, **named: object) -> object:
                if threading.current_thread() is threading.main_thread():
                    if left[0] == 0:
                        crashed.append(name)
                        raise Crash
                    left[0] -= 1
                return steps[name](*words, **named)  # type: ignore[operator]

            return step

        with monkeypatch.context() as patched:
            for name in steps:
                patched.setattr(rollback.os, name, counted(name))
            threads.append(threading.Thread(target=acknowledge))
            threads[-1].start()
            try:
                machine.begin(3600)
            except Crash:
                pass
            threads[-1].join()
        whole = not crashed
        machine.stop(reboot=True)
        machine.trial.undo()
        assert machine.is_before(), (last, crashed)
        if whole:
            assert last > 10
            return
    pytest.fail("a trial takes too many steps")
