"""A person is told, whatever happens on the way: a real node, the real apprise, and a receiver that comes and goes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from fault.scenes import events
from support.live import LiveNode, pair, until
from support.receiver import Receiver

from outlast.work.posting import post

SECRET = "canary-7d1f-secret"
RULES = {"quiet": "00:00-00:00", "calm": "1s"}


class Prying(threading.Thread):
    """Reads every command line and environment again and again until it is stopped; ``seen``: where the secret was."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.seen: set[str] = set()
        # So that a test can tell whether there was anything to be seen.
        self.senders: set[int] = set()

    def run(self) -> None:
        """Look."""
        while not self.over.wait(0.01):
            for process in psutil.process_iter():
                try:
                    words, environment = process.cmdline(), process.environ()
                except (psutil.Error, OSError):
                    continue
                if "outlast.work.send_alert" in words:
                    self.senders.add(process.pid)
                if SECRET in " ".join([*words, *environment.values()]):
                    self.seen.add(f"{process.pid}: {words}")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Somebody who is there, until the test says otherwise."""
    with Receiver() as made:
        yield made


@pytest.fixture
def node(tmp_path: Path, receiver: Receiver) -> Iterator[LiveNode]:
    """A node that tells the receiver, not started."""
    extra: dict[str, Any] = {"health": {"interval": "1s"}, "alerts": RULES}
    with pair(tmp_path, extra) as (coz, _):
        tell(coz, receiver.url(SECRET))
        yield coz


def tell(node: LiveNode, *urls: str) -> None:
    """Say where alerts go, as the role does."""
    node.home.alert_urls.write_text("".join(f"{url}\n" for url in urls))
    node.home.alert_urls.chmod(0o600)


def emergency(node: LiveNode, why: str) -> None:
    """Something urgent."""
    assert node.cli("emergency", "--reason", why).returncode == 0


def test_what_nobody_could_take_arrives_after_a_kill(node: LiveNode, receiver: Receiver) -> None:
    """The receiver is away, the node is killed, both come back: the alert arrives, once, and is not told again by another start."""
    receiver.down()
    node.start()
    emergency(node, "the first of them")
    until(lambda: events(node, "alert.untold"), what="it was tried")
    assert json.loads(node.home.unsent_alerts.read_text())["items"]["mode emergency"]["told"] is None
    node.kill()
    receiver.up()
    node.start()
    until(lambda: "the first of them" in receiver.texts(), what="it is told")
    until(lambda: events(node, "alert.told"), what="that is written down")
    node.kill()
    node.start()
    until(lambda: len(events(node, "node.started")) == 3, what="it runs again")
    assert node.cli("resume", "--reason", "mended").returncode == 0
    until(lambda: len(receiver.got) > 1, what="the end of it is told")
    titles = [one["title"] for one in receiver.got]
    assert titles == ["Outlast coz: urgent: mode emergency", "Outlast coz: over: mode emergency"]


def test_it_is_told_when_the_receiver_is_back_without_a_restart(node: LiveNode, receiver: Receiver) -> None:
    """With backoff, and all that waited in one message."""
    receiver.status = 503
    node.start()
    emergency(node, "nobody hears me")
    (failed,) = until(lambda: events(node, "alert.untold"), what="it was tried")[:1]
    assert failed["reason"] == "JSON (line 1): it answered HTTP 503"
    assert "HTTP 503" in node.cli("alert", "list").stdout
    receiver.status = 200
    until(lambda: receiver.got, limit=90, what="it is told")
    assert "nobody hears me" in receiver.texts() and len(receiver.got) == 1


def test_one_that_hangs_does_not_hold_up_another(receiver: Receiver) -> None:
    """Who took a message took it, though another URL never answers, and a third is none; nothing is left of the sender."""
    before = psutil.Process().children(recursive=True)
    with Receiver() as slow:
        slow.slow = 60.0
        urls = [f"{slow.url()}?rto=60", receiver.url(SECRET), f"nonsense://{SECRET}"]
        found = asyncio.run(post(urls, "title", "body", "info", 15.0))
    assert [(one.to, one.ok, one.why) for one in found] == [
        ("line 1", False, "no answer within 15 s"),
        ("JSON (line 2)", True, ""),
        ("line 3", False, "it is no URL that apprise knows"),
    ]
    assert len(receiver.got) == 1
    assert set(psutil.Process().children(recursive=True)) <= set(before)


def test_a_change_of_urls_needs_no_restart(node: LiveNode, receiver: Receiver) -> None:
    """They are read for each message; with none, nothing is written, and the command says what to do."""
    node.home.alert_urls.unlink()
    node.start()
    emergency(node, "changed my number")
    found = node.cli("alert", "test")
    assert found.returncode == 2 and "outlast_alert_urls" in found.stderr
    assert "changed my number" in node.cli("alert", "list").stdout and not node.home.unsent_alerts.exists()
    tell(node, receiver.url())
    until(lambda: "changed my number" in receiver.texts(), what="the new number is called")


def test_a_trial_works_with_the_runtime_dead(node: LiveNode, receiver: Receiver) -> None:
    """It is sent by the command itself; the list is what was known last."""
    found = node.cli("alert", "test", "--urgency", "now")
    assert found.returncode == 0 and found.stdout == "JSON (line 1): taken\n", found.stderr
    assert receiver.got[0]["type"] == "failure"
    assert node.cli("alert", "list").returncode == 3


def test_a_node_whose_memory_cannot_be_read_says_so(node: LiveNode, receiver: Receiver) -> None:
    """F4, where the rebuild fails: the node is there, and a person is told what to do."""
    node.home.memory.mkdir(parents=True)
    (node.home.memory / "2026-01-01.md").mkdir()
    (node.home.memory / "2026-01-02.md").symlink_to("/proc/self/mem")
    node.home.state_file.write_text("{")
    node.start(wait=False)
    until(lambda: receiver.got, what="somebody is told")
    assert receiver.got[0]["title"] == "Outlast coz: urgent: memory"
    assert "recover-state.yml" in receiver.texts()


def test_the_secret_of_a_url_is_nowhere_but_in_its_file(node: LiveNode, receiver: Receiver) -> None:
    """Not in a command line, an environment, a log, an event, a status or what a command prints, also where sending fails."""
    prying = Prying()
    prying.start()
    try:
        tell(node, receiver.url(SECRET), f"json://{SECRET}@127.0.0.1:1/{SECRET}", f"nonsense://{SECRET}", f"{SECRET}")
        node.start()
        printed = [node.cli("alert", "test"), node.cli("alert", "test", "--json")]
        receiver.status = 401
        emergency(node, "look")
        until(lambda: events(node, "alert.untold"), what="it was tried")
        printed += [node.cli("alert", "list"), node.cli("alert", "list", "--json"), node.cli("status", "--json")]
        node.kill()
        printed += [node.cli("alert", "test"), node.cli("alert", "list")]
    finally:
        prying.over.set()
        prying.join()
    assert prying.senders and not prying.seen
    assert not [done.args for done in printed if SECRET in done.stdout + done.stderr]
    holders = [path for path in node.home.root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert holders == [node.home.alert_urls]
