"""The door of a live node against who means harm: never a 500, never a traceback, never an effect, memory bounded."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from fault.scenes import envelope
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.attack import PING, UNIT, Message, Victim, message, ping, sent, under_attack, volley
from support.badjson import BAD_JSON, task
from support.live import until
from support.served import answers

pytestmark = pytest.mark.timeout(120)

# A rule is tried with BATCHES times AT_ONCE examples.
BATCHES, AT_ONCE = 25, 40
_often = settings(
    max_examples=BATCHES, deadline=None, database=None, suppress_health_check=[*HealthCheck], derandomize=False
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """axiom, attacked by all the tests of this file; at its end nothing may have come of any."""
    with under_attack(tmp_path_factory.mktemp("door")) as found:
        yield found


# Without a key


def test_every_flipped_bit_is_refused(node: Victim) -> None:
    """One bit of any field changed, of the id, the time, the signature, the body or the sender: 401 (or 404 where it is no
    sender's name, 400 where it is no header), at every place of the body and of the headers."""
    good = message(node.secret, "task_flip", task())
    bent: list[bytes] = []
    for place in range(len(good.body) * 8):
        body = bytearray(good.body)
        body[place // 8] ^= 1 << place % 8
        bent.append(replace(good, body=bytes(body)).raw())
    for name, value in good.headers.items():
        for place in range(len(value) * 8 if name.startswith("webhook") else 0):
            data = bytearray(value.encode())
            data[place // 8] ^= 1 << place % 8
            line = f"{name}: {value}\r\n".encode()
            bent.append(good.raw().replace(line, name.encode() + b": " + bytes(data) + b"\r\n"))
    for place in range(3 * 8):
        data = bytearray(b"coz")
        data[place // 8] ^= 1 << place % 8
        bent.append(good.raw().replace(b"/inbox/coz", b"/inbox/" + bytes(data)))
    assert set(volley(node, bent)) <= {400, 401, 404, 431, 501}


def test_what_is_cut_off_is_refused(node: Victim) -> None:
    """Every beginning of a message, whether its length is put right or the sender hangs up, causes nothing."""
    good = message(node.secret, "task_cut", task())
    assert set(volley(node, [replace(good, body=good.body[:end]).raw() for end in range(len(good.body))])) == {401}
    raw = good.raw()
    for end in range(0, len(raw), 7):
        assert b"202" not in sent(node, raw[:end])


def signatures(good: str) -> list[str]:
    """What a signature is not."""
    mac = good.removeprefix("v1,")
    return [
        mac, f"v0,{mac}", f"v1a,{mac}", f"v2,{mac}", f"V1,{mac}", f"v1={mac}", f"v1,{mac},v1", f"sha256={mac}", "v1,", "v1",
        f"v1,{mac[:-1]}", f"v1,{mac}=", f"v1,{mac.lower()}", "none,", "v1,null", f"v1;{mac}", f"v1,{mac} v1,{'A' * 44}x",
        f"v1a,{mac} v1a,{mac}", " ".join(["v1," + "A" * 43 + "="] * 9), f"v1,{mac}\t", "v1,*", "*",
    ]  # fmt: skip


def test_another_version_of_the_signature_is_none(node: Victim) -> None:
    """A signature under another version's name, or none, or in another spelling, is refused."""
    good = message(node.secret, "task_old", task())
    tried = signatures(good.headers["webhook-signature"])
    bent = [replace(good, headers={**good.headers, "webhook-signature": text}).raw() for text in tried]
    # A tab at a value's end is not part of it.
    kept = [raw for raw, text in zip(bent, tried, strict=True) if not text.endswith("\t")]
    assert set(volley(node, kept)) == {401}


def test_the_right_key_in_the_wrong_name(node: Victim) -> None:
    """A peer's key opens no other name, a service's no peer's; what axiom itself signed comes in nowhere; and what a peer
    may sign does not speak for another node."""
    own = (node.node.home.keys / "axiom.key").read_text().split()[0]
    asked = message(node.secret, "task_1", task())
    wrong = [
        replace(asked, path="/inbox/axiom"),
        replace(asked, path="/inbox/door"),
        replace(asked, path="/inbox/stranger"),
        message(node.outside, "msg_1", task()),
        message(own, "task_2", task()),
        message(own, "task_3", task(), sender="axiom"),
        message(own, "msg_4", '{"type":"note","timestamp":"2026-11-21T03:00:00Z","data":{"text":"x"}}', sender="door"),
    ]
    assert volley(node, [one.raw() for one in wrong]) == [401] * len(wrong)
    spoken = [
        task(**{"from": "axiom"}), task(**{"from": "door"}), task(to="coz"), task(to="door"),
        task(message={"type": "task", "unit": "axiom-d1zjz7qv76sw", "task": "x"}),
        task(message={"type": "result", "unit": UNIT, "verdict": "done", "detail": ""}),
    ]  # fmt: skip
    bodies = [message(node.secret, f"msg_{n}", body).raw() for n, body in enumerate(spoken, 10)]
    assert volley(node, bodies) == [422] * len(spoken)


def test_an_answer_is_no_message(node: Victim) -> None:
    """What the node answered, sent back to it in any name, is refused."""
    head, _, body = sent(node, ping(node.secret, "ping_mirror").raw(close=True)).partition(b"\r\n\r\n")
    lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    headers = {name: value for name, value in lines.items() if name.startswith("webhook")}
    assert len(headers) == 3
    for path in ("/inbox/coz", "/inbox/axiom", "/inbox/door"):
        assert volley(node, [Message(headers, body, path).raw()]) == [401]


# With a key


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON)
def test_what_is_signed_and_wrong_is_refused(node: Victim, body: bytes) -> None:
    """A peer that holds the key is refused with 422 what has two readings, none, or not the shape; the same from a service."""
    name = str(abs(hash(body)) % 10**12)
    raw = [
        message(node.secret, f"msg_{name}", body).raw(),
        message(node.outside, f"msg_{name}", body, sender="door").raw(),
    ]
    assert volley(node, raw)[0] == 422
    assert volley(node, raw[1:])[0] in {422, 429}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def bent_envelopes(draw: st.DrawFn) -> bytes:
    """A message with fields taken away, put in or replaced by anything."""
    fields = json.loads(envelope("ping", **PING))
    names = [*fields, "message.type", "more"]
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=3)):
        value = draw(values)
        if name == "message.type":
            fields["message"] = {
                "type": draw(st.sampled_from(["task", "result", "share", "note", "trace", "status", "x"])),
                "x": value,
            }
        elif draw(st.booleans()):
            fields.pop(name, None)
        else:
            fields[name] = value
    return json.dumps(fields).encode()


counter = iter(range(10**9))


def _signed(node: Victim, bodies: list[bytes], sender: str = "coz") -> list[int]:
    secret = node.secret if sender == "coz" else node.outside
    return volley(node, [message(secret, f"ping_f{next(counter)}", one, sender=sender).raw() for one in bodies])


@_often
@given(bodies=st.lists(bent_envelopes(), min_size=AT_ONCE, max_size=AT_ONCE))
def test_anything_in_the_place_of_anything(node: Victim, bodies: list[bytes]) -> None:
    """1 000 signed messages with fields of any kind in any place: taken as the ping that they still are, or 422."""
    assert set(_signed(node, bodies)) <= {200, 422, 429}


@_often
@given(
    bodies=st.lists(
        st.binary(max_size=300) | values.map(lambda one: json.dumps(one).encode()), min_size=AT_ONCE, max_size=AT_ONCE
    )
)
def test_any_signed_body(node: Victim, bodies: list[bytes]) -> None:
    """1 000 signed bodies of any bytes or any JSON are refused."""
    assert set(_signed(node, bodies)) <= {422, 429}


@_often
@given(
    bent=st.lists(
        st.tuples(st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80)),
        min_size=AT_ONCE, max_size=AT_ONCE,
    )
)  # fmt: skip
def test_any_header_in_the_place_of_a_signed_one(node: Victim, bent: list[tuple[str, str]]) -> None:
    """1 000 messages with any text for an id, a time or a signature: 401."""
    good = message(node.secret, "task_header", task())
    raw = [replace(good, headers={**good.headers, name: text}).raw() for name, text in bent]
    assert set(volley(node, raw)) == {401}


