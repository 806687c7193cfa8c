"""The real gateway of OpenClaw, run by its launcher and watched by a real node: broken in each way, noticed, and brought back;
its tokens changed while messages go through it, and its disk full.

One gateway for all of it, in this order, because a start of it takes its time; and after a full disk it cannot take new tokens
without a restart of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.blockdev import SmallDisk, small_disk
from support.gateway_scene import MOST, START_S, Scene, gone
from support.live import share_keys, until
from support.needs import missing
from support.provider import Provider

from outlast.errors import GatewayError, OutlastError
from outlast.openclaw import hooks, rpc, tokens

# Ends a process at each place where a rotation has changed something, and the one after it goes on.
CUT = """
import sys, os, signal
from outlast.store import durable
from outlast.cli import main
real, left = durable.replace, int(sys.argv.pop(1))
def replace(*words, **more):
    global left
    left -= 1
    done = real(*words, **more)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
durable.replace = replace
sys.exit(main())
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk | None]:
    """A disk for the node, which can be filled; None where nobody may make one. OpenClaw verifies no copy with less than 256 MiB."""
    if os.geteuid():
        yield None
        return
    with small_disk(tmp_path_factory.mktemp("disk"), mib=640) as made:
        yield made


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, disk: SmallDisk | None) -> Iterator[Scene]:
    """A node and its gateway, both started."""
    with Provider("one") as provider:
        made = Scene(disk.path if disk else tmp_path_factory.mktemp("gateway"), provider.port)
        share_keys(made.node)
        try:
            made.launch()
            made.node.start()
            yield made
        finally:
            made.end()
            made.node.kill()
            assert not made.listens()


def test_healthy(scene: Scene) -> None:
    """It works when it says so by calls that read its database; its token is in no environment and no argument; its state is
    copied; a wrong token is refused, and nobody calls without the right that a call needs."""
    scene.until_working()
    found = scene.status()
    assert (found["alive"], found["true"], found["reason"]) == (True, True, "")
    leader = scene.family()[0]
    for one in scene.family():
        with contextlib.suppress(psutil.Error):
            shown = json.dumps([one.environ(), one.cmdline()])
            assert scene.gateway.token not in shown and scene.gateway.hook_token not in shown
    assert {one.laddr.ip for one in leader.net_connections() if one.status == psutil.CONN_LISTEN} <= {
        "127.0.0.1",
        "::1",
    }
    assert isinstance(asyncio.run(rpc.call(scene.place, "status")), dict)
    for kind, asked in (("refused", {"token": secrets.token_hex(24)}), ("late", {"timeout": 0.001})):
        with pytest.raises(GatewayError) as caught:
            asyncio.run(rpc.call(scene.place, "status", **asked))
        assert caught.value.kind == kind
    with pytest.raises(GatewayError) as caught:
        asyncio.run(rpc.call(scene.place, "secrets.reload"))
    assert caught.value.kind == "failed"
    assert asyncio.run(rpc.call(scene.place, "secrets.reload", scopes=rpc.ADMIN))["ok"] is True
    until(lambda: scene.status().get("snapshot_at"), limit=120, what="a copy of its state")
    assert scene.outlast("status").returncode == 0
    assert "mode normal" in scene.node.cli("status").stdout


