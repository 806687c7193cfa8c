"""The services of a node, in this process and with real programs: orders, probes, modes, and what is told of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from outlast.alerts import Alerts
from outlast.clock import SystemClock
from outlast.core.modes import Mode, Standing, pace
from outlast.errors import BadInput
from outlast.home import Home
from outlast.settings import Service
from outlast.store.events import EventLog
from outlast.work import services
from outlast.work.guard import Guard
from outlast.work.services import Services

LIMIT_S = 60.0
SLEEP: dict[str, Any] = {"command": ["sleep", "600"]}
AT_ONCE: dict[str, Any] = {"base": "1ms", "max": "1ms"}


class Kept:
    """Services that run, and what is around them."""

    def __init__(self, root: Path, declared: dict[str, dict[str, Any]]) -> None:
        home = Home(root / "coz")
        home.logs.mkdir(parents=True)
        self.clock = SystemClock()
        events = EventLog(home.logs, "coz", self.clock)
        self.mode: Mode = "normal"
        self.around: Any = SimpleNamespace(
            config=SimpleNamespace(node="coz", services=msgspec.convert(declared, dict[str, Service])),
            home=home,
            events=events,
            clock=self.clock,
            alerts=Alerts(events, self.clock),
            guard=Guard(),
            standing=lambda: Standing(self.mode),
            pace=lambda priority: pace(self.mode, priority),
        )
        self.services = Services(self.around)

    def told(self, name: str) -> dict[str, Any]:
        one: dict[str, Any] = self.services.report()["supervised"][name]
        return one

    async def order(self, name: str) -> dict[str, Any]:
        done: Any = self.services.orders()["restart"](json.dumps({"name": name}).encode())
        answer: dict[str, Any] = await done
        return answer

    def alerts(self) -> list[str]:
        return [alert.name for alert in self.around.alerts.shown]

    def printed(self, name: str) -> str:
        return (self.around.home.outputs / f"{name}.log").read_text()


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def keeping(root: Path, **declared: dict[str, Any]) -> AsyncIterator[Kept]:
    kept = Kept(root, declared)
    running = asyncio.create_task(kept.services.run())
    try:
        async with asyncio.timeout(LIMIT_S):
            yield kept
    finally:
        running.cancel()
        # As a node does that stops: again and again.
        while not running.done():
            await asyncio.wait({running}, timeout=0.01)
            running.cancel()
        assert kept.around.guard.running == []


def test_the_policy_is_kept(tmp_path: Path) -> None:
    """always is started again after exit 0 as well, on-failure only after a failure, never not at all."""

    async def test() -> None:
        script = {"command": ["sh", "-c", "echo ran; exit $CODE"], "most": 100, **AT_ONCE}
        declared = {
            f"{policy}-{code}": {**script, "restart": policy, "environment": {"CODE": code}}
            for policy in ("always", "on-failure", "never")
            for code in ("0", "1")
        }
        async with keeping(tmp_path, **declared) as kept:
            again = {"always-0", "always-1", "on-failure-1"}
            await until(lambda: all(kept.told(name)["restarts"] > 2 for name in again))
            over = {name: kept.told(name) for name in declared if name not in again}
            assert {one["state"] for one in over.values()} == {"ended"}
            assert {one["last_exit"] for one in over.values()} == {0, 1}
            assert all(kept.printed(name).count("ran\n") == 1 for name in over)

    asyncio.run(test())


def test_a_person_ends_a_rest(tmp_path: Path) -> None:
    """An order starts what rests at once, and its restarts count from none again; the alert stays until it has lasted."""

    async def test() -> None:
        script = 'test -e mended && exec sleep 600; echo "no config" >&2; exit 2'
        bad = {"command": ["sh", "-c", script], "most": 2, "within": "1s", "rest": "10m", **AT_ONCE}
        async with keeping(tmp_path, bad=bad) as kept:
            await until(lambda: kept.told("bad")["state"] == "resting")
            assert kept.alerts() == ["service bad"]
            assert kept.told("bad")["due_s"] > 500
            (kept.around.home.workspace / "mended").touch()
            answer = await kept.order("bad")
            assert answer["state"] == "running" and answer["pid"]
            assert kept.alerts() == ["service bad"]
            await until(lambda: kept.alerts() == [])
            assert kept.told("bad")["state"] == "running"

    asyncio.run(test())


def test_what_a_probe_found_counts_as_a_failure(tmp_path: Path) -> None:
    """`restart` of a probe ends the service and starts it again under its limits, with the probe's words as the reason."""

    async def test() -> None:
        async with keeping(tmp_path, web={**SLEEP, "most": 1, "rest": "10m", **AT_ONCE}) as kept:
            await until(lambda: kept.told("web")["pid"])
            first = kept.told("web")["pid"]
            kept.services.restart("web", "no answer for 90 s")
            await until(lambda: kept.told("web")["pid"] not in (None, first))
            assert kept.told("web")["last_reason"] == "no answer for 90 s" and kept.told("web")["restarts"] == 1
            kept.services.restart("web", "no answer for 90 s")
            await until(lambda: kept.told("web")["state"] == "resting")
            # What does not run is not restarted by a probe.
            kept.services.restart("web", "no answer for 90 s")
            await asyncio.sleep(0.05)
            assert kept.told("web")["state"] == "resting"

    asyncio.run(test())


