"""The channel between nodes, seen from the wire: messages are signed here by a client that is not ours."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault.scenes import (
    CountingAgent,
    assert_once,
    capture,
    closed_on,
    envelope,
    events,
    extras,
    hand_over,
    key,
    running_pair,
    settled,
)
from standardwebhooks import Webhook
from support.live import LiveNode, pair, until

pytestmark = pytest.mark.timeout(60)

_UNIT = "coz-d1zjz7qv76sw"


@pytest.fixture
def agent(tmp_path: Path) -> CountingAgent:
    """An agent whose runs are counted."""
    return CountingAgent(tmp_path / "agent")


@pytest.fixture
def axiom(tmp_path: Path, agent: CountingAgent) -> Iterator[LiveNode]:
    """axiom alone, started: the tests speak for coz, whose key they read from the file."""
    laid = extras(agent.path, messages={"rate": 3, "rate_window": "10m"})
    with pair(tmp_path, None, laid) as (_, node):
        node.start()
        yield node


def _done(axiom: LiveNode, unit: str) -> None:
    until(lambda: closed_on(axiom, unit) == "done", what=f"{unit} is done")


def test_a_client_that_is_not_ours_can_hand_work_over(axiom: LiveNode, agent: CountingAgent) -> None:
    """A task signed by the reference implementation is taken (202), done, and answered under axiom's own signature, which
    that implementation verifies."""
    status, headers, body = capture(key(axiom, "coz"), "task_1", envelope(_UNIT)).send(axiom)
    assert status == 202
    answer = Webhook(key(axiom, "axiom")).verify(body, headers)
    assert answer["status"] == 202 and headers["webhook-id"] == "res_task_1"
    _done(axiom, _UNIT)
    assert agent.runs(_UNIT) == 1


def test_a_replayed_message_is_answered_as_before_and_causes_nothing(axiom: LiveNode, agent: CountingAgent) -> None:
    """The very same request again, also after a restart: the first answer, no second INTENT, no second run. The same unit
    under another id neither."""
    captured = capture(key(axiom, "coz"), "task_1", envelope(_UNIT))
    assert captured.send(axiom)[0] == 202
    _done(axiom, _UNIT)
    assert captured.send(axiom)[0] == 202
    axiom.kill()
    axiom.start()
    assert captured.send(axiom)[0] == 202
    assert capture(key(axiom, "coz"), "task_2", envelope(_UNIT, seq=2)).send(axiom)[0] == 202
    other = "coz-d1zjz7qv76sx"
    assert capture(key(axiom, "coz"), "task_3", envelope(other, seq=3, message=_task(other))).send(axiom)[0] == 202
    _done(axiom, other)  # one worker, in order: whatever the replays caused would have been begun before
    assert agent.runs(_UNIT) == 1
    assert len(axiom.records("INTENT", _UNIT)) == len(axiom.records("CONFIRM", _UNIT)) == 1
    assert axiom.json("status")["channels"]["coz"]["received"] == 3


def _task(unit: str) -> dict[str, str]:
    return {"type": "task", "unit": unit, "task": "host report"}


def test_who_is_not_authenticated_learns_nothing(axiom: LiveNode) -> None:
    """A wrong key, an unknown sender, a changed body, and a time six minutes off in either direction: 401, one and the same
    body, no signature, nothing done; the node's own status counts them."""
    secret, wrong = key(axiom, "coz"), key(axiom, "axiom")
    good = capture(secret, "task_1", envelope(_UNIT))
    refused = [
        capture(wrong, "task_2", envelope(_UNIT)),
        capture(secret, "task_3", envelope(_UNIT), sender="stranger"),
        capture(secret, "task_4", envelope(_UNIT), at=time.time() - 360),
        capture(secret, "task_5", envelope(_UNIT), at=time.time() + 360),
        type(good)(good.path, good.body.replace("host", "most"), good.headers),
        type(good)(good.path, good.body, {**good.headers, "webhook-id": "task_6"}),
        type(good)(good.path, good.body, {**good.headers, "webhook-signature": "v1,===="}),
        type(good)(good.path, good.body, {"content-type": "application/json"}),
    ]
    for message in refused:
        status, headers, body = message.send(axiom)
        assert (status, body) == (401, b'{"error":"refused"}')
        assert not [name for name in headers if name.startswith("webhook")]
    assert not axiom.records("INTENT", _UNIT)
    assert sum(axiom.json("status")["refused"].values()) == len(refused)
    assert good.send(axiom)[0] == 202


