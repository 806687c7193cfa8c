"""``outlast trace``, ``channel`` and ``audit`` on real nodes: running, with the peer away, and with the runtime dead."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault.scenes import CountingAgent, capture, closed_on, envelope, extras, hand_over, key
from support.live import LiveNode, free_port, pair, share_keys, until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def agent(tmp_path: Path) -> CountingAgent:
    """An agent that is done at once."""
    return CountingAgent(tmp_path / "agent")


@pytest.fixture
def nodes(tmp_path: Path, agent: CountingAgent) -> Iterator[tuple[LiveNode, LiveNode]]:
    """coz and axiom, started."""
    with pair(tmp_path, extras(agent.path), extras(agent.path)) as (coz, axiom):
        coz.start()
        axiom.start()
        yield coz, axiom


def _done(coz: LiveNode) -> str:
    unit = hand_over(coz)
    until(lambda: closed_on(coz, unit) == "done", what=f"{unit} is done")
    return unit


def test_a_message_is_followed_through_both_nodes(nodes: tuple[LiveNode, LiveNode]) -> None:
    """From either node, in one list by time, both nodes' lines; an id that nobody knows is exit 1 and one line."""
    coz, axiom = nodes
    unit = _done(coz)
    for node in (coz, axiom):
        found = node.json("trace", unit)
        assert {line["node"] for line in found["lines"]} == {"coz", "axiom"} and found["unasked"] == {}
        whats = [line["what"] for line in found["lines"]]
        assert any(what.startswith("accepted task") for what in whats)
        assert any(what.startswith("agent.ended verdict=done") for what in whats)
        assert any(what.startswith("accepted result") for what in whats)
        assert [line["at"] for line in found["lines"]] == sorted(line["at"] for line in found["lines"])
    nobody = coz.cli("trace", "coz-d1zjz7qv0000")
    assert (nobody.returncode, nobody.stdout, nobody.stderr.count("\n")) == (1, "", 1)
    wrong = coz.cli("trace", "../../etc/passwd")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


def test_a_trace_works_with_the_peer_away_and_with_the_runtime_dead(nodes: tuple[LiveNode, LiveNode]) -> None:
    """With the peer away its name is said and why, with the runtime dead what is on the disk is told: exit 0 both times."""
    coz, axiom = nodes
    unit = _done(coz)
    axiom.kill()
    away = coz.json("trace", unit)
    assert list(away["unasked"]) == ["axiom"] and {line["node"] for line in away["lines"]} == {"coz"}
    assert "axiom could not be asked" in coz.cli("trace", unit).stderr
    dead = axiom.cli("trace", unit)
    assert dead.returncode == 0 and "accepted task" in dead.stdout and "not running" in dead.stderr


def test_the_channel_is_shown_and_with_the_runtime_dead_what_is_on_the_disk(nodes: tuple[LiveNode, LiveNode]) -> None:
    """Counters, breaker, queue and the last hour; a queue while the peer is away; exit 3 while the node is down."""
    coz, axiom = nodes
    _done(coz)
    one = coz.json("channel", "axiom")["channels"]["axiom"]
    assert (one["sent"], one["received"], one["gaps"], one["breaker"]) == (1, 1, 0, "closed")
    assert (one["hour"]["tried"], one["hour"]["success"]) == (1, 1.0)
    axiom.kill()
    hand_over(coz)
    until(lambda: coz.json("channel")["channels"]["axiom"]["hour"]["retries"] > 2, what="retries are counted")
    told = coz.cli("channel")
    assert told.returncode == 0 and "queued 1, the oldest" in told.stdout and "trouble, " in told.stdout
    coz.kill()
    down = coz.cli("channel")
    assert down.returncode == 3 and "sent 2" in down.stdout and "not running" in down.stderr
    assert coz.json("channel")["channels"]["axiom"]["queued"] == 1
    assert coz.cli("channel", "nobody").returncode == 2


def test_a_node_without_peers_and_one_with_three(tmp_path: Path, agent: CountingAgent) -> None:
    """Without peers the channel says so; with three of them, none there, each has its lines and traces name all three."""
    alone = LiveNode(tmp_path, "alone", free_port(), {}, extras(agent.path))
    many = LiveNode(
        tmp_path, "many", free_port(), {name: free_port() for name in ("axiom", "coz", "witness")}, extras(agent.path)
    )
    share_keys(alone, many)
    try:
        for node in (alone, many):
            node.start()
        assert alone.cli("channel").stdout == "alone has no peers\n"
        assert alone.cli("trace", "nothing").returncode == 1
        assert sorted(many.json("channel")["channels"]) == ["axiom", "coz", "witness"]
        assert many.cli("channel").stdout.count("breaker") == 3
        unknown = many.cli("trace", "nothing")
        assert unknown.returncode == 1 and unknown.stderr.count("\n") == 1
        assert all(f"{name} could not be asked" in unknown.stderr for name in ("axiom", "coz", "witness"))
    finally:
        alone.kill()
        many.kill()


def test_a_leak_that_was_staged_is_in_the_audit(nodes: tuple[LiveNode, LiveNode]) -> None:
    """Tasks that somebody else signed with coz's key, from another address, are accepted, and the audit on axiom names exactly
    these as unlike coz; it works with the runtime dead."""
    coz, axiom = nodes
    honest = [_done(coz) for _ in range(6)]
    staged = [f"coz-d1zjz7qv000{number}" for number in range(2)]
    for number, unit in enumerate(staged):
        body = envelope(unit, seq=7 + number)
        request = capture(_secret(coz), f"task_{unit}", body)
        connection = http.client.HTTPConnection("127.0.0.1", axiom.port, timeout=30, source_address=("127.0.0.9", 0))
        connection.request("POST", request.path, request.body.encode(), request.headers)
        assert connection.getresponse().status == 202
        connection.close()
    until(lambda: all(axiom.records("CONFIRM", unit) for unit in staged), what="the staged tasks are done")
    axiom.kill()
    found = axiom.json("audit", "coz")
    text = Path(found["report"]).read_text()
    top = text[text.index("## Unlike coz") : text.index("## In numbers")]
    assert found["unlike"] == 2 and found["open"] == []
    assert all(unit in top for unit in staged) and not any(unit in top for unit in honest)
    assert "127.0.0.9" in top and "CONFIRM `done" in top
    assert all(unit in text for unit in honest)
    assert json.loads(axiom.cli("audit", "coz", "--key", "0123456789", "--json").stdout)["messages"] == 0


def _secret(node: LiveNode) -> str:
    return key(node, node.name)
