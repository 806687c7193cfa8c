"""``outlast step``: every change of state in five steps, for agents and scripts.

Rules kept here: each step may be typed again; with ``run`` the command has its place to itself, gets the signals that we
get, and its exit code is ours; a command that fails leaves a closed unit behind, and one that was killed with us an open
one, which can be run again.

Left to others: the steps themselves (work.steps).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import click

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import tell
from outlast.cli.talk import do
from outlast.clock import SystemClock, stamp
from outlast.core.promises import check_names, check_unit
from outlast.core.record import one_line
from outlast.errors import BadInput
from outlast.home import Home
from outlast.quantity import size
from outlast.store import durable
from outlast.work.staging import at_work, is_made, stage

__all__ = ["step"]

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_unit = click.option("--unit", required=True, metavar="NAME", help="What the work is called: a-z, 0-9 and -.")
_artifacts = click.option("--artifact", "artifacts", multiple=True, metavar="PATH", help="A file that it makes.")
_what = click.option("--what", default="", help="What is done, in a line, for people.")


@click.group()
def step() -> None:
    """Change state in five steps, so that no crash loses or invents any.

    `outlast step run --unit 8 --artifact notes.md -- command` does all five: the intent is in the journal before the command
    runs, and workspace/artifacts/8/ appears whole, or not at all. Scripts that make their files themselves use begin, act
    and commit. Each may be repeated; what was cut off by a crash can be run again.
    """


@step.command()
@_unit
@_artifacts
@_what
@as_json
@click.pass_obj
def begin(where: Where, unit: str, artifacts: tuple[str, ...], what: str, as_json: bool) -> int:
    """Say what will be made (INTENT)."""
    home = where.home
    with _place(home, unit, alone=False):
        found = _begin(home, unit, artifacts, what)
    return _said(found, as_json, _begun)


@step.command()
@_unit
@click.option(
    "--artifact", metavar="PATH", help="Which of the promised files; without it, what is staged is published."
)
@click.option("--from", "source", default="-", metavar="FILE", help="Where its content is; standard input without it.")
@as_json
@click.pass_obj
def act(where: Where, unit: str, artifact: str | None, source: str, as_json: bool) -> int:
    """Leave one of the files (ACTION).

    Once all that was promised is there, it is published in workspace/artifacts/, in one moment.
    """
    home = where.home
    if artifact is None:
        if source != "-":
            raise BadInput("--artifact", "it is missing", "say which of the promised files this is")
        with _place(home, unit, alone=False):
            return _said(do(home, "step/act", {"unit": unit}), as_json, _acted)
    most = size(where.config.agent.artifact_limit)
    with _opened(source) as stream, _place(home, unit, alone=False):
        folder = home.steps / unit
        name = stage(folder, stream, most)
        try:
            found = do(home, "step/act", {"unit": unit, "artifact": artifact, "staged": name})
        finally:
            (folder / name).unlink(missing_ok=True)
    return _said(found, as_json, _acted)


@step.command()
@_unit
@as_json
@click.pass_obj
def commit(where: Where, unit: str, as_json: bool) -> int:
    """Check what was published, and confirm it (VERIFY, UPDATE, CONFIRM).

    Exit code 1 where a file cannot be read back as it was made.
    """
    home = where.home
    with _place(home, unit, alone=False):
        found = do(home, "step/commit", {"unit": unit})
    _said(found, as_json, _committed)
    return 0 if found["status"] == "done" else 1


@step.command()
@_unit
@click.option("--reason", required=True, help="Why; it is kept in the journal.")
@as_json
@click.pass_obj
def abandon(where: Where, unit: str, reason: str, as_json: bool) -> int:
    """Give a unit up before anything of it is published.

    What was staged goes to the trash; the unit may be begun again.
    """
    home = where.home
    with _place(home, unit, alone=False):
        found = do(home, "step/abandon", {"unit": unit, "reason": reason})
    return _said(found, as_json, lambda one: f"{unit} is abandoned: {one['detail']}")


@step.command(context_settings={"allow_interspersed_args": False})
@_unit
@_artifacts
@_what
@as_json
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def run(where: Where, unit: str, artifacts: tuple[str, ...], what: str, as_json: bool, command: tuple[str, ...]) -> int:
    """Do all five steps around COMMAND.

    COMMAND runs in an empty folder and leaves the files there; OUTLAST_UNIT, OUTLAST_WORKSPACE and OUTLAST_HOME are in its
    environment. Exit code 0 when all is done, also when it was done before (then nothing is run); 1 when a file is missing;
    else that of COMMAND. With --json, what COMMAND prints goes to standard error.
    """
    home = where.home
    with _place(home, unit, alone=True) as place:
        found = _begin(home, unit, artifacts, what)
        if found["status"] == "open" and not found["published"]:
            code, failed = _execute(home, unit, command, place, as_json)
            if not failed:
                code, failed = 1, _left_out(home, unit, artifacts)
            if not failed:
                try:
                    found = do(home, "step/act", {"unit": unit})
                except BadInput as error:
                    failed = f"{error.wrong}; {error.mend}"
            if failed:
                found = do(home, "step/abandon", {"unit": unit, "reason": failed})
                _said(found, as_json, lambda one: f"{unit} is abandoned: {one['detail']}")
                return code
        found = do(home, "step/commit", {"unit": unit})
    _said(found, as_json, _committed)
    return 0 if found["status"] == "done" else 1


def _begin(home: Home, unit: str, artifacts: tuple[str, ...], what: str) -> dict[str, Any]:
    if not artifacts:
        raise BadInput("--artifact", "it is missing", "name each file that will be made: --artifact notes.md")
    return do(home, "step/begin", {"unit": unit, "artifacts": list(check_names(list(artifacts))), "what": what})


@contextlib.contextmanager
def _place(home: Home, unit: str, *, alone: bool) -> Iterator[int]:
    # As in the daemon: what is made is the node's alone, but for what an access list hands on.
    before = os.umask(0o077)
    try:
        with at_work(home.steps / check_unit(unit), alone=alone) as fd:
            yield fd
    finally:
        os.umask(before)


def _opened(source: str) -> contextlib.AbstractContextManager[BinaryIO]:
    if source == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return open(source, "rb")
    except OSError as error:
        raise BadInput("--from", f"{source}: {error.strerror or error}", "name a file that you may read") from error


def _execute(home: Home, unit: str, command: tuple[str, ...], place: int, as_json: bool) -> tuple[int, str]:
    """Run the command in a fresh folder. Returns its exit code, and why it failed, or ``""``."""
    work = home.steps / unit / "work"
    if work.exists() and any(work.iterdir()):
        durable.set_aside(work, home.trash, stamp(SystemClock().time()))
    durable.make_dir(work, mode=durable.SHARED_FOLDER)
    env = {**os.environ, "OUTLAST_UNIT": unit, "OUTLAST_WORKSPACE": str(home.workspace), "OUTLAST_HOME": str(home.root)}
    with _passing_on() as child:
        try:
            process = subprocess.Popen(
                command, cwd=work, env=env, pass_fds=(place,), stdout=sys.stderr.fileno() if as_json else None
            )
        except OSError as error:
            code = 127 if isinstance(error, FileNotFoundError) else 126
            return code, one_line(f"{command[0]} could not be started: {error.strerror}")
        child(process)
        code = process.wait()
    if code < 0:
        return 128 - code, f"killed by {_named(-code)}"
    return code, f"exit {code}" if code else ""


@contextlib.contextmanager
def _passing_on() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Give the signals that ask us to end to the command; one that comes before there is a command waits for it."""
    running: list[subprocess.Popen[bytes]] = []
    waiting: list[int] = []

    def pass_on(number: int, _: object) -> None:
        if not running:
            waiting.append(number)
        elif number != signal.SIGINT or not _from_terminal():
            running[0].send_signal(number)

    def started(process: subprocess.Popen[bytes]) -> None:
        running.append(process)
        for number in waiting:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield started
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _from_terminal() -> bool:
    """Whether Ctrl-C reaches the command by itself: the terminal gives it to all of the foreground."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _named(number: int) -> str:
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


def _left_out(home: Home, unit: str, artifacts: tuple[str, ...]) -> str:
    """What is wrong with what the command left, or ``""``."""
    for name in artifacts:
        path = home.steps / unit / "work" / name
        if not is_made(path):
            return f"exit 0, and {name} is {'no file, or empty' if os.path.lexists(path) else 'missing'}"
    return ""


def _said(found: dict[str, Any], as_json: bool, line: Callable[[dict[str, Any]], str]) -> int:
    if as_json:
        emit(found)
    else:
        failed = found["status"] not in ("open", "done")
        tell(line(found), err=failed)
    return 0


def _begun(found: dict[str, Any]) -> str:
    if found["status"] == "done":
        return f"{found['unit']} is done already: {_where(found)}"
    return f"{found['unit']} is begun{'' if found['changed'] else ' already'}: it makes {', '.join(found['artifacts'])}"


def _acted(found: dict[str, Any]) -> str:
    unit = found["unit"]
    if found["missing"]:
        return f"{unit} is staged, but for {', '.join(found['missing'])}"
    how = "is published" if found["changed"] else "was published already"
    other = "" if found.get("same", True) else ", with other content: this was not taken"
    then = f"; now: outlast step commit --unit {unit}" if found["status"] == "open" else ""
    return f"{unit} {how} in workspace/artifacts/{unit}/{other}{then}"


def _committed(found: dict[str, Any]) -> str:
    unit = found["unit"]
    if found["status"] != "done":
        return f"{unit} {found['status']}: {found['detail']}"
    has = f" has {found['detail']}" if found["published"] else ""
    return f"{unit} is done{'' if found['changed'] else ' already'}: {_where(found)}{has}"


def _where(found: dict[str, Any]) -> str:
    place = f"workspace/artifacts/{found['unit']}/"
    if found["published"]:
        return place
    mend = "look in var/trash, git or a backup, or do it again as another unit"
    return f"it left {found['detail']}, and {place} is not there any more; {mend}"
