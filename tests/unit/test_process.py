"""Starting and ending programs, with real processes: the whole group goes, in time, and nothing of it stays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from outlast.errors import AgentError
from outlast.work.process import Guard, Output, Process, Program

LIMIT_S = 60.0
linux = pytest.mark.skipif(sys.platform != "linux", reason="setsid is a Linux program")


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        await asyncio.sleep(0.005)


class Bench:
    """A folder to work in, a guard, and the processes to end after the test."""

    def __init__(self, root: Path) -> None:
        self.root, self.guard, self.made = root, Guard(), list[Process]()
        self.log = root / "out" / "x.log"

    async def start(self, script: str, *, limit: int = 1 << 20, **more: object) -> Process:
        program = Program("x", ["/bin/sh", "-c", script], self.root, {"COLOUR": "blue"}, **more)  # type: ignore[arg-type]
        process = await Process.start(program, Output(self.log, limit), self.guard)
        self.made.append(process)
        return process

    async def pids(self, count: int) -> list[int]:
        """The ids that scripts wrote into the file ``pids``."""
        file = self.root / "pids"
        await until(lambda: file.exists() and len(file.read_text().split()) >= count)
        return [int(word) for word in file.read_text().split()]


@contextlib.asynccontextmanager
async def bench(root: Path) -> AsyncIterator[Bench]:
    made = Bench(root)
    try:
        async with asyncio.timeout(LIMIT_S):
            yield made
    finally:
        for process in made.made:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(autouse=True)
def no_strays(tmp_path: Path) -> Iterator[None]:
    """Whatever a test leaves running is a failure, and is ended."""
    yield
    left = [int(word) for word in (tmp_path / "pids").read_text().split()] if (tmp_path / "pids").exists() else []
    left = [pid for pid in left if running(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_exit_code_output_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader's exit code, what it printed on both streams in order, and an environment without the runtime's secrets."""
    monkeypatch.setenv("OUTLAST_TEST_SECRET", "hunter2")

    async def test() -> None:
        async with bench(tmp_path) as at:
            process = await at.start("echo one; echo two >&2; pwd; env > env; exit 7")
            assert await process.wait() == 7 == await process.end()
            assert at.log.read_text() == f"one\ntwo\n{tmp_path}\n"
            assert at.guard.running == []
            env = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
            assert (
                env["OUTLAST_WORK"] == str(tmp_path) and env["OUTLAST_RUN"] == process.run and env["COLOUR"] == "blue"
            )
            assert "OUTLAST_TEST_SECRET" not in env

    asyncio.run(test())


def test_a_signal_is_a_negative_code(tmp_path: Path) -> None:
    """As Python says it, and at once, also where a grandchild holds the pipe."""

    async def test() -> None:
        async with bench(tmp_path) as at:
            process = await at.start("sleep 600 & echo $! > pids; kill -SEGV $$; sleep 600")
            assert await process.wait() == -signal.SIGSEGV
            await process.end()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["/no/such"], "/no/such does not exist"),
        (["no-such-program"], "not on the PATH"),
        (["a\0b"], ""),
        ([], "(empty)"),
    ],
)
def test_what_cannot_be_started(tmp_path: Path, command: list[str], says: str) -> None:
    """A command that cannot be started is an AgentError in words, and leaves neither a process nor a descriptor."""

    async def test() -> None:
        guard = Guard()
        with contextlib.suppress(AgentError):  # whatever the first makes once stays
            await Process.start(Program("x", ["/no/such"], tmp_path, {}), Output(tmp_path / "log", 10), guard)
        before = len(os.listdir("/dev/fd"))
        for _ in range(5):
            with pytest.raises(AgentError, match="command") as caught:
                await Process.start(Program("x", command, tmp_path, {}), Output(tmp_path / "log", 10), guard)
            assert says in str(caught.value)
        assert len(os.listdir("/dev/fd")) == before and guard.running == []

    asyncio.run(test())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """The folder it works in is named as a cause."""

    async def test() -> None:
        with pytest.raises(AgentError, match="folder it works in"):
            await Process.start(Program("x", ["/bin/true"], tmp_path / "no", {}), None, Guard())

    asyncio.run(test())


def test_end_asks_first_and_waits_for_the_grace(tmp_path: Path) -> None:
    """A program that tidies up on its stop signal is given the time, and its code is told."""

    async def test() -> None:
        async with bench(tmp_path) as at:
            script = "trap 'sleep 0.2; echo tidy; exit 5' USR1; echo $$ > pids; while :; do sleep 0.05; done"
            process = await at.start(script, stop_signal=signal.SIGUSR1)
            await at.pids(1)
            assert await process.end() == 5
            assert at.log.read_text().endswith("tidy\n")

    asyncio.run(test())


