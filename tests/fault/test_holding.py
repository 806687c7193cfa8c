"""What holds a failure undoes it: when it is told to, when its time is over, and when whoever began it is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.live import until

COLLECTIONS = Path(__file__).resolve().parents[2] / "collections"
sys.path.insert(0, str(COLLECTIONS))

from ansible_collections.outlast.agents.plugins.module_utils import holding, outages  # noqa: E402
from ansible_collections.outlast.agents.plugins.module_utils.outage_wire import Wire  # noqa: E402


@contextlib.contextmanager
def marked(path: Path, *, broken: bool = False) -> Iterator[dict[str, Any]]:
    """A failure that is a file for as long as it holds."""
    if broken:
        raise outages.OutageTrouble("disk: there is none; mend: buy one")
    path.touch()
    try:
        yield {"told": "this"}
    finally:
        path.unlink()


def test_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """It holds until then, is known by its note to whoever comes later, and says when it began and ended."""
    state, path = str(tmp_path / "state"), tmp_path / "failed"
    before = time.time()
    said = holding.begin(state, "fill", lambda: marked(path), 60.0)
    assert path.exists() and said["facts"] == {"told": "this"} and before <= said["at"] <= time.time()
    assert list(holding.held(state)) == ["fill"]
    ended = holding.end(state, "fill")
    assert not path.exists() and said["at"] <= ended["at"] <= time.time()
    assert holding.held(state) == {} and holding.end(state, "fill") == {}


def test_it_ends_by_itself(tmp_path: Path) -> None:
    """When its time is over, though nobody tells it; who asks later is told when that was."""
    state, path = str(tmp_path / "state"), tmp_path / "failed"
    said = holding.begin(state, "fill", lambda: marked(path), 0.2)
    until(lambda: not path.exists(), limit=10, what="the failure ends")
    assert 0.1 < holding.end(state, "fill")["at"] - said["at"] < 9


def test_it_outlives_whoever_began_it(tmp_path: Path) -> None:
    """Ansible's module is killed, with its whole process group: the failure ends in time all the same."""
    script = (
        "import sys; sys.path[:0] = [sys.argv[2]]; import test_holding as t, pathlib, time; "
        "print(t.holding.begin(sys.argv[1] + '/state', 'x', lambda: t.marked(pathlib.Path(sys.argv[1], 'failed')), 2.0), flush=True); "
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, env=environment) as caller:
        assert caller.stdout is not None and caller.stdout.readline()
        assert (tmp_path / "failed").exists()
        os.killpg(caller.pid, signal.SIGKILL)
    assert (tmp_path / "failed").exists()
    until(lambda: not (tmp_path / "failed").exists(), limit=20, what="the failure ends")


def test_what_cannot_be_caused_is_told_in_one_line(tmp_path: Path) -> None:
    """And nothing is held."""
    said = holding.begin(str(tmp_path), "fill", lambda: marked(tmp_path / "failed", broken=True), 60.0)
    assert said["wrong"] == "disk: there is none; mend: buy one" and holding.held(str(tmp_path)) == {}


def place(home: Path, **more: Any) -> outages.Place:
    """A node's home as the module outage is told of it."""
    values = {"home": str(home), "real": False, "peers": {}, "state": str(home / "run"), "manager": "supervisord"}
    return outages.Place({**values, **more})


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_sleep_stops_all_and_wakes_all(tmp_path: Path) -> None:
    """Every process of the home stands still, one that ends meanwhile is no matter, and all go on afterwards."""
    mark = {**os.environ, "OUTLAST_WORK": f"{tmp_path}/1"}
    running = [subprocess.Popen(["/bin/sleep", "60"], env=mark) for _ in range(3)]

    def states() -> list[str]:
        return [Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()[0] for one in running[:2]]

    try:
        until(lambda: "T" not in states() and len(outages.processes.of_home(str(tmp_path))) == 3, what="they run")
        with outages.sleep(place(tmp_path)) as facts:
            assert facts["frozen"] == 3
            # A process that waits for a processor stops when it gets one.
            until(lambda: states() == ["T", "T"], what="they stand still")
            running[2].kill()
        until(lambda: "T" not in states(), what="they go on")
    finally:
        for one in running:
            one.kill()
            one.wait()


def test_a_wire_that_is_cut_swallows_and_does_not_refuse() -> None:
    """Whole it carries both ways; cut, who sends waits for an answer; whole again, what was sent arrives."""
    with socket.create_server(("127.0.0.1", 0)) as far:
        wire = Wire(urlsplit(f"http://127.0.0.1:{far.getsockname()[1]}"))
        wire.start()
        with socket.create_connection(("127.0.0.1", wire.port)) as near:
            near.settimeout(10)
            there, _ = far.accept()
            with there:
                there.settimeout(10)
                near.sendall(b"hello")
                assert there.recv(5) == b"hello"
                there.sendall(b"you too")
                assert near.recv(7) == b"you too"
                wire.whole = False
                near.sendall(b"lost?")
                there.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    there.recv(5)
                there.settimeout(10)
                wire.whole = True
                assert there.recv(5) == b"lost?"


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="writes gigabytes where room cannot be reserved")
def test_room_that_is_taken_is_given_back(tmp_path: Path) -> None:
    """The disk is over the threshold while it holds, no file is seen, and nothing is left of it."""
    found = os.statvfs(tmp_path)
    used = found.f_blocks - found.f_bfree
    percent = 100.0 * used / (used + found.f_bavail)
    if percent > 60:
        pytest.skip("there is too little room to take some of it")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/tight.json").write_text(f'{{"facts": {{"limit": {percent - 0.4}}}}}')
    with outages.fill(place(tmp_path)) as facts:
        assert facts["bytes"] > 0 and [path.name for path in tmp_path.iterdir()] == ["run"]
        assert os.statvfs(tmp_path).f_bavail < found.f_bavail
    until(lambda: os.statvfs(tmp_path).f_bavail > found.f_bavail - facts["bytes"] // found.f_frsize // 2, what="room")
