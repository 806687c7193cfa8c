"""The agent runner, with real processes: whatever an agent does, there is a verdict, a reason, and nothing left over."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from outlast.work.marks import end_leftovers
from outlast.work.runner import AgentLimits, Outcome, run_agent

LIMIT_S = 60.0
LIMITS = AgentLimits(timeout_s=LIMIT_S, stdout_bytes=64 << 10, artifact_bytes=1 << 20, artifact_files=8)
SHORT = AgentLimits(timeout_s=0.3, stdout_bytes=1024, artifact_bytes=1 << 20)
TASK = {
    "unit": "coz-1",
    "task": "write é",
    "from": "coz",
    "node": {"name": "axiom", "mode": "normal", "services": {"ingress": "up"}, "skew_s": {"coz": None}},
    "attempt": 1,
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "coz-1" / "work"
    folder.mkdir(mode=0o700, parents=True)
    return folder


@pytest.fixture
def stray(work: Path) -> Iterator[Callable[[], int]]:
    """Reads the process id that an agent's child wrote beside the working directory; ends that child after the test."""
    path = work.parent / "pid"

    def pid() -> int:
        until(lambda: path.exists() and path.read_text().strip() != "")
        return int(path.read_text())

    yield pid
    if path.exists() and running(pid()):
        psutil.Process(pid()).kill()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.01)


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def limited(
    command: list[str], work: Path, limits: AgentLimits, environment: Mapping[str, str], grace_s: float
) -> Outcome:
    async with asyncio.timeout(LIMIT_S):
        return await run_agent(command, TASK, work, limits, environment, grace_s=grace_s)


def run(command: list[str] | str, work: Path, limits: AgentLimits = LIMITS, *, grace_s: float = 0.2) -> Outcome:
    """Run a command, or a shell script, to its outcome; fail the test if there is none in time."""
    words = ["/bin/sh", "-c", command] if isinstance(command, str) else command
    return asyncio.run(limited(words, work, limits, {"COLOUR": "blue"}, grace_s))


def failed(outcome: Outcome, *words: str) -> None:
    """Every failure has a reason on one printable line of bounded length, and no files."""
    assert outcome.verdict == "failed"
    assert outcome.reason.isprintable() and 0 < len(outcome.reason) <= 300
    assert all(word in outcome.reason for word in words), outcome.reason
    assert outcome.files == ()


def test_a_good_agent_is_done(work: Path) -> None:
    """The task comes as JSON on standard input; files, also in folders, are reported with size and hash; the last line
    of the output is the summary; nothing but the artifact and what was printed stays."""
    outcome = run(
        "cat > task.json; mkdir sub; printf abc > sub/b; echo one; echo two >&2; echo; printf '\\33[1mlast\\33[0m\\n\\n'",
        work,
    )
    assert (outcome.verdict, outcome.reason, outcome.exit_code, outcome.summary) == ("done", "", 0, "last")
    assert json.loads((work / "task.json").read_bytes()) == TASK
    assert [file.path for file in outcome.files] == ["sub/b", "task.json"]
    assert (outcome.files[0].size, outcome.files[0].sha256) == (3, hashlib.sha256(b"abc").hexdigest())
    assert (work.parent / "stdout.txt").read_text().startswith("one\n")
    assert (work.parent / "stderr.txt").read_text() == "two\n"
    assert {path.name for path in work.parent.iterdir()} == {"work", "stdin.json", "stdout.txt", "stderr.txt"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in work.parent.iterdir())


def test_environment_is_minimal(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent gets what was configured and a few harmless variables; nothing secret of the runtime's is inherited."""
    monkeypatch.setenv("OUTLAST_TEST_SECRET", "hunter2")
    assert run("env -0 > env", work).verdict == "done"
    env = dict(line.split("=", 1) for line in (work / "env").read_text().split("\0") if line)
    assert set(env) <= {
        "PATH",
        "HOME",
        "LANG",
        "TZ",
        "TMPDIR",
        "OUTLAST_WORK",
        "OUTLAST_UNIT",
        "COLOUR",
        "PWD",
        "SHLVL",
        "_",
        "OLDPWD",
    }
    assert (env["OUTLAST_WORK"], env["OUTLAST_UNIT"], env["COLOUR"]) == (str(work.resolve()), "coz-1", "blue")
    assert not Path(env["TMPDIR"]).exists()


@pytest.mark.parametrize("command", [["/no/such/agent"], ["no-such-agent-anywhere"], ["./agent"], [""], []])
def test_missing_command(work: Path, command: list[str]) -> None:
    """A command that is not there, or that names no absolute path, fails and names the setting to correct."""
    outcome = run(command, work)
    failed(outcome, "agent command", "outlast_agent.command")
    assert outcome.exit_code is None


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        ("#!/bin/sh\n", 0o644, "not executable"),
        ("#!/no/such/interpreter\n", 0o755, "interpreter"),
        ("\0\1\2 not a program", 0o755, "neither a program"),
    ],
)
def test_command_that_cannot_start(work: Path, content: str, mode: int, says: str) -> None:
    """A file that cannot be executed fails, and says which of the usual causes it is."""
    agent = work.parent / "agent"
    agent.write_text(content)
    agent.chmod(mode)
    failed(run([str(agent)], work), str(agent)[:40], says)