@linux
def test_end_insists(tmp_path: Path) -> None:
    """One that does not listen is killed after the grace, with all of its group, and what left it."""

    async def test() -> None:
        async with bench(tmp_path) as at:
            script = "trap '' TERM; echo $$ >> pids; sleep 600 & echo $! >> pids; setsid sh -c 'echo $$ >> pids; exec sleep 600' & wait; while :; do sleep 600; done"
            process = await at.start(script, grace_s=0.1)
            await at.pids(3)
            assert await process.end() == -signal.SIGKILL

    asyncio.run(test())


def test_a_stopped_program_is_asked_too(tmp_path: Path) -> None:
    """One that hangs by SIGSTOP gets to hear of its end, and needs none of its grace."""

    async def test() -> None:
        async with bench(tmp_path) as at:
            process = await at.start("exec sleep 600", grace_s=LIMIT_S)
            os.kill(process.pid, signal.SIGSTOP)
            began = time.monotonic()
            assert await process.end() == -signal.SIGTERM
            assert time.monotonic() - began < LIMIT_S / 2

    asyncio.run(test())


STRAYS = {
    "a child": "sleep 600 & echo $! >> pids; sleep 600 & echo $! >> pids;",
    "one that ignores": "(trap '' TERM HUP; sleep 600 & echo $! >> pids; echo 0 >> pids);",
    "a session of its own": "setsid sh -c 'echo $$ >> pids; exec sleep 600' & setsid sh -c 'echo $$ >> pids; exec sleep 600' &",
    "a daemon": "setsid sh -c 'setsid sleep 600 < /dev/null > /dev/null 2>&1 & echo $! >> pids; echo $$ >> pids' &",
}


@linux
@pytest.mark.parametrize("script", STRAYS.values(), ids=STRAYS)
def test_nothing_outlives_its_leader(tmp_path: Path, script: str) -> None:
    """When the leader ends by itself, what it left running is ended, wherever that went, without anybody's asking."""

    async def test() -> None:
        async with bench(tmp_path) as at:
            process = await at.start(f"{script} while [ $(cat pids | wc -w) -lt 2 ]; do sleep 0.01; done; exit 3")
            assert await process.wait() == 3
            await at.guard.swept()
            pids = [pid for pid in await at.pids(2) if pid]
            await until(lambda: not any(map(running, pids)))

    asyncio.run(test())


@linux
def test_a_tree_that_forks_without_end(tmp_path: Path) -> None:
    """A tree that goes on forking while it is killed, in its group and out of it, is gone nevertheless."""
    script = "n() { while :; do (sleep 600) & (sleep 600) & setsid sleep 600 & echo . >> count; sleep 0.01; done; }; n & n & wait"

    async def test() -> None:
        async with bench(tmp_path) as at:
            process = await at.start(script, grace_s=0.2)
            await until(lambda: (tmp_path / "count").exists() and (tmp_path / "count").stat().st_size > 20)
            await process.end()
            mark = f"OUTLAST_RUN={process.run}\0".encode()
            assert not [pid for pid in psutil.pids() if mark in environ(pid)]

    asyncio.run(test())


def environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def test_two_who_end_and_one_who_gives_up(tmp_path: Path) -> None:
    """Several may ask for the end; who is cancelled while waiting for it cuts no grace short."""

    async def test() -> None:
        async with bench(tmp_path) as at:
            process = await at.start("trap 'sleep 0.3; exit 4' TERM; echo $$ > pids; while :; do sleep 0.02; done")
            await at.pids(1)
            first = asyncio.create_task(process.end())
            await asyncio.sleep(0.05)
            first.cancel()
            assert await asyncio.gather(process.end(), process.end()) == [4, 4]
            assert first.cancelled()

    asyncio.run(test())


def test_one_that_floods_is_slowed_down(tmp_path: Path) -> None:
    """A program that prints without end costs the node little, its output stays bounded, and others are not held up."""

    async def test() -> None:
        async with bench(tmp_path) as at:
            process = await at.start("exec cat /dev/zero", limit=100_000)
            began = (time.process_time(), time.monotonic())
            await asyncio.sleep(1.0)
            spent, passed = time.process_time() - began[0], time.monotonic() - began[1]
            assert spent / passed < 0.2
            assert sum(file.stat().st_size for file in at.log.parent.iterdir()) <= 200_000
            await process.end()

    asyncio.run(test())


def test_the_guard_is_started_anew(tmp_path: Path) -> None:
    """A guard that is killed is replaced, and the new one knows what runs; other users of the loop are not disturbed."""

    async def test() -> None:
        async with bench(tmp_path) as at:
            process = await at.start("echo $$ > pids; exec sleep 600")
            first = at.guard._shell
            assert first is not None
            at.guard._began -= 10
            first.kill()
            await until(lambda: at.guard._shell is not first)
            other = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 9")
            assert await other.wait() == 9
            # What the runtime's end does: the pipe is closed.
            shell = at.guard._shell
            assert shell is not None and shell.stdin is not None
            shell.stdin.close()
            assert await process.wait() == -signal.SIGKILL

    asyncio.run(test())