def test_too_many_messages_wait_and_pings_pass(axiom: LiveNode) -> None:
    """Above ``messages.rate`` a message is refused with 429 and a Retry-After, and nothing is done; a ping is still answered."""
    secret = key(axiom, "coz")
    names = [f"coz-d1zjz7qv76s{letter}" for letter in "abcde"]
    sent = [
        capture(secret, f"task_{name}", envelope(name, seq=number, message=_task(name))).send(axiom)
        for number, name in enumerate(names, 1)
    ]
    assert [status for status, _, _ in sent] == [202, 202, 202, 429, 429]
    assert all(int(headers["retry-after"]) > 0 for status, headers, _ in sent if status == 429)
    assert not axiom.records("INTENT", names[3])
    ping = envelope("ping", seq=0, channel="control", message={"type": "ping"})
    assert capture(secret, "ping_1", ping).send(axiom)[0] == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"seq": "1"},
        {"seq": -1},
        {"trace_id": "xyz"},
        {"surprise": 1},
        {"span_id": ...},
        {"message": {"type": "exec", "command": "id"}},
        {"message": {"type": "task", "unit": "../../etc", "task": "x"}},
        {"message": {"type": "task", "unit": _UNIT, "task": ""}},
        {"message": {"type": "task", "unit": _UNIT, "task": "x" * 20_000}},
        {"to": "coz"},
        {"from": "axiom"},
    ],
    ids=str,
)
def test_what_is_signed_is_still_checked(axiom: LiveNode, changes: dict[str, Any]) -> None:
    """A signed body that breaks the schema or is addressed to somebody else: 422 with a signed reason, and nothing is done."""
    status, headers, body = capture(key(axiom, "coz"), "task_1", envelope(_UNIT, **changes)).send(axiom)
    assert status == 422
    answer = Webhook(key(axiom, "axiom")).verify(body, headers)
    assert answer["status"] == 422 and answer["reason"]
    assert not axiom.records("INTENT", _UNIT) and not list(axiom.home.tasks.iterdir())


def test_no_json_and_a_huge_body_are_refused(axiom: LiveNode) -> None:
    """Signed garbage is a 422; a body over ``messages.body_limit`` is a 413, before anybody looks at its signature."""
    assert capture(key(axiom, "coz"), "task_1", "{" * 5000).send(axiom)[0] == 422
    assert capture(key(axiom, "coz"), "task_2", '"' + "x" * (300 << 10) + '"').send(axiom)[0] == 413


def test_a_sibling_that_is_back_is_served_at_once(tmp_path: Path, agent: CountingAgent) -> None:
    """While axiom is down the message waits and the breaker opens, as the status shows; when axiom is back it is delivered
    although the breaker's cooldown is far from over."""
    patient: dict[str, dict[str, Any]] = {
        "retry": {"base": "10ms", "max": "50ms", "attempts": 5},
        "breaker": {"failures": 3, "cooldown": "1h"},
        "health": {"interval": "1h"},
    }
    with running_pair(tmp_path, agent.path, **patient) as (coz, axiom):
        settled(coz, axiom)
        axiom.kill()
        unit = hand_over(coz)
        until(lambda: coz.status()["channels"]["axiom"]["breaker"] == "open", what="the breaker is open")
        channel = coz.json("status")["channels"]["axiom"]
        assert channel["queued"] == 1 and "cannot be reached" in channel["last_error"]
        shown = coz.cli("status").stdout
        assert "open" in shown and "trouble with axiom" in shown
        axiom.start()
        settled(coz, axiom)
        assert_once(coz, axiom, [unit])
        assert coz.json("status")["channels"]["axiom"]["breaker"] == "closed"


def test_what_waits_survives_the_sender_too(tmp_path: Path, agent: CountingAgent) -> None:
    """Messages that wait for a sibling that is down are delivered in order, once each, after both were killed; the channel
    counts no gap and no repeat."""
    with running_pair(tmp_path, agent.path) as (coz, axiom):
        axiom.kill()
        units = [hand_over(coz) for _ in range(5)]
        coz.kill()
        coz.start()
        axiom.start()
        settled(coz, axiom)
        assert_once(coz, axiom, units)
        accepted = [entry["correlation_id"] for entry in events(axiom, "task.accepted")]
        assert accepted == units
        counted = axiom.json("status")["channels"]["coz"]
        assert (counted["received"], counted["gaps"], counted["repeats"]) == (5, 0, 0)


def test_a_node_works_alone_until_its_siblings_key_comes(tmp_path: Path, agent: CountingAgent) -> None:
    """Without the sibling's key a node starts, is ready, believes nobody in its name, and keeps what it is to send."""
    with pair(tmp_path, None, extras(agent.path)) as (coz, axiom):
        held = (coz.home.keys / "axiom.key").read_bytes()
        (coz.home.keys / "axiom.key").unlink()
        coz.start()
        axiom.start()
        assert coz.status()["ready"]
        found = json.loads(coz.cli("verify", "--json").stdout)["findings"]
        assert [one["field"] for one in found] == ["peers.axiom"]
        assert "key of axiom is not here yet" in found[0]["wrong"]
        unit = hand_over(coz)
        coz.stop()
        path = coz.home.keys / "axiom.key"
        path.write_bytes(held)
        path.chmod(0o600)
        coz.start()
        settled(coz, axiom)
        assert closed_on(axiom, unit) == "done"
