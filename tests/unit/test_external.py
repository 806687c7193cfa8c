"""The services of others: what an answer says of one, when it is asked again, and what the node makes of it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clock import FixedClock
from support.live import free_port
from support.outsider import Outsider, certified, outsider

from outlast.alerts import Alerts
from outlast.core.external import judge, place, retry_after
from outlast.core.modes import Standing
from outlast.home import Home
from outlast.settings import Agent, Config, External, Listen
from outlast.store.events import EventLog
from outlast.upkeep import Around
from outlast.work.external import Externals

NOW = 1_800_000_000.0


class Scene:
    """One external service, as a node sees it, on a clock that stands."""

    def __init__(self, root: Path, url: str, **settings: Any) -> None:
        self.home = Home(root)
        self.home.logs.mkdir(parents=True)
        self.clock = FixedClock(NOW)
        self.standing = Standing()
        events = EventLog(self.home.logs, "coz", self.clock)
        self.alerts, self.causes = Alerts(events, self.clock), dict[str, str]()
        external = {"models": External(url, **{"timeout": "5s", **settings})}
        config = Config("coz", Listen("127.0.0.1", 1), Agent(["/bin/true"]), external=external)
        none = cast(Any, None)
        self.externals = Externals(
            Around(
                config, self.home, none, none, events, self.clock, self.alerts,
                lambda: self.standing, dict, dict, self.causes,
            )
        )  # fmt: skip

    def look(self) -> float:
        """Ask once; how long it waits then."""
        return asyncio.run(self.externals._look(self.externals._services[0]))

    def told(self) -> dict[str, Any]:
        """What the node says of it."""
        told: dict[str, Any] = self.externals.report()["models"]
        return told

    def events(self) -> list[str]:
        """Every event, by name."""
        lines = [line for path in self.home.logs.glob("*.jsonl") for line in path.read_text().splitlines()]
        return [json.loads(line)["event"] for line in lines]


@pytest.fixture
def service() -> Iterator[Outsider]:
    """One that answers as it is told."""
    with outsider() as found:
        yield found


def test_an_answer_is_a_sign_of_life(tmp_path: Path, service: Outsider) -> None:
    """Below 500 it is there, whatever it thinks of the request; asked without a body, and without a word in the log."""
    scene = Scene(tmp_path, f"{service.url}/v1/models?key=secret")
    for service.status in (200, 204, 301, 401, 404):
        assert scene.look() == 300.0
        assert (scene.told()["state"], scene.told()["status"]) == ("closed", service.status)
    assert set(service.asked) == {("HEAD", "/v1/models?key=secret")}
    assert "secret" not in json.dumps(scene.told())
    assert scene.events() == []


def test_who_does_not_know_head_is_asked_otherwise(tmp_path: Path, service: Outsider) -> None:
    """405 and 501 to a HEAD say nothing of the service: then by GET."""
    scene = Scene(tmp_path, service.url)
    for service.head in (405, 501):
        scene.look()
        assert scene.told()["status"] == 200
    assert [method for method, _ in service.asked] == ["HEAD", "GET"] * 2


def test_three_failures_open_the_breaker_and_one_trial_decides(tmp_path: Path, service: Outsider) -> None:
    """Closed, open for the cooldown, half-open for one request, and open again or closed; an alert while it is open."""
    scene = Scene(tmp_path, service.url)
    asked, stood = scene.externals._ask, []

    async def ask(one: Any) -> Any:
        stood.append(one.breaker.status)
        return await asked(one)

    scene.externals._ask = ask  # type: ignore[method-assign]
    service.status = 503
    assert [scene.look() for _ in range(3)] == [300.0, 300.0, 300.0]
    told = scene.told()
    assert (told["state"], told["failures"], told["note"]) == ("open", 3, f"{service.url} answers with 503")
    [alert] = scene.alerts.shown
    assert alert.name == "external models" and "models, which work here depends on, fails" in alert.text
    scene.clock.now += 300.0
    assert scene.look() == 300.0
    assert scene.told()["state"] == "open"
    service.status = 200
    scene.clock.now += 300.0
    assert scene.look() == 300.0
    scene.look()
    assert (scene.told()["state"], scene.told()["note"], scene.alerts.shown) == ("closed", "", [])
    assert stood == ["closed"] * 3 + ["half-open"] * 2 + ["closed"]
    assert [name for name in scene.events() if name.startswith("external")] == ["external.opened", "external.closed"]
    assert scene.causes == {}


def test_one_that_is_not_there_opens_it_too(tmp_path: Path) -> None:
    """Nobody listens: in words, and without its query."""
    scene = Scene(tmp_path, f"http://127.0.0.1:{free_port()}/x?key=secret", failures=1, cooldown="1m")
    assert scene.look() == 60.0
    assert "Connection refused" in scene.told()["note"]
    assert "secret" not in (tmp_path / "workspace").joinpath("logs").glob("*.jsonl").__next__().read_text()


@pytest.mark.parametrize(
    ("status", "header", "wait"), [(429, None, 300.0), (429, "7", 300.0), (429, "900", 900.0), (503, "600", 600.0)]
)
def test_a_service_that_limits_us_degrades_the_node(
    tmp_path: Path, service: Outsider, status: int, header: str | None, wait: float
) -> None:
    """Until it does not: a cause with its name; that is no failure of it; it is asked no sooner than it says."""
    scene = Scene(tmp_path, service.url, failures=1)
    service.status, service.headers = status, {"Retry-After": header} if header else {}
    assert scene.look() == scene.look() == wait
    assert scene.causes == {"external models": "models rate-limits us"}
    assert (scene.told()["state"], scene.told()["breaker"], scene.alerts.shown) == ("limited", "closed", [])
    service.status, service.headers = 200, {}
    scene.look()
    assert (scene.causes, scene.told()["state"]) == ({}, "closed")
    assert scene.events() == ["external.limited", "external.unlimited"]


def test_an_emergency_asks_nobody(tmp_path: Path, service: Outsider) -> None:
    """What is shed is not asked; afterwards it is."""
    scene = Scene(tmp_path, service.url, every="10ms")
    scene.standing = Standing("emergency")

    async def run() -> None:
        running = asyncio.create_task(scene.externals.run())
        await asyncio.sleep(0.2)
        assert (service.asked, scene.told()["state"]) == ([], "unasked")
        scene.standing = Standing()
        async with asyncio.timeout(20):
            while len(service.asked) < 3:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(run())


def test_https_is_asked_of_who_can_be_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate of an authority that this machine believes, for its address, is an answer; any other is a failure."""
    known, strange = certified(tmp_path / "known.pem"), certified(tmp_path / "strange.pem")
    elsewhere = certified(tmp_path / "elsewhere.pem", "127.0.0.2")
    for path, said in (
        (known, ""),
        (strange, "not believed: self-signed"),
        (elsewhere, "not believed: IP address mismatch"),
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(elsewhere if path is elsewhere else known))
        with outsider(path) as service:
            scene = Scene(tmp_path / path.stem, f"{service.url}/v1?key=secret")
            service.status, service.headers = 429, {"Retry-After": "1000"}
            wait = scene.look()
            assert said in scene.told()["note"]
            assert (wait, bool(service.asked)) == ((300.0, False) if said else (1000.0, True))


