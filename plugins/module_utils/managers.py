"""What the backends of the real service managers (systemd, launchd) have in common.

Keeps: standard library only; a backend is a class `Manager(Backend)` in a module of its own; each of its orders raises
ManagerTrouble with one line that says field, wrong and mend. What a manager is asked is data (questions) and so is what it
answers (understand), so that an action can ask by one plain command and a module can ask for itself; what follows from
that is decided by plan(), for both. Leaves to others: the commands (systemd.py, launchd.py), asking (look_unit.py), doing
it (plugins/modules/unit.py).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 120.0


class ManagerTrouble(Exception):
    """What the service manager did not do, in one line: field: wrong; mend: what to do."""


@dataclass(frozen=True)
class Seen:
    """What the service manager knows of one service.

    loaded: it knows the definition; enabled: at work (or waiting for its time) again after a start of the machine;
    running: the program runs now; with a schedule: its next run is provided for; pid: of the program, 0 without one;
    failed: the manager gave it up, or its last run failed; stale: the definition on disk is another than the loaded one.
    """

    loaded: bool = False
    enabled: bool = False
    running: bool = False
    pid: int = 0
    failed: bool = False
    stale: bool = False


# Exit code and standard output of one question.
Answer = tuple[int, str]


class Backend:
    """One service under one manager; `schedule` as in the role service ("" keeps running, "boot", "5m", "04:30")."""

    def __init__(self, name: str, schedule: str = "") -> None:
        self.name = name
        self.schedule = schedule

    def questions(self) -> list[list[str]]:
        """The commands that tell all of Seen; they change nothing."""
        raise NotImplementedError

    def understand(self, answers: Sequence[Answer]) -> Seen:
        """What the answers to the questions, in their order, say."""
        raise NotImplementedError

    def seen(self) -> Seen:
        """Ask now; raises ManagerTrouble."""
        return self.understand([ask(question) for question in self.questions()])

    @classmethod
    def known(cls) -> list[str]:
        """The names of all of Outlast's services that have a definition on this machine."""
        raise NotImplementedError

    def definition_paths(self) -> list[str]:
        """The files that define the service, whatever its schedule, whether they are there or not."""
        raise NotImplementedError

    def load(self) -> None:
        """Make the definition on disk the known one, also where an older one is known, and have it at work after a boot."""
        raise NotImplementedError

    def start(self) -> None:
        """Have it run (or wait for its time); nothing where it does."""
        raise NotImplementedError

    def stop(self) -> None:
        """Have it not run, and wait until it does not; nothing where it does not."""
        raise NotImplementedError

    def restart(self) -> None:
        """End it, if it runs, and have it run with the loaded definition."""
        raise NotImplementedError

    def forget(self) -> None:
        """Stop, unload and disable it; its files are removed by others. Nothing where it is not known."""
        raise NotImplementedError

    def rearm(self) -> None:
        """Make it startable again after the manager gave it up."""
        raise NotImplementedError

    def last_words(self) -> str:
        """The last line of its journal or error log, the message alone; empty without one. Raises nothing."""
        raise NotImplementedError

    def where_to_look(self) -> str:
        """The command or file that shows more of its journal or error log."""
        raise NotImplementedError


def question(values: Mapping[str, Any], backend: Backend) -> dict[str, Any]:
    """What look_unit is asked about a service; values are the arguments of the module unit."""
    asked: dict[str, Any] = {name: values.get(name) or "" for name in ("home", "loaded", "ready_url")}
    return {**asked, "questions": backend.questions(), "definitions": backend.definition_paths()}


def todo(values: Mapping[str, Any], backend: Backend, told: Mapping[str, Any]) -> list[str]:
    """The orders that follow from what look_unit tells, see plan()."""
    seen = backend.understand(told["answers"])
    # Where the one that wrote what it read is not the one that runs, the manager keeps another alive.
    another = bool(values.get("loaded") and seen.pid and told["pid"] != seen.pid)
    return plan(
        values.get("state", "started"),
        seen,
        changed=bool(values.get("definition_changed")),
        outdated=another or bool(told["outdated"]),
    )


def plan(state: str, seen: Seen, *, changed: bool, outdated: bool) -> list[str]:
    """The orders that bring about a state (started, stopped, absent), as names of Backend's methods; none when it is so.

    changed: its definition on disk was just written anew; outdated: it runs with something else than what lies there now.
    """
    if state == "stopped":
        return ["stop"] if seen.running else []
    if state == "absent":
        return ["forget"] if seen.loaded or seen.enabled or seen.running or seen.failed else []
    changed = changed or seen.stale
    steps = ["load"] if changed or not (seen.loaded and seen.enabled) else []
    if seen.failed and (changed or not seen.running):
        steps.append("rearm")
    if not seen.running:
        return [*steps, "start"]
    return [*steps, "restart"] if changed or outdated else steps


def ask(argv: Sequence[str], patience_s: float = PATIENCE_S) -> Answer:
    """Run a command of the manager's and return code and output, whatever they are; raises ManagerTrouble without one."""
    code, output, _ = _run(argv, patience_s)
    return code, output


def order(argv: Sequence[str], field: str, mend: str, good: Sequence[int] = (0,)) -> str:
    """Run a command of the manager's and return its output; raises ManagerTrouble with its last line unless it went well."""
    code, output, errors = _run(argv, PATIENCE_S)
    if code not in good:
        said = (errors.strip() or output.strip()).splitlines()
        raise ManagerTrouble(f"{field}: {said[-1] if said else f'{argv[0]} ended with {code}'}; mend: {mend}")
    return output


def _run(argv: Sequence[str], patience_s: float) -> tuple[int, str, str]:
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
            check=False,
            timeout=patience_s,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ManagerTrouble(f"{argv[0]}: {error}; mend: run the same command again") from error
    return done.returncode, done.stdout, done.stderr
