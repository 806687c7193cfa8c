"""Calls to OpenClaw's gateway, against a small server that speaks its protocol; its tokens."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from support.live import free_port
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request
from websockets.server import ServerProtocol

from outlast.core.plainjson import to_json
from outlast.errors import GatewayError, KeyFileError
from outlast.home import Home
from outlast.openclaw import alive, rotating, rpc, tokens
from outlast.openclaw.place import Place
from outlast.openclaw.settings import OpenClaw
from outlast.store import durable

Answers = Callable[[str, dict[str, Any]], dict[str, Any] | None]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A place with tokens, where nobody listens."""
    made = Place(Home(tmp_path), OpenClaw(release="/nowhere", port=free_port()))
    tokens.ensure(made)
    return made


def with_gateway(place: Place, answers: Answers, ask: Callable[[], Awaitable[Any]], *, pieces: bool = False) -> Any:
    """What ``ask()`` comes to while a gateway answers so; None from ``answers`` hangs up. ``pieces``: in several frames."""

    async def one(line: ServerConnection) -> None:
        await line.send(json.dumps({"type": "event", "event": "connect.challenge", "payload": {"nonce": "n"}}))
        try:
            async for text in line:
                asked = json.loads(text)
                await line.send(json.dumps({"type": "event", "event": "tick"}))
                answer = answers(asked["method"], asked["params"])
                if answer is None:
                    await line.close(1013, "service restart")
                    return
                whole = json.dumps({"type": "res", "id": asked["id"], **answer})
                if pieces:
                    await line.send(iter([whole[:7], whole[7:20], whole[20:]]))
                else:
                    await line.send(whole)
        except ConnectionClosed:
            return

    async def run() -> Any:
        async with serve(one, "127.0.0.1", place.settings.port):
            return await ask()

    return asyncio.run(run())


def well(payload: Any = None) -> dict[str, Any]:
    """An answer that is well."""
    return {"ok": True, "payload": payload or {}}


def ill(name: str, message: str, **details: str) -> dict[str, Any]:
    """An answer that is not."""
    return {"ok": False, "error": {"code": name, "message": message, "details": details}}


def failed(place: Place, answers: Answers, **told: Any) -> GatewayError:
    """The error of a call."""
    with pytest.raises(GatewayError) as caught:
        with_gateway(place, answers, lambda: rpc.call(place, "status", **told))
    assert tokens.gateway(place) not in str(caught.value) and "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("pieces", [False, True])
def test_a_call(place: Place, pieces: bool) -> None:
    """It shows its token, asks for the rights that it names, and takes its own answer among events and pieces of frames."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def answers(method: str, params: dict[str, Any]) -> dict[str, Any]:
        asked.append((method, params))
        return well({"big": "x" * 3_000_000} if method == "status" else None)

    found = with_gateway(place, answers, lambda: rpc.call(place, "status", {"a": 1}, scopes=rpc.ADMIN), pieces=pieces)
    assert len(found["big"]) == 3_000_000
    assert [method for method, _ in asked] == ["connect", "status"]
    assert asked[0][1]["auth"] == {"token": tokens.gateway(place)} and asked[0][1]["scopes"] == list(rpc.ADMIN)
    assert asked[1][1] == {"a": 1}


def test_each_kind_of_failure(place: Place) -> None:
    """Away, starting, refused, failed and late are told apart without reading words."""
    with pytest.raises(GatewayError) as caught:
        asyncio.run(rpc.call(place, "status"))
    assert caught.value.kind == "away"
    mismatch = ill("INVALID_REQUEST", "unauthorized: gateway token mismatch", code="AUTH_TOKEN_MISMATCH")
    assert failed(place, lambda *_: mismatch).kind == "refused"
    assert failed(place, lambda *_: ill("UNAVAILABLE", "starting", reason="startup-sidecars")).kind == "starting"
    assert failed(place, lambda *_: None).kind == "starting"
    broken = ill("UNAVAILABLE", "file is not\na database")
    error = failed(place, lambda method, _: well() if method == "connect" else broken)
    assert (error.kind, error.code) == ("failed", "UNAVAILABLE") and "not a database" in str(error)
    assert failed(place, lambda method, _: well() if method == "connect" else None).kind == "starting"
    assert failed(place, lambda *_: {"ok": False, "error": "odd"}).kind == "failed"

    async def silent() -> None:
        async def nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(5)
            writer.close()

        server = await asyncio.start_server(nothing, "127.0.0.1", place.settings.port)
        try:
            await rpc.call(place, "status", timeout=0.2)
        finally:
            server.close()

    with pytest.raises(GatewayError) as caught:
        asyncio.run(silent())
    assert caught.value.kind == "late"


def test_another_program_on_the_port(place: Place) -> None:
    """Who speaks no WebSocket there is an error like any other, not a crash."""

    async def web(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(web, "127.0.0.1", place.settings.port):
            await rpc.call(place, "status", timeout=5)

    with pytest.raises(GatewayError) as caught:
        asyncio.run(run())
    assert caught.value.kind == "starting"


def test_the_truth(place: Place) -> None:
    """It takes both calls, and databases of every agent that begin as one does; what it says itself weighs more than silence."""

    def truth(answers: Answers) -> tuple[int, str]:
        answer = with_gateway(place, answers, lambda: alive.truth(place))
        return answer.bad, answer.why

    assert truth(lambda *_: well()) == (0, "")
    bad, why = truth(
        lambda method, _: ill("UNAVAILABLE", "file is not a database") if method == "cron.status" else well()
    )
    assert bad == 2 and "not a database" in why
    assert truth(lambda *_: None)[0] == 1
    for name in ("state/openclaw.sqlite", "agents/another/agent/openclaw-agent.sqlite"):
        database = place.state / name
        database.parent.mkdir(parents=True)
        database.write_bytes(b"SQLite format 3\0" + bytes(100))
        assert truth(lambda *_: well()) == (0, "")
        database.write_bytes(bytes(116))
        bad, why = truth(lambda *_: well())
        assert (bad, why) == (2, f"{name} is not a database any more")
        database.unlink()


def test_tokens_are_made_once(tmp_path: Path) -> None:
    """256 bits each, mode 0600; a second time changes nothing; what the gateway's configuration includes is whole."""
    place = Place(Home(tmp_path), OpenClaw(release="/nowhere", agent="axiom"))
    assert tokens.ensure(place) == ["tokens.json", "hooks.json"]
    gateway, hooks = tokens.gateway(place), tokens.hooks(place)
    assert len(gateway) == len(hooks) == 43 and gateway != hooks
    assert tokens.ensure(place) == []
    assert (tokens.gateway(place), tokens.hooks(place)) == (gateway, hooks)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (place.tokens, place.hooks))
    assert json.loads(place.hooks.read_text())["enabled"] is True