def test_changed_under_traffic_nothing_is_refused(scene: Scene) -> None:
    """While the agent is woken and the gateway is asked again and again, both tokens change: no call is refused, the running
    gateway refuses the old ones at once, and no process or file holds them."""
    old, stop, wrong, calls = scene.both(), threading.Event(), [], []

    def traffic() -> None:
        while not stop.is_set():
            try:
                asyncio.run(rpc.call(scene.place, "cron.status"))
                calls.append(
                    asyncio.run(
                        hooks.wake(scene.place, scene.place.settings.agent, f"call {len(calls)}", f"call-{len(calls)}")
                    )
                )
            except OutlastError as error:
                wrong.append(str(error))

    caller = threading.Thread(target=traffic)
    caller.start()
    try:
        until(lambda: len(calls) > 2, what=f"traffic: {wrong}")
        done = scene.outlast("tokens", "--rotate", "--json")
        seen = len(calls)
        until(lambda: len(calls) > seen + 2, what="traffic afterwards")
    finally:
        stop.set()
        caller.join(60)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told == {"changed": True, "resumed": False, "proved": True, "restarted": False, "held": []}
    assert wrong == []
    assert scene.opens(*old) == (False, False)
    assert scene.opens(*scene.both()) == (True, True)
    assert not [word for word in (*old, *scene.both()) if word in done.stdout + done.stderr]
    assert not scene.place.rotation.exists()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_cut_off_it_goes_on(scene: Scene, at: int) -> None:
    """Killed after it planned, after the hooks' token, after the gateway's: messages go on, and the same command completes,
    with the tokens that were planned."""
    old = scene.both()
    command = [sys.executable, "-c", CUT, str(at), "--home", str(scene.home.root), "openclaw", "tokens", "--rotate"]
    cut = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))
    assert cut.returncode == -signal.SIGKILL, cut.stderr
    planned = tokens.change(scene.place)
    assert planned is not None
    assert asyncio.run(
        hooks.wake(scene.place, scene.place.settings.agent, f"cut off at {at}", f"cut-{at}-{time.time()}")
    )
    assert asyncio.run(rpc.call(scene.place, "cron.status"))
    done = scene.outlast("tokens", "--rotate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "went on with what was begun" in done.stdout
    assert scene.both() == (planned.gateway.new, planned.hooks.new)
    assert scene.opens(*old) == (False, False)


def test_no_room_on_the_disk(scene: Scene, disk: SmallDisk | None) -> None:
    """The disk is full while it runs: its HTTP stays well, so that it is the node that says so; a message fails, nothing is
    restarted or mended for that, and with room again the same process takes a turn."""
    if disk is None:
        missing("root, for a small disk")
    before = scene.said()
    try:
        disk.fill()
        until(lambda: scene.node.status()["mode"] == "emergency", limit=30, what="an emergency")
        body = {"message": "who is there?", "agentId": "axiom", "deliver": False, "waitForCompletion": True}
        assert scene.gateway.post("/hooks/agent", body)[0] == 502
        # Its calls go on from memory, mostly: whether one of these fails is OpenClaw's, that nothing is done about it is ours.
        looks = [scene.node.order("openclaw/look") for _ in range(6)]
        assert all(found["alive"] and found["remedies"] == [] for found in looks)
    finally:
        disk.make_room()
    assert scene.node.cli("resume", "--reason", "there is room").returncode == 0

    def answers() -> bool:
        # A command of its own may come while OpenClaw looks at its database anew.
        with contextlib.suppress(AssertionError):
            return "ECHO" in scene.gateway.turn("who is there?")
        return False

    until(answers, limit=120, what="a turn")
    assert (scene.said().pid, scene.said().starts) == (before.pid, before.starts)
    until(lambda: scene.node.status()["mode"] == "normal", limit=30, what="a calm node")


def test_killed_in_a_loop(scene: Scene) -> None:
    """kill -9, again and again: it is started again a few times and then no more, which is told with its reason; OpenClaw's
    doctor is tried next, and it works again when the killing ends."""
    began, killed, family = scene.said().starts, set[int](), scene.family()

    def loops() -> bool:
        found = scene.said()
        if found.phase == "running" and found.pid not in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGKILL)
            killed.add(found.pid)
        return found.phase == "resting"

    until(loops, limit=START_S, what="a crash loop that rests")
    assert scene.said().starts - began == MOST
    assert "SIGKILL" in scene.said().reason
    assert gone(family)
    until(lambda: scene.alert("crash loop", "SIGKILL"), limit=30, what="an alert")
    until(lambda: scene.said().phase == "mending", limit=60, what="its doctor")
    assert not scene.listens()
    scene.until_working()
    assert "its doctor ended with exit code 0" in scene.out.read_text()
    assert [one["remedy"] for one in scene.status()["remedies"]] == ["doctor"]
    assert not list(scene.place.launched.parent.glob("doctor*"))