@settings(_often, max_examples=200)
@given(pieces=st.lists(st.binary(max_size=60) | st.sampled_from([
    b"POST /inbox/coz HTTP/1.1\r\n", b"GET /healthz HTTP/1.1\r\n", b"host: x\r\n", b"content-length: 5\r\n", b"\r\n", b"0\r\n\r\n",
    b"transfer-encoding: chunked\r\n", b"webhook-id: a\r\n", b"5\r\nhello\r\n", b"connection: close\r\n", b"expect: 100-continue\r\n",
]), max_size=12))  # fmt: skip
def test_any_bytes(node: Victim, pieces: list[bytes]) -> None:
    """Any bytes on a connection, likely ones among them: an answer that is whole, or none, and none of them a 5xx but for what is
    no HTTP of ours."""
    said = sent(node, b"".join(pieces)).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    if not said.startswith(b"HTTP"):
        assert said == b""
        return
    assert set(answers(said)) <= {200, 400, 401, 404, 405, 408, 413, 417, 431, 501, 505}


# Bytes


def smuggled(node: Victim) -> dict[str, bytes]:
    """Requests in which a second one hides, which two readers would find at two places."""
    inner = message(node.secret, "task_inner", task()).raw()
    size = len(inner)
    chunk = f"{size:x}\r\n".encode() + inner + b"\r\n0\r\n\r\n"
    head = b"POST /inbox/coz HTTP/1.1\r\nhost: axiom\r\n"
    return {
        "CL.TE": head + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
        "TE.CL": head + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n" + chunk,
        "TE.TE": head + b"transfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n" + inner,
        "TE with a tab": head + b"transfer-encoding:\tchunked, identity\r\n\r\n0\r\n\r\n" + inner,
        "TE in disguise": head + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + inner,
        "TE with a space": head + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + inner,
        "two lengths": head + b"content-length: 0\r\ncontent-length: 5\r\n\r\n" + inner,
        "a list of lengths": head + b"content-length: 0, 0\r\n\r\n" + inner,
        "a signed length": head + b"content-length: +0\r\n\r\n" + inner,
        "a length in hexadecimal": head + b"content-length: 0x0\r\n\r\n" + inner,
        "a folded header": head + b"x: a\r\n content-length: 0\r\n\r\n" + inner,
        "bare line feeds": head.replace(b"\r\n", b"\n") + b"content-length: 0\n\n" + inner,
        "a bare carriage return": head + b"x: a\rcontent-length: 0\r\n\r\n" + inner,
        "a zero byte": head + b"x: a\x00\r\n\r\n" + inner,
        "a chunk's extension": head + b"transfer-encoding: chunked\r\n\r\n0;\n\r\n\r\n" + inner,
        "a trailer": head + b"transfer-encoding: chunked\r\n\r\n0\r\nwebhook-id: x\r\n\r\n" + inner,
        "a wrong chunk": head + b"transfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n" + inner,
        "a huge chunk": head + b"transfer-encoding: chunked\r\n\r\nffffffffffffffff1\r\n" + inner,
        "HTTP/1.0 with chunks": head.replace(b"1.1", b"1.0") + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
        "an upgrade": head + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 0\r\n\r\n" + inner,
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + inner,
        "an absolute target": inner.replace(b"POST /inbox", b"POST http://x/inbox", 1),
        "no host": inner.replace(b"host: axiom\r\n", b"", 1),
        "two hosts": inner.replace(b"host: axiom\r\n", b"host: axiom\r\nhost: x\r\n", 1),
        "an id twice": inner.replace(b"webhook-id: ", b"webhook-id: x\r\nwebhook-id: ", 1),
    }  # fmt: skip