def test_argument_that_no_program_can_take(work: Path) -> None:
    """A zero byte in an argument is a failure and no crash."""
    failed(run(["/bin/echo", "a\0b"], work), "could not be started")


def test_exit_code_is_the_verdict(work: Path) -> None:
    """Exit 1 fails even if there is an artifact, and the last line of stderr says why, without control characters."""
    outcome = run("echo x > a; echo first >&2; printf 'disk \\33[31mon fire\\33[0m\\7\\n' >&2; exit 1", work)
    failed(outcome, "exit 1: disk on fire")
    assert outcome.exit_code == 1
    failed(run("exit 7", work), "exit 7", "nothing on stderr")


def test_agent_that_does_not_know(work: Path) -> None:
    """Exit 79 is neither done nor failed: the agent itself says that it is in doubt, and why."""
    outcome = run("echo x > a; echo the bank did not answer >&2; exit 79", work)
    assert (outcome.verdict, outcome.reason, outcome.exit_code) == ("in doubt", "the bank did not answer", 79)
    assert outcome.files == ()


def test_killed_by_a_signal(work: Path) -> None:
    """A signal is named, and there is no exit code."""
    outcome = run("echo x > a; kill -SEGV $$", work)
    failed(outcome, "SIGSEGV")
    assert outcome.exit_code is None


@pytest.mark.parametrize("script", ["exec sleep 600", "trap '' TERM; while :; do sleep 600; done"])
def test_hanging_agent_is_ended(work: Path, stray: Callable[[], int], script: str) -> None:
    """An agent that hangs is ended when its time is over, with SIGKILL if it ignores SIGTERM."""
    failed(run(f"echo $$ > ../pid; {script}", work, SHORT), "hung", "0.3 s", "timeout")
    until(lambda: not running(stray()))


def test_agent_may_end_well_on_sigterm(work: Path) -> None:
    """SIGTERM comes first, so that an agent can tidy up; it is a time-out nevertheless."""
    outcome = run(
        "trap 'echo tidy > ../tidied; exit 0' TERM; while :; do sleep 0.05; done", work, SHORT, grace_s=LIMIT_S
    )
    failed(outcome, "hung")
    assert (work.parent / "tidied").exists()


def test_agent_that_never_reads_its_task(work: Path) -> None:
    """A task larger than any pipe holds up nobody when the agent does not read it."""
    task = {"unit": "coz-1", "task": "x" * 1_000_000}
    command = ["/bin/sh", "-c", "echo x > a"]
    assert asyncio.run(run_agent(command, task, work, LIMITS, {})).verdict == "done"


def test_gigabyte_of_output(work: Path) -> None:
    """A gigabyte on stdout is read on, the memory for it is bounded, and its beginning and end are kept."""
    me = psutil.Process()
    grown = [0]

    async def measured() -> Outcome:
        start = me.memory_info().rss

        async def sample() -> None:
            while True:
                grown[0] = max(grown[0], me.memory_info().rss - start)
                await asyncio.sleep(0.005)

        sampler = asyncio.create_task(sample())
        try:
            return await limited(["/bin/sh", "-c", script], work, LIMITS, {}, 0.2)
        finally:
            sampler.cancel()

    script = "echo x > a; echo begin; head -c 1000000000 /dev/zero; echo; echo the end"
    outcome = asyncio.run(measured())
    assert (outcome.verdict, outcome.summary) == ("done", "the end")
    kept = (work.parent / "stdout.txt").read_bytes()
    assert kept.startswith(b"begin\n") and kept.endswith(b"the end\n") and b"bytes dropped" in kept
    assert len(kept) <= LIMITS.stdout_bytes + 100
    assert grown[0] < 8 << 20