def test_closed_as_it_lets_in(place: Place) -> None:
    """A gateway that ends closes a connection right after its first words: asking again helps, and is no other error."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol()
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        for event in protocol.events_received():
            assert isinstance(event, Request)
            protocol.send_response(protocol.accept(event))
        protocol.send_text(b'{"type":"event","event":"connect.challenge","payload":{}}')
        protocol.send_close(1012, "service restart")
        # All of it in one piece.
        writer.write(b"".join(protocol.data_to_send()))
        await reader.read()
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(one, "127.0.0.1", place.settings.port):
            await rpc.call(place, "status")

    with pytest.raises(GatewayError) as caught:
        asyncio.run(run())
    assert caught.value.kind == "starting"


def test_a_change_that_is_of_other_tokens(place: Place) -> None:
    """The record of a change that came back with a backup does not keep the token of the file from being tried, and first."""
    old, new = tokens.Pair(tokens.new(), tokens.new()), tokens.Pair(tokens.new(), tokens.new())
    durable.replace(place.rotation, to_json(tokens.Change(old, new)))
    tried = list(tokens.current(place, "gateway"))
    assert tried[0] == tokens.gateway(place) and {old.old, old.new} <= set(tried)
    assert next(tokens.current(place, "hooks")) == tokens.hooks(place)


def test_who_holds_an_old_token(place: Place) -> None:
    """What a doctor that was killed left of the configuration holds one too."""
    change = tokens.Change(*(tokens.Pair(one, tokens.new()) for one in (tokens.gateway(place), tokens.hooks(place))))
    left = place.launched.parent / "doctor" / "hooks.json"
    left.parent.mkdir(parents=True)
    left.write_bytes(place.hooks.read_bytes())
    assert rotating.held(place, change) == sorted(map(str, [left, place.hooks, place.tokens]))


@pytest.mark.parametrize(("system", "there"), [("Darwin", True), ("Linux", False)])
def test_tools_of_a_mac(place: Place, monkeypatch: pytest.MonkeyPatch, system: str, there: bool) -> None:
    """An agent on a Mac finds what its owner installed with Homebrew, on either kind of processor."""
    monkeypatch.setattr("platform.system", lambda: system)
    found = place.environment()["PATH"].split(":")
    assert ("/opt/homebrew/bin" in found) == there and "/usr/local/bin" in found
    assert found[0].endswith("node/bin")


def test_tokens_that_are_not_whole(place: Place) -> None:
    """A token that others may read, or a file that holds none, is one error without the token, and is never replaced."""
    place.tokens.chmod(0o644)
    for content in (place.tokens.read_text(), "{}", '{"gateway": {"token": "shortsecret"}}', "[[["):
        place.tokens.write_text(content)
        with pytest.raises(KeyFileError) as caught:
            tokens.gateway(place)
        assert "shortsecret" not in str(caught.value)
        with pytest.raises(KeyFileError):
            tokens.ensure(place)
        assert place.tokens.read_text() == content
        place.tokens.chmod(0o600)
    place.tokens.unlink()
    with pytest.raises(KeyFileError, match="outlast openclaw tokens --ensure"):
        tokens.gateway(place)
