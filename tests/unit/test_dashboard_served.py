"""The dashboard of real nodes, asked as browsers and other programs ask: what is served to whom, and that nothing is written."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.live import LiveNode, free_port, pair, until

from outlast.cli.talk import order
from outlast.core.onlooker import cookie_name

pytestmark = pytest.mark.timeout(120)

QUICK = {"health": {"interval": "1s"}}


class Answer:
    """One answer of the dashboard."""

    def __init__(self, port: int, path: str, method: str = "GET", host: str = "", **headers: str) -> None:
        wire = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
        try:
            wire.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            wire.putheader("Host", host or f"127.0.0.1:{port}")
            for name, value in headers.items():
                wire.putheader(name, value)
            wire.endheaders()
            answer = wire.getresponse()
            self.status, self.body = answer.status, answer.read()
            self.headers = {name.lower(): value for name, value in answer.getheaders()}
        finally:
            wire.close()

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        found: dict[str, Any] = json.loads(self.body)
        return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveNode, LiveNode]]:
    """coz and axiom, running."""
    with pair(tmp_path_factory.mktemp("pages"), QUICK, QUICK) as (coz, axiom):
        coz.start()
        axiom.start()
        yield coz, axiom


@pytest.fixture(scope="module")
def coz(two: tuple[LiveNode, LiveNode]) -> LiveNode:
    """The node that is looked at."""
    return two[0]


@pytest.fixture(scope="module")
def page(coz: LiveNode) -> int:
    """The port of its dashboard."""
    return int(
        until(lambda: coz.status().get("dashboard", {}).get("state") == "up" and coz.status()["dashboard"]["port"])
    )


def test_it_listens_100_above_the_node_and_on_loopback_alone(coz: LiveNode, page: int) -> None:
    """Nobody else of the network can see it."""
    assert page == coz.port + 100
    own = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in own:
        with socket.socket() as probe:
            if not address.startswith("127."):
                assert probe.connect_ex((str(address), page)) != 0


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript"), ("/icon.svg", "image/svg+xml"),
     ("/status.json", "application/json"), ("/events", "application/json"), ("/metrics", "text/plain"), ("/nothing", "text/plain")],
)  # fmt: skip
def test_every_answer_is_guarded(page: int, path: str, kind: str) -> None:
    """No script but our own, no frame, no guessing of types, nothing kept, nothing told to other sites; HEAD as GET."""
    got, head = Answer(page, path), Answer(page, path, "HEAD")
    assert got.headers["content-type"].startswith(kind)
    assert (head.status, head.body) == (got.status, b"")
    policy = dict(part.strip().split(" ", 1) for part in got.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert got.headers["x-content-type-options"] == "nosniff" and got.headers["referrer-policy"] == "no-referrer"
    assert got.headers["x-frame-options"] == "DENY" and got.headers["cache-control"] == "no-store"
    assert got.headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in got.headers and "access-control-allow-origin" not in got.headers


def test_the_page_names_nothing_from_elsewhere(page: int) -> None:
    """No external asset, and nothing inline that the policy would stop."""
    html = Answer(page, "/").body.decode()
    assert set(re.findall(r'(?:src|href)="([^"]*)"', html)) == {"/icon.svg", "/page.css", "/page.js", "#main"}
    assert not re.search(r"<script(?! src)|<style|style=|\son\w+=", html)
    script, sheet = Answer(page, "/page.js").body.decode(), Answer(page, "/page.css").body.decode()
    assert "url(" not in sheet and "@import" not in sheet
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(", script)
    assert re.findall(r"https?://[^\s\"'`]+", script) == ["http://www.w3.org/2000/svg"]
    assert len(script.splitlines()) < 400


@pytest.mark.parametrize(
    "path",
    ["/../etc/node.yml", "/%2e%2e/%2e%2e/etc/keys/coz.key", "//etc/passwd", "/page.js/../../home.py", "/./page.js", "/page.js%00",
     "/page", "/page.html", "/__init__.py", "/..%5c..%5cetc", "/status.json/", "/Page.js", "/?/../x/status.json%3f"],
)  # fmt: skip
def test_no_path_leads_anywhere_else(coz: LiveNode, page: int, path: str) -> None:
    """What is served is a short list of names; anything else is not found, or the page itself where it is all query."""
    answer = Answer(page, path)
    assert answer.status == (200 if path.startswith("/?") else 404)
    assert b"whsec_" not in answer.body and b"root:" not in answer.body and b"import " not in answer.body


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed_through_it(page: int, method: str) -> None:
    """Also not by asking for what else may be asked."""
    for path in ("/", "/status.json", "/resume"):
        answer = Answer(page, path, method)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert Answer(page, "/", "TRACE").status == 501


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "coz.local"])
def test_a_name_that_was_led_here_is_refused_everywhere(page: int, host: str) -> None:
    """DNS rebinding: what is refused says nothing of the node."""
    for path in ("/", "/status.json", "/events", "/metrics", "/page.js"):
        answer = Answer(page, path, host=host)
        assert answer.status == 421 and b"coz" not in answer.body
    assert Answer(page, "/status.json", host=f"localhost:{page}").status == 200


def test_a_body_or_an_endless_request_is_cut_off(page: int) -> None:
    """What a page needs is small."""
    with socket.create_connection(("127.0.0.1", page), 20) as wire:
        wire.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello")
        assert wire.recv(4096).startswith(b"HTTP/1.1 413 ")
    with socket.create_connection(("127.0.0.1", page), 20) as wire:
        wire.sendall(b"GET /?" + b"x" * 9000)
        assert wire.recv(4096).startswith(b"HTTP/1.1 431 ")
    for query in (
        "?seen=" + "x" * 7000,
        "?wait=-1",
        "?wait=1e9",
        "?wait=99999999",
        "?" + "a=b&" * 500,
        "?wait=%ff",
        "?seen=%00",
    ):
        assert Answer(page, "/events" + query).status == 200


def test_it_tells_how_both_nodes_are(coz: LiveNode, page: int) -> None:
    """The peer is asked when somebody looks, and tells under its own signature."""
    shown = until(lambda: (found := Answer(page, "/status.json").json)["peers"]["axiom"]["state"] == "told" and found)
    assert (shown["node"], shown["self"]["mode"], shown["self"]["ready"]) == ("coz", "normal", True)
    told = shown["peers"]["axiom"]["overview"]
    assert (told["node"], told["mode"]) == ("axiom", "normal")
    assert {"name": "ingress", "state": "up"} in told["services"]
    assert shown["asked"]["axiom"] <= shown["now"] and shown["channels"]["axiom"]["breaker"] == "closed"
    assert order(coz.home, "peers")["peers"]["axiom"]["overview"]["mode"] == "normal"
    assert "whsec_" not in json.dumps(shown)


def test_news_are_told_when_they_come_and_not_before(coz: LiveNode, page: int) -> None:
    """Whoever waits is answered within a second or so of a change, and with a few bytes where there is none."""
    until(lambda: Answer(page, "/status.json").json["peers"]["axiom"]["state"] == "told")
    mark = until(
        lambda: (
            (mark := Answer(page, "/events").json["mark"]) == Answer(page, f"/events?seen={mark}&wait=2").json["mark"]
            and mark
        )
    )
    same = Answer(page, f"/events?seen={mark}&wait=0")
    assert "self" not in same.json and len(same.body) < 300
    began = time.monotonic()
    timer = threading.Timer(1.0, lambda: coz.home.queue_file.write_text("[seq:7] [agent:coz] paint the fence\n"))
    timer.start()
    news = Answer(page, f"/events?seen={mark}&wait=20").json
    timer.join()
    assert 0.9 < time.monotonic() - began < 15
    assert [entry["text"] for entry in news["queue"]["entries"]] == ["paint the fence"]


def test_looking_writes_nothing_of_ours(coz: LiveNode, page: int) -> None:
    """Neither the journal nor STATE.json nor the ledger of the node that is looked at changes by being looked at."""
    until(lambda: Answer(page, "/status.json").json["peers"]["axiom"]["state"] == "told")
    before = (coz.journal(), coz.status()["channels"]["axiom"]["sent"], sorted(os.listdir(coz.home.root / "var")))
    for path in ("/", "/status.json", "/events", "/metrics", "/page.js") * 4:
        assert Answer(page, path).status == 200
    assert before == (
        coz.journal(),
        coz.status()["channels"]["axiom"]["sent"],
        sorted(os.listdir(coz.home.root / "var")),
    )
    assert not coz.home.dashboard_token.exists()


def test_many_who_look_at_once_leave_the_node_its_breath(coz: LiveNode, page: int) -> None:
    """A hundred hanging questions: whoever is too many is turned away, and the node answers its own people."""
    wires = []
    try:
        for _ in range(100):
            wire = socket.create_connection(("127.0.0.1", page), 20)
            wire.sendall(f"GET /events?seen=x{len(wires)}&wait=20 HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            wires.append(wire)
        began = time.monotonic()
        assert coz.status()["ready"] and time.monotonic() - began < 10
    finally:
        for wire in wires:
            wire.close()
    assert until(lambda: Answer(page, "/status.json").status == 200)


def test_a_stop_does_not_wait_for_who_looks(tmp_path: Path) -> None:
    """A page that is open must not hold up a restart; it is told that the node is gone by the connection alone."""
    with pair(tmp_path, QUICK) as (node, _):
        node.start()
        port = until(lambda: node.status()["dashboard"]["state"] == "up" and node.status()["dashboard"]["port"])
        mark = Answer(port, "/events").json["mark"]
        with socket.create_connection(("127.0.0.1", port), 20) as wire:
            wire.sendall(f"GET /events?seen={mark}&wait=25 HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            began = time.monotonic()
            assert node.stop() == 0
            assert time.monotonic() - began < 20
        node.start()
        until(lambda: node.status()["dashboard"]["state"] == "up")


def test_a_port_that_is_taken_keeps_the_page_away_and_not_the_node(tmp_path: Path) -> None:
    """The node works, and says where the page would be and why it is not there."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        node = LiveNode(tmp_path, "coz", free_port(), {}, {"dashboard": {"port": taken}})
        node.cli("keys", "init")
        try:
            node.start()
            status = until(lambda: (found := node.status())["dashboard"]["state"] not in ("starting", "up") and found)
            assert status["ready"] and "cannot listen there" in status["dashboard"]["state"]
            said = node.cli("dashboard")
            assert (said.returncode, said.stdout) == (
                1,
                f"http://127.0.0.1:{taken}/\n",
            ) and "cannot listen" in said.stderr
        finally:
            node.kill()