def test_https_that_never_answers_ends_in_time(tmp_path: Path) -> None:
    """It takes the connection and says nothing: over after its time, and nobody waits for its thread."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        scene = Scene(tmp_path, f"https://127.0.0.1:{silent.getsockname()[1]}/", timeout="300ms")
        began = time.monotonic()
        scene.look()
        assert time.monotonic() - began < 10
    assert "within 0.3 s" in scene.told()["note"] or "in time" in scene.told()["note"]


def test_nothing_heavy_is_loaded_for_plain_http() -> None:
    """ssl and http.client are megabytes: only an https URL loads them."""
    program = (
        "import sys; sys.modules['ssl'] = None\nimport outlast.work.external, outlast.net.client\ndel sys.modules['ssl']\n"
        "print([name for name in ('ssl', 'http.client', 'email', 'urllib.request') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@given(st.text(max_size=40), st.floats(0, 4e9))
def test_any_retry_after_is_bounded(text: str, now: float) -> None:
    """Whatever a service sends: nothing, or up to a day."""
    wait = retry_after(text, now)
    assert wait is None or 0 <= wait <= 86400


@given(st.integers(100, 999), st.text(max_size=10))
def test_limits_are_no_failures(status: int, header: str) -> None:
    """What limits us is there; what is below 500 is there; the rest is not."""
    judged = judge(status, header, NOW)
    assert judged.well == (judged.limited or status < 500)
    assert judged.limited or judged.wait == 0


def test_a_retry_after_may_be_a_date() -> None:
    """As RFC 9110 has it; one in the past asks for nothing."""
    assert retry_after("Fri, 15 Jan 2027 08:02:00 GMT", NOW) == 120.0
    assert retry_after("Fri, 15 Jan 2027 07:00:00 GMT", NOW) == 0.0
    assert retry_after("Fri, 15 Jan 2027 08:02:00 CET", NOW) is None
    assert judge(200, "120", NOW).limited is False


@pytest.mark.parametrize(
    ("url", "endpoint", "target"),
    [
        ("http://example.org", "http://example.org:80", "/"),
        ("https://example.org/v1/models?x=1&y=a%20b", "https://example.org:443", "/v1/models?x=1&y=a%20b"),
        ("http://[::1]:8888/health", "http://[::1]:8888", "/health"),
    ],
)
def test_where_a_url_leads(url: str, endpoint: str, target: str) -> None:
    """Scheme, host, the port that is usual where none is given, and path with query."""
    found = place(url)
    assert found is not None
    assert (found.endpoint, found.target) == (endpoint, target)


@pytest.mark.parametrize(
    "url",
    ["", "example.org", "ftp://example.org/", "http://u:p@example.org/", "http://example.org:0/", "http://example.org:70000/",
     "http://example.org/a b", "http://example.org/#x", "http:///x", "http://example.org?x", "https://exämple.org/",
     "http://a/\n"],
)  # fmt: skip
def test_what_cannot_be_asked(url: str) -> None:
    """Other schemes, passwords, ports that are none, and what no request line may hold."""
    assert place(url) is None
