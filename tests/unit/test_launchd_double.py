"""The launchd double keeps the rules of launchd.plist(5) and answers as launchctl does, so that what is tried on it counts."""

from __future__ import annotations

import asyncio
import datetime
import os
import plistlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.mac import PACKAGE, Mac, mac

sys.path.insert(0, str(PACKAGE))

from launchd_double import daemon, definition, keeping  # noqa: E402

ON_FAILURE = {"SuccessfulExit": False}


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mac]:
    """One for all that is refused, with the job x loaded."""
    with mac(tmp_path_factory.mktemp("mac")) as started:
        started.load()
        yield started


@pytest.fixture
def double(tmp_path: Path) -> Iterator[Mac]:
    with mac(tmp_path) as started:
        yield started


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


ENDED = {"well": keeping.Ended(), "failed": keeping.Ended(3), "crashed": keeping.Ended(signal=signal.SIGSEGV)}


@pytest.mark.parametrize(
    ("keep_alive", "starts", "after"),
    [
        (False, False, {}),
        (True, True, {"well", "failed", "crashed"}),
        ({"SuccessfulExit": False}, True, {"failed", "crashed"}),
        ({"SuccessfulExit": True}, True, {"well"}),
        ({"Crashed": True}, False, {"crashed"}),
        ({"Crashed": False}, False, {"well", "failed"}),
        ({"Crashed": False, "SuccessfulExit": False}, True, {"well", "failed", "crashed"}),
        ({"PathState": {"/there": True}}, True, {"well", "failed", "crashed"}),
        ({"PathState": {"/not/there": True}}, False, {}),
        ({"PathState": {"/not/there": False}}, True, {"well", "failed", "crashed"}),
    ],
)
def test_conditions_of_keepalive_are_joined_by_or(keep_alive: Any, starts: bool, after: set[str]) -> None:
    """Each condition keeps a job alive for itself, and SuccessfulExit implies a start."""
    keep = definition.define("", {"Label": "x", "Program": "/bin/true", "KeepAlive": keep_alive}).keep_alive
    there = "/there".__eq__
    assert keeping.wanted(keep, None, there) is starts
    assert {name for name, ended in ENDED.items() if keeping.wanted(keep, ended, there)} == set(after)


def test_a_job_that_ran_long_enough_is_not_near_its_end() -> None:
    """Only failures in a row, each of a run shorter than the throttle interval, use up launchd's patience."""
    patience = keeping.Patience(2)
    patience.ended(ENDED["failed"], 1, 10)
    patience.ended(ENDED["failed"], 11, 10)
    patience.ended(ENDED["failed"], 1, 10)
    patience.ended(ENDED["well"], 1, 10)
    patience.ended(ENDED["crashed"], 1, 10)
    assert not patience.over
    patience.ended(ENDED["crashed"], 1, 10)
    assert patience.over


MIDDAY = datetime.datetime(2026, 2, 27, 12, 0, 30)  # a Friday


@pytest.mark.parametrize(
    ("entry", "due"),
    [
        ({}, (2026, 2, 27, 12, 1)),
        ({"Minute": 0}, (2026, 2, 27, 13, 0)),
        ({"Hour": 4, "Minute": 30}, (2026, 2, 28, 4, 30)),
        ({"Hour": 12}, (2026, 2, 27, 12, 1)),
        ({"Weekday": 7, "Hour": 0, "Minute": 0}, (2026, 3, 1, 0, 0)),
        ({"Weekday": 1, "Day": 28, "Hour": 0, "Minute": 0}, (2026, 2, 28, 0, 0)),
        ({"Month": 2, "Day": 29, "Hour": 0, "Minute": 0}, (2028, 2, 29, 0, 0)),
    ],
)
def test_calendar_intervals_name_the_next_time(entry: dict[str, int], due: tuple[int, ...]) -> None:
    """What is left out stands for any; a day of the month and one of the week are joined by or, as launchd.plist(5) says."""
    assert keeping.next_time((entry,), MIDDAY) == datetime.datetime(*due)  # type: ignore[arg-type]