def test_beyond_loopback_the_token_opens_it(tmp_path: Path) -> None:
    """It is made by the node, for its owner alone; once in the address, a cookie that no script and no other site can use."""
    node = LiveNode(tmp_path, "coz", free_port(), {}, {"dashboard": {"host": "0.0.0.0"}})
    node.cli("keys", "init")
    try:
        node.start()
        port = until(lambda: node.status()["dashboard"]["state"] == "up" and node.status()["dashboard"]["port"])
        token = node.home.dashboard_token.read_text().strip()
        assert node.home.dashboard_token.stat().st_mode & 0o777 == 0o600 and len(token) == 43
        for path in ("/", "/status.json", "/events", "/metrics", "/page.js", "/nothing"):
            assert Answer(port, path).status == 401
            assert Answer(port, f"{path}?token=wrong").status == 401
            assert Answer(port, path, Authorization="Bearer wrong").status == 401
            assert Answer(port, path, Cookie=f"{cookie_name('coz')}=wrong").status == 401
        # The token in the address is for the page alone: other addresses are asked again and again, and would be kept.
        assert Answer(port, f"/status.json?token={token}").status == 401
        entered = Answer(port, f"/?token={token}")
        cookie, *rules = entered.headers["set-cookie"].split("; ")
        assert entered.status == 200 and {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(rules)
        assert token.encode() not in entered.body and b'content="0;url=/"' in entered.body
        assert Answer(port, "/", Cookie=cookie).status == 200
        assert Answer(port, "/metrics", host="pi.local", Authorization=f"Bearer {token}").status == 200
        assert Answer(port, "/status.json", "POST", Cookie=cookie).status == 405
        # The log tells of wrong tokens, once a burst, and no log has the right one.
        logs = "".join(path.read_text() for path in node.home.logs.glob("*.jsonl"))
        assert logs.count('"dashboard.refused"') == 1 and token not in logs + node.log() + json.dumps(node.status())
        # The same after a restart; one that others may read is refused, and says so.
        node.stop()
        node.start()
        until(
            lambda: (
                Answer(port, "/", Cookie=cookie).status == 200 if node.status()["dashboard"]["state"] == "up" else False
            )
        )
        node.stop()
        node.home.dashboard_token.chmod(0o644)
        node.start()
        state = until(lambda: (found := node.status()["dashboard"]["state"]) != "starting" and found)
        assert "others may use it (mode 0644)" in state
    finally:
        node.kill()


def test_where_there_is_to_be_none_there_is_none(tmp_path: Path) -> None:
    """Nothing listens, and the command says why."""
    node = LiveNode(tmp_path, "coz", free_port(), {}, {"dashboard": {"enabled": False}})
    node.cli("keys", "init")
    try:
        node.start()
        assert node.status()["dashboard"]["state"] == "off"
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", node.port + 100)) != 0
        said = node.cli("dashboard")
        assert (said.returncode, said.stdout) == (1, "") and "enabled: false" in said.stderr
    finally:
        node.kill()


def test_beyond_loopback_it_speaks_tls_where_the_node_does(tmp_path: Path) -> None:
    """Under the node's own certificate; the cookie is then for TLS alone."""
    extra = {"listen": {"tls": {}}, "dashboard": {"host": "0.0.0.0"}}
    node = LiveNode(tmp_path, "coz", free_port(), {}, extra)
    node.cli("keys", "init")
    assert node.cli("keys", "tls").returncode == 0
    try:
        node.start()
        port = until(lambda: node.status()["dashboard"]["state"] == "up" and node.status()["dashboard"]["port"])
        assert node.status()["dashboard"]["url"].startswith("https://")
        token = node.home.dashboard_token.read_text().strip()
        trusting = ssl._create_unverified_context()
        wire = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=trusting)
        wire.request("GET", f"/?token={token}")
        answer = wire.getresponse()
        assert answer.status == 200 and "; Secure" in str(answer.getheader("set-cookie"))
        with pytest.raises((OSError, http.client.HTTPException)):
            Answer(port, "/")
    finally:
        node.kill()