def test_what_cannot_be_started_is_told(tmp_path: Path) -> None:
    """A command that is not there is named with the mend, and tried again as any failure."""

    async def test() -> None:
        async with keeping(tmp_path, gone={"command": ["/no/such"], **AT_ONCE, "most": 3}) as kept:
            await until(lambda: kept.told("gone")["state"] == "resting")
            assert "/no/such does not exist; correct it" in kept.told("gone")["last_reason"]
            assert kept.told("gone")["last_exit"] is None
            answer = await kept.order("gone")
            assert answer["state"] in ("waiting", "resting") and answer["pid"] is None

    asyncio.run(test())


def test_what_is_shed_stays_so(tmp_path: Path) -> None:
    """A mode stops what it sheds; an order does not start it, and says why; P2 goes on in degraded mode, P3 does not."""

    async def test() -> None:
        declared = {name: {**SLEEP, "priority": name.upper()} for name in ("p0", "p1", "p2", "p3")}
        async with keeping(tmp_path, **declared) as kept:

            def running() -> list[str]:
                return [name for name in declared if kept.told(name)["pid"]]

            await until(lambda: len(running()) == 4)
            kept.mode = "degraded"
            await until(lambda: running() == ["p0", "p1", "p2"])
            assert (await kept.order("p3"))["state"] == "shed"
            kept.mode = "emergency"
            await until(lambda: running() == ["p0"])
            kept.mode = "normal"
            await until(lambda: len(running()) == 4)
            assert kept.alerts() == []

    asyncio.run(test())


def test_a_name_that_is_not_known(tmp_path: Path) -> None:
    """The mend is the name that was meant, or where names come from."""

    async def test() -> None:
        async with keeping(tmp_path, gateway=SLEEP) as kept:
            with pytest.raises(BadInput, match="did you mean gateway?"):
                kept.services.restart("gatway", "x")
            with pytest.raises(BadInput, match="one of: gateway"):
                await kept.order("zzz")
        async with keeping(tmp_path / "none") as kept:
            with pytest.raises(BadInput, match="inventory, under outlast_services"):
                kept.services.restart("x", "x")

    asyncio.run(test())


def test_a_stop_keeps_each_grace(tmp_path: Path) -> None:
    """However often the stop is asked for, one that needs its grace has it, and one that overstays it is killed."""

    async def test() -> None:
        tidy = "trap 'sleep 0.3; echo tidy; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
        deaf = "trap '' TERM; echo ready; while :; do sleep 0.02; done"
        declared = {
            "tidy": {"command": ["sh", "-c", tidy]},
            "deaf": {"command": ["sh", "-c", deaf], "grace": "200ms", "priority": "P3"},
        }
        async with keeping(tmp_path, **declared) as kept:
            await until(lambda: all(kept.told(name)["pid"] and "ready" in kept.printed(name) for name in declared))
        assert kept.printed("tidy").endswith("tidy\n")

    asyncio.run(test())


def test_its_output_tells_its_story(tmp_path: Path) -> None:
    """Between what a service printed stands when it was started and how it ended."""

    async def test() -> None:
        async with keeping(tmp_path, job={"command": ["sh", "-c", "echo hello; exit 4"], "restart": "never"}) as kept:
            await until(lambda: kept.told("job")["state"] == "ended")
            started, hello, ended = kept.printed("job").splitlines()
            assert "job started, pid " in started and hello == "hello"
            assert ended.endswith("job ended with exit code 4; it stays so")

    asyncio.run(test())


def test_a_stop_of_all_takes_no_sum_of_graces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four that do not listen, of four priorities, are asked from P3 to P0, have their graces, and end within one budget."""
    monkeypatch.setattr(services, "SPARE_S", 0.6)
    monkeypatch.setattr(services, "_KILLED_S", 0.4)
    deaf = "trap 'date +%s.%N > $0.asked' TERM; echo ready; while :; do sleep 0.02; done"
    names = ("p3", "p2", "p1", "p0")
    declared: dict[str, Any] = {
        name: {"command": ["sh", "-c", deaf, str(tmp_path / name)], "grace": "800ms", "priority": name.upper()}
        for name in names
    }

    async def test() -> float:
        async with keeping(tmp_path, **declared) as kept:
            await until(lambda: all(kept.told(name)["pid"] and "ready" in kept.printed(name) for name in names))
            began = time.monotonic()
        return time.monotonic() - began

    took = asyncio.run(test())
    asked = [float((tmp_path / f"{name}.asked").read_text()) for name in names]
    assert 0.8 <= took < 4 * 0.8 and asked[0] + 0.15 < asked[1]


def test_a_defect_in_keeping_one_service_is_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its neighbour runs on, untouched; a person is told which."""

    async def broken(self: Services, one: Any) -> None:
        if one.name == "bad":
            raise LookupError("a defect")
        await settle(self, one)

    settle = Services._settle
    monkeypatch.setattr(Services, "_settle", broken)

    async def test() -> None:
        async with keeping(tmp_path, bad=SLEEP, good=SLEEP) as kept:
            await until(lambda: kept.told("good")["pid"] and kept.alerts())
            pid = kept.told("good")["pid"]
            await asyncio.sleep(1.2)
            assert kept.alerts() == ["part services/bad"] and kept.told("good")["pid"] == pid

    asyncio.run(test())