def test_a_day_that_never_comes_is_no_time() -> None:
    """A job with an impossible date is never started, and that is found out."""
    assert keeping.next_time(({"Month": 2, "Day": 31},), MIDDAY) is None


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["bootout", "system/y"], 3, "Boot-out failed: 3: No such process\n"),
        (["bootstrap", "system", "{x}"], 5, "Bootstrap failed: 5: Input/output error\n"),
        (["bootstrap", "system", "/not/there.plist"], 5, "Bootstrap failed: 5: Input/output error\n"),
        (["bootstrap", "gui/501", "{x}"], 125, "Bootstrap failed: 125: Domain does not support specified action\n"),
        (["kickstart", "system/y"], 113, 'Could not find service "y" in domain for system\n'),
        (["print", "system/y"], 113, 'Bad request.\nCould not find service "y" in domain for system\n'),
        (["list", "y"], 113, 'Could not find service "y" in domain for port\n'),
        (["kill", "SIGTERM", "system/y"], 113, 'Could not find service "y" in domain for system\n'),
        (["load", "{x}"], 64, "Unrecognized subcommand: load\nUsage: launchctl <subcommand> ...\n"),
        (["bootout", "system"], 64, "Usage: launchctl bootout ...\n"),
    ],
)
def test_what_is_refused_is_refused_as_launchctl_does(refusing: Mac, words: list[str], code: int, said: str) -> None:
    """Exit codes and texts are those that scripts meet on a Mac."""
    done = refusing.ctl(*(word.format(x=refusing.daemons / "x.plist") for word in words))
    assert (done.returncode, done.stderr, done.stdout) == (code, said, "")


def test_a_job_without_a_process_cannot_be_signalled(refusing: Mac) -> None:
    """`kill` of a job that does not run ends with 3."""
    done = refusing.ctl("kill", "SIGHUP", "system/x")
    assert (done.returncode, done.stderr) == (3, "No process to signal.\n")


def test_definitions_that_others_may_write_are_refused(refusing: Mac) -> None:
    """A property list that anybody else could change is not loaded."""
    path = refusing.define("z", mode=0o664)
    done = refusing.ctl("bootstrap", "system", str(path))
    assert (done.returncode, done.stderr) == (122, "Bootstrap failed: 122: Path had bad ownership/permissions\n")


@pytest.mark.parametrize("content", [b"", b"no list", plistlib.dumps([1])])
def test_files_that_are_no_property_lists_are_refused(refusing: Mac, content: bytes) -> None:
    """What cannot be read is said to be invalid."""
    path = refusing.define("z")
    path.write_bytes(content)
    assert refusing.ctl("bootstrap", "system", str(path)).returncode == 109


@pytest.mark.parametrize(
    "values",
    [
        {"Sockets": {}},
        {"KeepAlive": {"NetworkState": True}},
        {"ExitTimeOut": "20"},
        {"RunAtLoad": 1},
        {"StartInterval": True},
    ],
)
def test_keys_that_are_not_done_are_refused(refusing: Mac, values: dict[str, Any]) -> None:
    """Nothing passes here because a key was silently ignored, and launchd's log names it."""
    done = refusing.ctl("bootstrap", "system", str(refusing.define("z", **values)))
    assert done.returncode == 5
    assert next(iter(values)) in refusing.log.read_text()


def test_only_root_may_order(tmp_path: Path) -> None:
    """Anybody may look, and nobody but root (and who runs the double) may change anything."""

    async def asked(*words: str) -> tuple[int, str, str]:
        return await daemon.Launchd(str(tmp_path), "", 3).order(list(words), os.getuid() + 1)

    assert asyncio.run(asked("list"))[0] == 0
    code, _, said = asyncio.run(asked("kickstart", "system/x"))
    assert (code, said) == (1, "Could not kickstart service: 1: Operation not permitted\n")