def test_a_broken_database_behind_a_200(scene: Scene) -> None:
    """The first page of its database is overwritten while it runs: HTTP goes on saying that all is well, and the node says
    within two minutes that it is not. SIGTERM does not end it, so it is killed; what comes after is not started again and
    again; nothing is replaced, and a person is told the command that helps. The node is degraded, and goes on. Its tokens are changed
    all the same, and it is said that nothing was proven."""
    database, family = scene.place.state / "state" / "openclaw.sqlite", scene.family()
    broken = time.monotonic()
    for path in (database, database.with_name("openclaw.sqlite-wal")):
        with path.open("r+b") as file:
            file.write(os.urandom(min(path.stat().st_size, 8192 if path == database else 1 << 30)))
    with urllib.request.urlopen(f"{scene.place.url}/readyz", timeout=10) as answer:
        assert answer.status == 200
    until(lambda: scene.status().get("state") in ("broken", "down") or scene.said().phase != "running", limit=120)
    print(f"noticed after {time.monotonic() - broken:.1f} s")
    until(lambda: scene.said().phase == "held", limit=START_S, what="a gateway that is not started any more")
    print(f"given up after {time.monotonic() - broken:.1f} s")
    assert "killed by SIGKILL" in scene.out.read_text()
    assert gone(family) and not scene.listens()
    found = scene.said()
    assert (found.code, "database" in found.reason) == (78, True)
    until(lambda: scene.alert("outlast openclaw restore --last"), limit=60, what="an alert that names the command")
    status = until(lambda: (one := scene.node.status())["mode"] == "degraded" and one, limit=10, what="degraded")
    assert status["ready"] and "OpenClaw" in status["mode_reasons"][0]
    assert scene.said().starts == found.starts
    assert scene.outlast("status").returncode == 1
    done = scene.outlast("tokens", "--rotate")
    assert done.returncode == 0 and "it starts with these" in done.stdout, done.stderr


def test_put_back_by_a_person(scene: Scene) -> None:
    """The command that was named brings it back, with its new tokens, keeps what was there, and asks first."""
    refused = scene.outlast("restore", "--last", "--json")
    assert (refused.returncode, json.loads(refused.stdout)["field"]) == (2, "--sure")
    done = scene.outlast("restore", "--last", "--sure", "--json")
    assert done.returncode == 0, done.stderr
    assert (Path(json.loads(done.stdout)["kept"]) / "state" / "openclaw.sqlite").exists()
    scene.until_working()
    assert scene.opens(*scene.both()) == (True, True)
    until(lambda: not scene.alert() and scene.node.status()["mode"] == "normal", limit=60, what="a calm node")


def test_a_stranger_has_its_port(scene: Scene) -> None:
    """A port that another program has is waited for, and the program named; it starts when the port is free."""
    stopped = scene.outlast("stop", "--reason", "a stranger comes")
    assert stopped.returncode == 0 and "outlast openclaw start" in stopped.stdout, stopped.stderr
    assert not scene.listens()
    until(lambda: scene.status().get("state") == "stopped", limit=30)
    with subprocess.Popen(
        [sys.executable, "-m", "http.server", str(scene.place.settings.port), "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as stranger:
        until(scene.listens)
        started = scene.outlast("start")
        assert started.returncode == 1 and f"process {stranger.pid} (python" in started.stdout
        assert until(lambda: scene.alert(f"process {stranger.pid}"), limit=30)
        stranger.kill()
    until(lambda: scene.said().phase == "running", limit=30, what="a start")


def test_ended_as_a_whole(scene: Scene) -> None:
    """The launcher killed, and nothing of the gateway is left; started anew and stopped, its exit code is 0, and process and
    port are gone."""
    assert scene.launcher is not None
    family = until(lambda: scene.said().phase == "running" and scene.family(), limit=60)
    scene.launcher.kill()
    scene.launcher.wait(30)
    until(lambda: gone(family), limit=15, what="the end of all that it started")
    scene.launch()
    family = until(lambda: scene.said().pid not in (0, family[0].pid) and scene.family(), limit=60)
    assert scene.end() == 0
    assert gone(family) and not scene.listens()
    assert scene.said().phase == "ended"
    until(lambda: scene.status().get("state") == "stopped", limit=30)
