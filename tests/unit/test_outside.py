"""Outside services at the door: a CI, a home automation; they have a key of their own, and are no peer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from support.doorway import KEYS, NOON, Doorway, note, signed

from outlast.core.ringtext import parse_outside
from outlast.net.http import Request

_TRACE, _SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Doorway]:
    made = Doorway(tmp_path)
    made.keys.add("home", ("note", "build.failed"), 3, NOON)
    yield made
    made.close()


def key(door: Doorway, name: str = "home") -> bytes:
    secret = door.keys.outside[name].ring[0].secret
    assert secret is not None
    return secret.key


def event(text: str = "the garage door is open", kind: str = "note", **changes: Any) -> bytes:
    return json.dumps({"type": kind, "timestamp": "2026-11-21T12:00:00Z", "data": {"text": text}, **changes}).encode()


def sent(door: Doorway, body: bytes, msg_id: str = "msg_1", **headers: str) -> Request:
    return signed(body, msg_id, "home", key=key(door), **headers)


def test_it_may_send_what_its_key_was_made_for(door: Doorway) -> None:
    """A note of a client that is not ours is taken, and the journal says that it is from outside; the answer is terse."""
    answer = door.send(sent(door, event()))[0]
    assert (answer.status, answer.body) == (202, b'{"status":"accepted"}')
    assert not [name for name in answer.headers if name.startswith("webhook")]
    assert door.statuses(sent(door, event("main is red", "build.failed"), "msg_2")) == [202]
    assert door.noted() == ["outside home: the garage door is open", "outside home, build.failed: main is red"]
    row = door.recorded()[0]
    assert (row["peer"], row["type"], row["seq"], row["about"][:5]) == ("home", "note", 0, "note-")


def test_a_client_that_is_not_ours(door: Doorway) -> None:
    """The reference implementation signs with the key as `outlast keys add` shows it."""
    from datetime import UTC, datetime

    secret = door.keys.outside["home"].ring[0].secret
    assert secret is not None
    body = event()
    signature = Webhook(secret.text).sign("msg_9", datetime.fromtimestamp(NOON, UTC), body.decode())
    headers = {"webhook-id": "msg_9", "webhook-timestamp": str(int(NOON)), "webhook-signature": signature}
    assert door.statuses(Request("POST", "/inbox/home", headers, body, "x")) == [202]


def test_it_is_never_taken_for_a_peer(door: Doorway) -> None:
    """An envelope under an outside key, from itself or in a peer's name, is no event; an event under a peer's key no message;
    and neither key opens the other's inbox."""
    assert door.statuses(
        sent(door, note()), sent(door, note(**{"from": "home"}), "msg_2"), signed(event(), "msg_3")
    ) == [422, 422, 422]
    assert door.statuses(signed(event(), sender="home", key=KEYS["coz"]), signed(note(), key=key(door))) == [401, 401]
    assert not door.noted()


@pytest.mark.parametrize(
    "body",
    [
        event(kind="task"), event(kind="Note"), event(kind=""), event(""), event("x" * 1025), event(more=1), b"{}", b"[]", b"\xff",
        event(data={"text": "x", "more": 1}), event(data={}), event(data="x"), event(timestamp="x" * 65), event(timestamp=1),
        event().replace(b'"type"', b'"type": "note", "type"'), event().replace(b"door", b"\\udc00"),
    ],
)  # fmt: skip
def test_what_is_not_taken(door: Doorway, body: bytes) -> None:
    """Another type, another shape: 422, and the same few words for all of it."""
    answer = door.send(sent(door, body))[0]
    assert (answer.status, answer.body) == (422, b'{"error":"not a message that is taken"}')
    assert not door.noted() and not door.recorded()


def test_its_rate_is_its_own(door: Doorway) -> None:
    """Above it: 429 with Retry-After, while peers' messages pass; a minute later it may speak again; repeats cost nothing."""
    answers = door.send(*(sent(door, event(), f"msg_{n}") for n in range(5)), signed(note()))
    assert [answer.status for answer in answers] == [202, 202, 202, 429, 429, 202]
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60
    assert door.statuses(sent(door, event(), "msg_1")) == [202]
    door.clock.now += 60
    assert door.statuses(signed(event(), "msg_9", "home", at=door.clock.now, key=key(door))) == [202]
    assert len(door.noted()) == 5


def test_a_replay_of_it_causes_nothing(door: Doorway) -> None:
    """Also after a restart."""
    request = sent(door, event())
    assert door.statuses(request, request) == [202, 202]
    door.again()
    assert door.statuses(request) == [202]
    assert len(door.noted()) == 1


def test_its_trace_goes_on(door: Doorway) -> None:
    """A valid W3C traceparent is the trace of what it sends; another header is none, and it gets one of ours."""
    assert door.statuses(sent(door, event(), traceparent=f"00-{_TRACE}-{_SPAN}-01")) == [202]
    for number, wrong in enumerate(
        (f"ff-{_TRACE}-{_SPAN}-01", f"00-{'0' * 32}-{_SPAN}-01", f"00-{_TRACE.upper()}-{_SPAN}-01")
    ):
        door.clock.now += 60
        request = signed(event(), f"m_{number}", "home", at=door.clock.now, key=key(door), traceparent=wrong)
        assert door.statuses(request) == [202]
    traces = [row["trace_id"] for row in door.recorded()]
    assert traces[0] == _TRACE and len(set(traces)) == 4 and all(len(trace) == 32 for trace in traces)


def test_one_that_was_removed_is_a_stranger(door: Doorway) -> None:
    """From that moment on."""
    request = sent(door, event())
    door.keys.remove("home")
    answer = door.send(request)[0]
    assert (answer.status, answer.body) == (401, b'{"error":"refused"}')
    assert parse_outside((door.home.keys / "outside" / "home.key").read_text()).ring[0].secret is None