def test_jobs_start_with_the_machine_and_nobody_logged_in(tmp_path: Path) -> None:
    """What lies in LaunchDaemons is loaded at a start, unless it is disabled, and that outlasts a restart."""
    double = Mac(tmp_path)
    double.define("a", RunAtLoad=True)
    double.define("b", RunAtLoad=True, Disabled=True)
    double.define("c", RunAtLoad=True, mode=0o666)
    double.boot()
    try:
        assert double.told("state", "a") == "running"
        assert double.ctl("print", "system/b").returncode == double.ctl("print", "system/c").returncode == 113
        assert double.ctl("disable", "system/a").returncode == double.ctl("enable", "system/b").returncode == 0
        assert '"a" => disabled' in double.ctl("print-disabled", "system").stdout
        pid = int(double.told("pid", "a"))
    finally:
        double.halt()
    assert gone(pid)
    with mac(tmp_path) as again:
        assert again.ctl("print", "system/a").returncode == 113
        assert again.told("state", "b") == "running"
        assert again.ctl("bootstrap", "system", str(double.daemons / "a.plist")).returncode == 5


def test_a_job_gets_what_its_definition_says(double: Mac) -> None:
    """Environment, directory, umask, limits and logs are the job's own; nothing of launchd's environment leaks into it."""
    out, err, place = (double.root / name for name in ("out", "err", "place"))
    place.mkdir()
    script = "env; pwd; ulimit -Sn; ulimit -Hn; touch made; echo trouble >&2"
    limits = {"SoftResourceLimits": {"NumberOfFiles": 99}, "HardResourceLimits": {"NumberOfFiles": 120}}
    double.load(
        ProgramArguments=shell(script),
        RunAtLoad=True,
        EnvironmentVariables={"A": "b c"},
        WorkingDirectory=str(place),
        Umask=0o077,
        StandardOutPath=str(out),
        StandardErrorPath=str(err),
        **limits,
    )
    double.until(lambda: double.told("last exit code") == "0")
    lines = out.read_text().splitlines()
    assert lines[-3:] == [str(place), "99", "120"]
    assert {"A=b c", "XPC_SERVICE_NAME=x", "PATH=/usr/bin:/bin:/usr/sbin:/sbin"} <= set(lines)
    assert not any(line.startswith("LAUNCHD_ROOT") for line in lines)
    assert (place / "made").stat().st_mode & 0o777 == 0o600
    assert err.read_text() == "trouble\n"


@pytest.mark.parametrize(
    "values", [{"StandardErrorPath": "/not/there/log"}, {"WorkingDirectory": "/not/there"}, {"Program": "/not/there"}]
)
def test_a_job_that_cannot_be_set_up_ends_with_78(double: Mac, values: dict[str, str]) -> None:
    """EX_CONFIG is what launchctl shows of a job whose log, directory or program cannot be had."""
    double.load(RunAtLoad=True, **values)
    double.until(lambda: double.told("last exit code") == "78: EX_CONFIG")


def test_a_failed_job_is_started_again_and_a_finished_one_is_not(double: Mac) -> None:
    """With SuccessfulExit false a job runs until it ends well, and then rests."""
    tries = double.root / "tries"
    script = f"echo >>{tries}; test $(wc -l <{tries}) = 3"
    double.load(ProgramArguments=shell(script), KeepAlive=ON_FAILURE, ThrottleInterval=0)
    double.until(lambda: double.told("last exit code") == "0")
    assert double.told("state") == "not running"
    assert double.told("runs") == "3"


def test_starts_are_apart_by_the_throttle_interval(double: Mac) -> None:
    """A job that fails at once is not spawned more often than its ThrottleInterval allows, and says that it is to be."""
    times = double.root / "times"
    double.load(ProgramArguments=shell(f"date +%s.%N >>{times}; exit 1"), KeepAlive=ON_FAILURE, ThrottleInterval=1)
    double.until(lambda: double.told("state") == "spawn scheduled")
    double.until(lambda: times.read_text().count("\n") >= 2)
    first, second = (float(line) for line in times.read_text().split()[:2])
    # The program itself takes a moment to start, once more, once less.
    assert second - first > 0.7