def test_summary_is_bounded(work: Path) -> None:
    """A last line without end is cut, and bytes that are no text do no harm."""
    outcome = run("echo x > a; head -c 5000 /dev/zero | tr '\\0' y; printf '\\377'", work)
    assert outcome.verdict == "done" and 0 < len(outcome.summary) <= 200


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("true", "no artifact"),
        ("ln -s /etc/passwd a", "a is a symbolic link"),
        ("mkfifo a", "a is a pipe"),
        ("echo x > .outlast.json", "Outlast's own"),
        ("head -c 1048577 /dev/zero > a", "too big"),
    ],
)
def test_artifact_that_is_refused(work: Path, script: str, says: str) -> None:
    """Exit code 0 is not enough: there must be an artifact, and one that can be kept (test_harvest.py has every case)."""
    outcome = run(script, work)
    failed(outcome, says)
    assert outcome.exit_code == 0


def test_disk_use_is_watched_during_the_run(work: Path, stray: Callable[[], int]) -> None:
    """An agent that fills the disk is ended while it runs, not after its time-out."""
    failed(run("echo $$ > ../pid; head -c 2000000 /dev/zero > a; exec sleep 600", work), "too big", "work/")
    until(lambda: not running(stray()))


def test_temporary_files_are_watched_too(work: Path) -> None:
    """Neither may an agent fill the disk in its TMPDIR."""
    failed(run("head -c 2000000 /dev/zero > $TMPDIR/a; exec sleep 600", work), "too big", "tmp/")


STRAGGLERS = {
    "a background child": "sleep 600 & echo $! > ../pid",
    "a grandchild that holds the pipe": "(trap '' HUP TERM; sleep 600 & echo $! > ../pid) &",
    "one that shed its mark": "env -i sh -c 'echo $$ > ../pid; exec sleep 600' &",
    "one in a session of its own": "setsid sh -c 'echo $$ > ../pid; exec sleep 600' &",
    "a daemon without pipes": "setsid sh -c 'echo $$ > ../pid; exec sleep 600' < /dev/null > /dev/null 2>&1 &",
}
WAIT = "\nwhile [ ! -s ../pid ]; do sleep 0.01; done; echo x > a"


@pytest.mark.skipif(sys.platform != "linux", reason="setsid is a Linux program")
@pytest.mark.parametrize("script", STRAGGLERS.values(), ids=STRAGGLERS)
def test_straggler_is_ended(work: Path, stray: Callable[[], int], script: str) -> None:
    """What an agent leaves running is ended with it and holds up nothing; the agent's verdict stands."""
    assert run(script + WAIT, work).verdict == "done"
    until(lambda: not running(stray()))


@pytest.mark.skipif(sys.platform != "linux", reason="setsid is a Linux program")
def test_straggler_of_a_hanging_agent_is_ended(work: Path, stray: Callable[[], int]) -> None:
    """A time-out reaches processes that left the agent's group as well."""
    failed(run(f"{STRAGGLERS['one in a session of its own']} sleep 600", work, AgentLimits(1.0, 1024, 1024)), "hung")
    until(lambda: not running(stray()))


@pytest.mark.skipif(sys.platform != "linux", reason="setsid is a Linux program")
def test_unknown_holder_of_the_pipe_holds_up_nothing(work: Path, stray: Callable[[], int]) -> None:
    """A process that shed every mark cannot be found; the run ends nevertheless, though it still holds the pipe."""
    assert run(f"env -i setsid sh -c 'echo $$ > ../pid; exec sleep 600' & {WAIT}", work).verdict == "done"
    assert running(stray())


@pytest.mark.parametrize("times", [1, 2])
def test_cancelling_ends_the_agent(work: Path, stray: Callable[[], int], times: int) -> None:
    """Cancelling ends the agent and is passed on; cancelling again does not wait for the rest of the grace."""

    async def cancelled() -> None:
        grace_s = 0.1 if times == 1 else 10 * LIMIT_S
        run = asyncio.create_task(limited(["/bin/sh", "-c", script], work, LIMITS, {}, grace_s))
        while not (work.parent / "pid").exists():
            await asyncio.sleep(0.01)
        for _ in range(times):
            run.cancel()
            await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await run

    script = "trap '' TERM; echo $$ > ../pid; while :; do sleep 600; done"
    asyncio.run(cancelled())
    until(lambda: not running(stray()))


@pytest.mark.parametrize("turns", range(8))
def test_cancelling_in_the_middle_of_a_start(work: Path, turns: int) -> None:
    """However far the start has come, cancelling is passed on, and nothing of the agent runs afterwards."""

    async def cancelled() -> None:
        run = asyncio.create_task(limited(["/bin/sh", "-c", "sleep 600 & sleep 600"], work, LIMITS, {}, 0.1))
        for _ in range(turns):
            await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(cancelled())
    assert end_leftovers(work.parent.parent) == []
