"""The gateway's door: what is sent, and what every refusal says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gatelike import Gatelike

from outlast.errors import BadInput, GatewayError
from outlast.openclaw import hooks, tokens


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gatelike]:
    """A gateway that takes what it is told to take."""
    with Gatelike(tmp_path) as gate:
        yield gate


def hand(gate: Gatelike, message: str = "do it") -> str:
    """Hand a message over."""
    return asyncio.run(hooks.hand_over(gate.place, "axiom", "coz-1", message))


def test_message_and_key(gate: Gatelike) -> None:
    """A message goes to the agent's own mapping, with the token in a header alone, under a key and a session of its name."""
    assert hand(gate) == hand(gate)
    path, headers, body = gate.posted[0]
    assert path == "/hooks/outlast/axiom" and body == {"session": "coz-1", "message": "do it"}
    assert headers["idempotency-key"] == "outlast-coz-1"
    assert headers["authorization"] == f"Bearer {tokens.hooks(gate.place)}"
    assert hooks.session_of("axiom", "coz-1") in gate.sessions


def test_hooks_file_takes_what_we_send(gate: Gatelike) -> None:
    """hooks.json names every agent of the configuration, lets only our sessions in, and is written anew when agents change."""
    gate.place.config.write_text(json.dumps({"agents": {"entries": {"axiom": {}, "scribe": {}}}}))
    before = tokens.hooks(gate.place)
    assert tokens.ensure(gate.place) == ["hooks.json"] and tokens.ensure(gate.place) == []
    held = json.loads(gate.place.hooks.read_text())
    assert held["token"] == before and held["allowedAgentIds"] == ["axiom", "scribe"]
    assert held["allowedSessionKeyPrefixes"] == ["hook:outlast:"]
    assert [one["match"]["path"] for one in held["mappings"]] == ["outlast/axiom", "outlast/scribe"]


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "words"),
    [
        (401, b"Unauthorized", {}, "refused", "do not take our token"),
        (429, b"", {"retry-after": "60"}, "starting", "ask again in 60 s"),
        (503, {"ok": False, "error": "draining"}, {}, "starting", "takes no message now (draining)"),
        (502, b"", {}, "starting", "HTTP 502"),
        (400, {"ok": False, "error": "message required"}, {}, "failed", "message required"),
        (200, {"ok": True}, {}, "failed", "does not say as what"),
        (200, b"not JSON", {}, "failed", "refused a message"),
    ],
)
def test_refusals(gate: Gatelike, status: int, body: object, headers: dict[str, str], kind: str, words: str) -> None:
    """Each refusal is one line that says what is wrong and the mend, of a kind that says whether asking again may help."""
    gate.refuse = [(status, body, headers)]
    with pytest.raises(GatewayError, match=r"^openclaw: .+; .+") as caught:
        hand(gate)
    assert caught.value.kind == kind and words in str(caught.value)
    assert (kind in hooks.MAY_PASS) == (kind not in ("refused", "failed"))
    assert tokens.hooks(gate.place) not in str(caught.value)


def test_too_large(gate: Gatelike) -> None:
    """What is larger than OpenClaw takes is refused before it is sent, and where OpenClaw says so."""
    with pytest.raises(BadInput, match="256 KiB"):
        hand(gate, "x" * hooks.BODY_BYTES)
    assert not gate.posted
    gate.refuse = [(413, {"ok": False, "error": "payload too large"}, {})]
    with pytest.raises(BadInput, match="256 KiB"):
        hand(gate)


def test_unknown_agent(gate: Gatelike) -> None:
    """An agent that takes no messages is named, with the mend."""
    with pytest.raises(BadInput, match="tokens --ensure"):
        asyncio.run(hooks.hand_over(gate.place, "nobody", "coz-1", "do it"))


def test_away(gate: Gatelike) -> None:
    """Where nobody listens the error says so, and that asking again may help."""
    gate.down()
    for ask in (hooks.started(gate.place, 1.0), hooks.wake(gate.place, "axiom", "hear", "k")):
        with pytest.raises(GatewayError) as caught:
            asyncio.run(ask)
        assert caught.value.kind == "away"
