"""Sub-agents that take all they can get: memory, processors, processes, disk, time. Each is ended, and nothing of it is left."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live import LiveNode, until
from support.spawning import closed, lone_node, needs_sandbox, spawn, spawned


@pytest.fixture(scope="module")
def node() -> Iterator[LiveNode]:
    """A node whose sub-agents have one attempt, and little of everything."""
    needs_sandbox()
    limits = {"attempts": 1, "off_after": 100, "memory": "96MiB", "processes": 16, "file_size": "1MiB", "cpu": "3s"}
    with lone_node({"subagents": {**limits, "output_limit": "4MiB", "timeout": "30s"}}) as node:
        yield node


def test_a_fork_bomb_stays_inside(node: LiveNode) -> None:
    """Forty children where sixteen processes may be: the fork is refused, or all of it is ended; none is left.

    Bounded, so that a limit that does not hold fails the test and not the machine.
    """
    bomb = "i=0; while [ $i -lt 40 ]; do sleep 600 & i=$((i+1)); done; wait"
    told = spawned(node, "", command=["sh", "-c", bomb])
    # The kernel lets root have as many as it likes; the node's look at the whole tree does not.
    refused = "exit 2" in told["detail"] and "fork" in told["detail"]
    assert refused or "had more than 16 processes" in told["detail"], told["detail"]
    until(lambda: not _marked(told["id"]), what="no process is left")


def test_a_memory_hog_is_ended(node: LiveNode) -> None:
    """One process is refused the memory by the kernel; several that stay below it each are ended together."""
    one = spawned(node, 'tried("hog", lambda: len(bytearray(200 << 20)))')
    assert one["found"]["hog"].startswith("MemoryError")
    hogs = """
for _ in range(4):
    if os.fork() == 0:
        keep = bytearray(os.urandom(1 << 20)) * 40
        time.sleep(600)
time.sleep(600)
"""
    assert "used more than 96.0 MiB of memory" in spawned(node, hogs)["detail"]


def test_shared_memory_counts_as_well(node: LiveNode) -> None:
    """What the kernel's limit on a process's data does not see, the node does."""
    hog = """
import mmap
area = mmap.mmap(-1, 200 << 20)
for at in range(0, len(area), 4096): area[at] = 1
time.sleep(600)
"""
    assert "used more than 96.0 MiB of memory" in spawned(node, hog)["detail"]


def test_what_has_no_name_counts_as_well(node: LiveNode) -> None:
    """Memory that is a file and mapped nowhere; files that were deleted and are held open; both in small ones."""
    memory = """
held = [os.memfd_create("x") for _ in range(150)]
for fd in held: os.write(fd, bytes(1 << 20))
time.sleep(600)
"""
    assert "used more than 96.0 MiB of memory" in spawned(node, memory)["detail"]
    deleted = """
held = []
for _ in range(8):
    held.append(open("x", "wb"))
    os.unlink("x")
    held[-1].write(os.urandom(1 << 20))
    held[-1].flush()
time.sleep(600)
"""
    assert "holds more than 4.0 MiB in files that it deleted" in spawned(node, deleted)["detail"]


def test_files_that_hold_nothing_are_counted() -> None:
    """So many that deleting them would take long: ended before that, wherever it may write."""
    needs_sandbox()
    with lone_node({"subagents": {"attempts": 1, "timeout": "30s", "files": 100}}) as node:
        script = "for at in range(200): os.mkdir(%s + f'/{at}')\ntime.sleep(600)"
        for place, name in (("os.environ['TMPDIR']", "tmp"), ("os.getcwd()", "work")):
            told = spawned(node, script % place)
            assert f"made more than 100 files and folders in {name}/" in told["detail"], told["detail"]


def test_files_and_cpu_are_limited(node: LiveNode) -> None:
    """A file beyond the limit, many files beyond it together, and a busy loop: each is ended with its reason."""
    big = spawned(node, 'tried("big", lambda: open("big", "wb").write(bytes(2 << 20)))')
    assert "File too large" in str(big["found"]["big"])
    many = "for at in range(20): open(str(at), 'wb').write(bytes(1 << 20))\ntime.sleep(600)"
    assert "wrote more than 4.0 MiB in work/" in spawned(node, many)["detail"]
    assert "CPU time" in spawned(node, "while True: pass")["detail"]


def test_a_grandchild_in_a_session_of_its_own_is_ended_too(node: LiveNode) -> None:
    """setsid, a double fork and a clean environment: when the sub-agent is over, so is all that it started."""
    told = spawned(
        node,
        f"""
subprocess.Popen(["setsid", "env", "-i", {sys.executable!r}, "-c", "import time; '{{0}}'; time.sleep(987)".format("stray")])
time.sleep(0.3)
tried("there", lambda: [open(f"/proc/{{pid}}/cmdline").read() for pid in os.listdir("/proc") if pid.isdigit()])
""",
    )
    assert "987" in str(told["found"]["there"])
    until(lambda: not _running("time.sleep(987)"), what="the stray is gone")


def test_one_that_is_stopped_is_ended_for_its_silence(node: LiveNode) -> None:
    """A hung one neither prints nor calls: it is ended after its heartbeat, long before its time is over."""
    began = time.monotonic()
    hung = spawned(node, "print('begun', flush=True)\nsignal.raise_signal(signal.SIGSTOP)", heartbeat="1s")
    assert "hung: neither printed nor called for 1 s" in hung["detail"]
    assert time.monotonic() - began < 15
    talking = "for _ in range(25):\n    print('here', flush=True)\n    time.sleep(0.1)"
    assert spawned(node, talking, heartbeat="1s")["status"] == "done"


def test_the_deadline_ends_all_of_it(node: LiveNode) -> None:
    """Signals ignored, children started: at the deadline it is over."""
    script = """
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)
os.fork()
while True: print("still here", flush=True); time.sleep(0.2)
"""
    agent = spawn(node, script, timeout="1s")
    assert "not done after 1 s" in closed(node, agent)["detail"]
    until(lambda: not _marked(agent), what="no process is left")


def _marked(text: str) -> list[int]:
    return _having("environ", text)


def _running(text: str) -> list[int]:
    return _having("cmdline", text)


def _having(file: str, text: str) -> list[int]:
    """The processes whose environment or command holds ``text``."""
    pids = []
    for path in Path("/proc").glob(f"[0-9]*/{file}"):
        try:
            if text.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                pids.append(int(path.parent.name))
        except OSError:
            continue
    return pids