def test_no_request_is_smuggled(node: Victim) -> None:
    """Where a message's end is in doubt the connection ends: what follows, validly signed, is never taken."""
    for name, data in smuggled(node).items():
        said = sent(node, data)
        statuses = answers(said)
        assert len(statuses) == 1 and statuses[0] in {400, 431, 501, 505}, (name, said)


def test_what_is_too_large_is_refused(node: Victim) -> None:
    """A body over the limit, told or found; headers too many or too long: refused before anything is kept of it."""
    good = message(node.secret, "task_large", '"' + "x" * 300_000 + '"')
    assert answers(sent(node, good.raw())) == [413]
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    head = b"POST /inbox/coz HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert answers(sent(node, head + chunk * 8)) == [413]
    assert answers(sent(node, b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 5000)) == [400]
    lines = b"".join(b"a%d: b\r\n" % n for n in range(5000))
    assert answers(sent(node, b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + lines)) == [431]
    assert answers(sent(node, b"GET /" + b"a" * 100_000)) == [431]


def test_a_pipeline_is_answered_in_order(node: Victim) -> None:
    """Hundreds of requests at once on one connection are answered one by one, and the refused do not disturb the others."""
    good = [ping(node.secret, f"ping_pipe{n}").raw() for n in range(200)]
    bad = message("whsec_" + "Zm9y" * 8, "task_pipe", task()).raw()
    mixed = [raw for one in good for raw in (one, bad)]
    assert volley(node, mixed) == [200, 401] * 200


def test_slow_senders_keep_nobody_out(node: Victim) -> None:
    """With as many connections as the node takes held open by senders who never finish, an honest message is answered once
    their time is over, and each of them is cut off."""
    held = [socket.create_connection(("127.0.0.1", node.port), timeout=30) for _ in range(64)]
    try:
        for wire in held:
            wire.sendall(b"POST /inbox/coz HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\nx: ")
        began = time.monotonic()

        def answered() -> bool:
            try:
                return answers(sent(node, ping(node.secret, f"ping_slow{next(counter)}").raw(close=True))) == [200]
            except (ConnectionError, AssertionError):
                return False

        until(answered, limit=20, what="an honest sender is answered")
        assert time.monotonic() - began < 15
        for wire in held:
            try:
                said = wire.recv(100)
            except ConnectionError:
                continue
            assert said == b"" or said.startswith((b"HTTP/1.1 408", b"HTTP/1.1 503")), said
    finally:
        for wire in held:
            wire.close()