def test_launchd_gives_up_after_a_burst_and_kickstart_re_arms(double: Mac) -> None:
    """After failures in a row KeepAlive is not honoured any more, until somebody kickstarts the job."""
    broken = double.root / "broken"
    broken.touch()
    script = f"test ! -e {broken} && exec sleep 600"
    double.load(ProgramArguments=shell(script), KeepAlive=ON_FAILURE, ThrottleInterval=1)
    double.until(lambda: double.told("excessive crashing") == "1")
    assert double.told("state") == "not running"
    assert double.told("runs") == "3"
    broken.unlink()
    assert double.ctl("kickstart", "system/x").returncode == 0
    double.until(lambda: double.told("state") == "running")
    assert double.told("excessive crashing") == ""


def test_kickstart_starts_what_rests_and_restarts_only_when_told(double: Mac) -> None:
    """Without -k a job that runs is left alone; with it, it is another process."""
    double.load()
    assert double.told("state") == "not running"
    first = double.ctl("kickstart", "-p", "system/x").stdout.strip()
    assert double.ctl("kickstart", "-p", "system/x").stdout.strip() == first == double.told("pid")
    second = double.ctl("kickstart", "-kp", "system/x").stdout.strip()
    assert second == double.told("pid") != first
    assert gone(int(first))


def test_a_path_that_appears_starts_a_job(double: Mac) -> None:
    """PathState is looked at while the job rests."""
    path = double.root / "wanted"
    double.load(KeepAlive={"PathState": {str(path): True}})
    assert double.told("state") == "not running"
    path.touch()
    double.until(lambda: double.told("state") == "running")


def test_an_interval_starts_a_job_again_and_again(double: Mac) -> None:
    """StartInterval starts a job that ended, however it ended."""
    double.load(ProgramArguments=["/bin/false"], StartInterval=1)
    double.until(lambda: int(double.told("runs")) >= 2)


@pytest.mark.parametrize("abandons", [False, True])
def test_what_a_job_left_behind_ends_with_it(double: Mac, abandons: bool) -> None:
    """The process group goes with its job, unless AbandonProcessGroup says otherwise."""
    note = double.root / "pid"
    double.load(
        ProgramArguments=shell(f"sleep 600 & echo $! >{note}.new; mv {note}.new {note}"),
        RunAtLoad=True,
        AbandonProcessGroup=abandons,
    )
    double.until(lambda: double.told("last exit code") == "0")
    left = int(note.read_text())
    if abandons:
        assert not gone(left)
        os.kill(left, signal.SIGKILL)
    double.until(lambda: gone(left))


def test_bootout_comes_back_before_a_slow_job_is_gone(double: Mac) -> None:
    """A job that takes its time is SIGTERMed meanwhile, its label is taken, and it is killed after ExitTimeOut."""
    ready = double.root / "ready"
    double.load(
        ProgramArguments=shell(f"trap '' TERM; touch {ready}; while :; do sleep 1; done"), RunAtLoad=True, ExitTimeOut=3
    )
    double.until(ready.exists)
    pid = int(double.told("pid"))
    done = double.ctl("bootout", "system/x")
    assert (done.returncode, done.stderr) == (36, "Boot-out failed: 36: Operation now in progress\n")
    assert double.told("state") == "SIGTERMed"
    assert double.ctl("bootstrap", "system", str(double.daemons / "x.plist")).returncode == 5
    double.until(lambda: double.ctl("print", "system/x").returncode == 113)
    assert gone(pid)


def test_list_tells_pid_and_status(double: Mac) -> None:
    """`list` has a line a job, with its process id and how it ended last."""
    double.load("a", RunAtLoad=True)
    double.load("b", ProgramArguments=shell("kill -9 $$"), RunAtLoad=True)
    double.until(lambda: double.told("last terminating signal", "b") == "Killed: 9")
    rows = dict(line.split("\t")[::-2] for line in double.ctl("list").stdout.splitlines()[1:])
    assert rows == {"a": double.told("pid", "a"), "b": "-"}
    assert "-\t-9\tb" in double.ctl("list").stdout
    assert '"LastExitStatus" = 9;' in double.ctl("list", "b").stdout
