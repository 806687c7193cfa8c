"""The gateway's door for messages: its HTTP hooks on loopback.

Rules kept here: the token is read for each call, goes into a header alone, and is in no message to a person; a call ends within
its time, and its answer is bounded; every failure is one error in our words, whose kind says whether asking again may help
(GatewayError: away, starting, late) or not (failed, refused; BadInput).

Left to others: what the hooks take (openclaw.ingress), handing over once (openclaw.turn, openclaw.feed), the token
(openclaw.tokens).
"""

from __future__ import annotations

from typing import Any

import msgspec

from outlast.core.record import one_line
from outlast.errors import BadInput, GatewayError, HttpError, OutlastError, PeerError, UnreachableError
from outlast.net import client
from outlast.net.http import Response
from outlast.openclaw import tokens
from outlast.openclaw.ingress import PATH, SESSIONS
from outlast.openclaw.place import Place

__all__ = ["BODY_BYTES", "MAY_PASS", "hand_over", "opens", "session_of", "started", "wake"]

BODY_BYTES = 256 << 10
# The kinds of a GatewayError after which asking again may help.
MAY_PASS = frozenset({"away", "starting", "late"})
# It admits a turn within 15 s, or not at all.
_CONNECT_S, _TOTAL_S = 5.0, 45.0
_FIELD = "openclaw"
_MEND = "see why: outlast openclaw status"


class _Answer(msgspec.Struct):
    ok: bool = False
    run: str = msgspec.field(default="", name="runId")
    error: str = ""
    outcome: str = msgspec.field(default="", name="eventOutcome")


class _Startup(msgspec.Struct):
    status: str = ""
    uptime: float = msgspec.field(default=0.0, name="uptimeMs")


def session_of(agent: str, unit: str) -> str:
    """The name of a message's session, as calls of the gateway want it."""
    return f"agent:{agent}:{SESSIONS}{unit}"


async def hand_over(place: Place, agent: str, unit: str, message: str) -> str:
    """Have ``agent`` take a turn on ``message`` as ``unit``; what the gateway calls the turn.

    The same again changes nothing while the same gateway runs. Raises GatewayError, BadInput, KeyFileError.
    """
    answer = await _post(place, f"/outlast/{agent}", {"session": unit, "message": message}, f"outlast-{unit}")
    if not answer.run:
        raise GatewayError("failed", _FIELD, "the gateway took a message and does not say as what", _MEND)
    return answer.run


async def wake(place: Place, agent: str, text: str, key: str) -> str:
    """Let ``agent`` know ``text``, in its main session; ``queued``, or ``coalesced`` where that is there already.

    The gateway holds it in memory until the agent's next turn, which is asked for. Raises as ``hand_over`` does.
    """
    return (await _post(place, "/wake", {"text": text, "mode": "now", "agentId": agent}, key)).outcome


async def started(place: Place, now: float) -> float:
    """When the gateway that is ready now was started, in seconds since 1970; ``now`` is that too. Raises GatewayError."""
    response = await _request(place, "GET", "/startupz", {}, b"")
    try:
        said = msgspec.json.decode(response.body, type=_Startup)
    except msgspec.MsgspecError:
        said = _Startup()
    if response.status != 200 or not said.uptime:
        why = one_line(said.status, 40) or "it does not say why"
        raise GatewayError("starting", _FIELD, f"the gateway is not ready ({why})", _MEND)
    return now - said.uptime / 1000


async def opens(place: Place, token: str) -> bool:
    """Whether the gateway's hooks take this token: asked by a message that is none. Raises GatewayError."""
    response = await _sent(place, token, "/wake", b"{}", "outlast-opens")
    if response.status in (400, 401):
        return response.status == 400
    raise GatewayError("starting", _FIELD, f"the gateway does not say (HTTP {response.status})", _MEND)


async def _sent(place: Place, token: str, path: str, data: bytes, key: str) -> Response:
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json", "idempotency-key": key}
    return await _request(place, "POST", f"{PATH}{path}", headers, data)


async def _post(place: Place, path: str, body: dict[str, Any], key: str) -> _Answer:
    data = msgspec.json.encode(body)
    if len(data) > BODY_BYTES:
        raise _too_large()
    for token in tokens.current(place, "hooks"):
        response = await _sent(place, token, path, data, key)
        if response.status != 401:
            break
    try:
        answer = msgspec.json.decode(response.body, type=_Answer)
    except msgspec.MsgspecError:
        answer = _Answer()
    if response.status == 200 and answer.ok:
        return answer
    raise _refusal(response, one_line(answer.error, 200), path)


async def _request(place: Place, method: str, path: str, headers: dict[str, str], body: bytes) -> Response:
    try:
        return await client.request(
            place.url, method, path, headers=headers, body=body, connect_s=_CONNECT_S, total_s=_TOTAL_S
        )
    except UnreachableError as error:
        raise GatewayError("late" if error.lost else "away", _FIELD, str(error), _MEND) from None
    except (PeerError, HttpError) as error:
        raise GatewayError("failed", _FIELD, str(error), _MEND) from None


def _refusal(response: Response, why: str, path: str) -> OutlastError:
    """Why a message was not taken."""
    status, code = response.status, str(response.status)
    if status == 401:
        mend = "have it read etc/openclaw/hooks.json again: outlast openclaw restart"
        return GatewayError("refused", _FIELD, "the gateway's hooks do not take our token", mend, code)
    if status == 404:
        mend = "name an agent of openclaw.json, then: outlast openclaw tokens --ensure"
        return BadInput("AGENT", f"nobody takes messages at {PATH}{path}", mend)
    if status == 413:
        return _too_large()
    if status == 429:
        mend = f"ask again in {one_line(response.headers.get('retry-after', '60'), 10)} s"
        return GatewayError("starting", _FIELD, "the gateway takes nothing after too many wrong tokens", mend, code)
    if status in (409, 502, 503):
        wrong = f"the gateway takes no message now ({why or f'HTTP {status}'})"
        return GatewayError("starting", _FIELD, wrong, "ask again in a moment", code)
    return GatewayError("failed", _FIELD, f"the gateway refused a message: {why or f'HTTP {status}'}", _MEND, code)


def _too_large() -> BadInput:
    return BadInput(
        "MESSAGE",
        f"it is larger than the {BODY_BYTES >> 10} KiB that OpenClaw takes",
        "put it in a file, and name that",
    )
