"""The door against its own published schema (docs/openapi.yaml): what it allows, what it does not, and what is answered."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from fault.scenes import envelope
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.attack import PING, Victim, message, under_attack
from support.schemas import allowed

pytestmark = pytest.mark.timeout(120)

_ROOT = Path(__file__).resolve().parents[2]
DOCUMENT: dict[str, Any] = yaml.safe_load((_ROOT / "docs" / "openapi.yaml").read_text())
INBOX = DOCUMENT["paths"]["/inbox/{sender}"]["post"]
# Without shrinking: each example is asked of a node whose buckets and ledger remember the last.
_often = settings(
    max_examples=200, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=[*HealthCheck]
)
_validators: dict[str, Any] = {}
_numbers = iter(range(10**9))


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """axiom; nothing may come of what it is sent, because none of it is addressed rightly or asks for something."""
    with under_attack(tmp_path_factory.mktemp("schema")) as found:
        yield found


@pytest.fixture(scope="module")
def wire(victim: Victim) -> Iterator[http.client.HTTPConnection]:
    """One connection for all of them."""
    made = http.client.HTTPConnection("127.0.0.1", victim.port, timeout=30)
    yield made
    made.close()


def is_of(schema: dict[str, Any], value: Any) -> bool:
    """Does the value fit? By a validator that is not ours."""
    name = json.dumps(schema)
    if name not in _validators:
        _validators[name] = jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    return bool(_validators[name].is_valid(value))


def asked(victim: Victim, wire: http.client.HTTPConnection, body: bytes, sender: str = "coz") -> int:
    """Send a signed body; the answer must be one that is published. Its status."""
    secret = victim.secret if sender == "coz" else victim.outside
    made = message(secret, f"ping_s{next(_numbers)}", body, sender=sender)
    wire.request("POST", made.path, made.body, dict(made.headers))
    answer = wire.getresponse()
    said = answer.read()
    shape = INBOX["responses"][str(answer.status)].get("content")
    if shape:
        assert is_of(shape["application/json"]["schema"], json.loads(said)), said
    return answer.status


def test_what_is_published_is_what_is_meant() -> None:
    """The file is the one that is written from the runtime's types."""
    done = subprocess.run([sys.executable, str(_ROOT / "tools" / "openapi.py"), "--check"], check=False)
    assert done.returncode == 0


@_often
@given(value=allowed({"$ref": "#/components/schemas/Envelope"}, DOCUMENT))
def test_what_it_allows_is_read(victim: Victim, wire: http.client.HTTPConnection, value: Any) -> None:
    """A message that the schema allows, and that is addressed to somebody else, is refused for that (or for a content that no
    schema can say), and never fails."""
    value["to"] = "nobody"
    assert asked(victim, wire, json.dumps(value).encode()) == 422


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, part in inner for place in places(part, (*path, name)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with another one at a place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(copy[path[0]], path[1:], new)
    return copy


_anything = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.just([]) | st.just({}) | st.just("x" * 20_000)
)


@_often
@given(data=st.data(), value=allowed({"$ref": "#/components/schemas/Envelope"}, DOCUMENT))
def test_what_it_does_not_allow_is_refused(
    victim: Victim, wire: http.client.HTTPConnection, data: st.DataObject, value: Any
) -> None:
    """With anything else in one place, or one field more, it is a 422; a ping that is still one is answered."""
    if data.draw(st.booleans()):
        value = json.loads(envelope("ping", **PING))
    if data.draw(st.booleans()):
        value = put(value, data.draw(st.sampled_from(places(value))), data.draw(_anything))
    else:
        value["more"] = 1
    fits = is_of({"$ref": "#/components/schemas/Envelope"}, value)
    here = fits and (value["from"], value["to"]) == ("coz", "axiom")
    assert asked(victim, wire, json.dumps(value).encode()) == (200 if here else 422)


@_often
@given(data=st.data(), value=allowed({"$ref": "#/components/schemas/Event"}, DOCUMENT))
def test_an_outside_service_says_what_it_may(
    victim: Victim, wire: http.client.HTTPConnection, data: st.DataObject, value: Any
) -> None:
    """An event of a type that its key was not made for, or with anything else in one place, is refused."""
    if value["type"] == "note" or data.draw(st.booleans()):
        value = put({**value, "type": "other"}, data.draw(st.sampled_from(places(value))), data.draw(_anything))
    if isinstance(value, dict) and value.get("type") == "note":
        return
    assert asked(victim, wire, json.dumps(value).encode(), sender="door") == 422


def test_every_other_request_is_answered_as_published(victim: Victim, wire: http.client.HTTPConnection) -> None:
    """What is published answers as it says, and by no other method; what is not is not there."""
    for path, methods in (
        ("/healthz", {"get"}),
        ("/readyz", {"get"}),
        ("/inbox/coz", {"post"}),
        ("/metrics", set()),
        ("/", set()),
    ):
        published = DOCUMENT["paths"].get(path.replace("coz", "{sender}"), {})
        assert set(published) == methods
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "POST"):
            wire.request(method, path, b"{}" if method != "GET" else None)
            answer = wire.getresponse()
            answer.read()
            if method.lower() in methods:
                assert str(answer.status) in published[method.lower()]["responses"]
            else:
                assert answer.status in {404, 405}
