"""The local control: HTTP over ``run/control.sock``; who may open the socket may give orders, nobody else can.

Rules kept here: an order is ``POST /NAME`` with a JSON body, and NAME is looked up in one table; an order that is wrong gets
one clear error with field, wrong and mend. Left to others: doing it (each part brings its own orders).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated

import msgspec

from outlast.account import channels, status
from outlast.core.ids import UNIT
from outlast.core.plainjson import to_json
from outlast.core.record import one_line
from outlast.errors import BadInput, OutlastError, PeerError
from outlast.net.http import Request, Response

if TYPE_CHECKING:
    from outlast.node import Node

__all__ = ["Control", "Emergency", "HandoffOrder", "Maintenance", "NoteOrder", "Order", "carry_out", "node_orders"]

Order = Callable[[bytes], Awaitable[object] | object]
"""Takes the JSON body of an order and returns what is answered, as plain values. Raises OutlastError."""


class HandoffOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Hand ``task`` to ``peer`` as ``unit``, which makes asking again safe."""

    unit: Annotated[str, msgspec.Meta(pattern=UNIT)]
    peer: str
    task: Annotated[str, msgspec.Meta(min_length=1, max_length=16_384)]


class NoteOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Let ``peer`` know ``text``, as ``unit``."""

    unit: Annotated[str, msgspec.Meta(pattern=UNIT)]
    peer: str
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]


class _Ping(msgspec.Struct, forbid_unknown_fields=True):
    peer: str


class _Trace(msgspec.Struct, forbid_unknown_fields=True):
    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]


class _Wait(msgspec.Struct, forbid_unknown_fields=True):
    unit: str
    seconds: Annotated[float, msgspec.Meta(ge=0, le=60)]


class Emergency(msgspec.Struct, forbid_unknown_fields=True):
    """Enter emergency mode, until a person ends it."""

    reason: Annotated[str, msgspec.Meta(max_length=512)]

    def __post_init__(self) -> None:
        # The journal tells a mode by what stands before its reason, and would have nothing behind it.
        if not one_line(self.reason):
            raise ValueError("a reason that can be read is missing")


class Maintenance(msgspec.Struct, forbid_unknown_fields=True):
    """Ask for maintenance, or take that back; ``dry_run``: only say what would become of it."""

    on: bool
    dry_run: bool = False


class _Resume(Emergency):
    """The same of its end."""


async def carry_out(orders: Mapping[str, Order], name: str, body: bytes) -> object:
    """Do what the order ``name`` says. Raises OutlastError; BadInput for an order that is unknown or malformed."""
    order = orders.get(name)
    if order is None:
        raise BadInput("order", f"{name} is not known", "use the `outlast` command")
    try:
        done = order(body)
        return await done if inspect.isawaitable(done) else done
    except msgspec.MsgspecError as error:
        wrong, _, where = str(error).partition(" - at ")
        if "matching regex" in wrong:
            wrong = f"{where.strip('`$.') or 'it'} does not look as it must"
        raise BadInput(name, wrong, "use the `outlast` command, and see its --help") from error


class Control:
    """Answers orders that come through the control socket."""

    def __init__(self, orders: Mapping[str, Order]) -> None:
        self._orders = orders

    async def __call__(self, request: Request) -> Response:
        """Answer one order."""
        try:
            # Ansible looks at the status with a plain GET.
            if request.method != "POST" and request.path != "/status":
                raise BadInput("order", f"{request.method} is not how orders are given", "use the `outlast` command")
            return _json(200, await carry_out(self._orders, request.path.strip("/"), request.body))
        except BadInput as error:
            return _json(400, {"field": error.field, "wrong": error.wrong, "mend": error.mend})
        except PeerError as error:
            return _json(502, {"error": str(error)})
        except OutlastError as error:
            return _json(503, {"error": str(error)})


def node_orders(node: Node) -> dict[str, Order]:
    """The orders that need a running node: its status, and all that goes to its peers."""

    def known_peer(peer: str) -> str:
        if peer not in node.config.peers:
            known = ", ".join(sorted(node.config.peers)) or "none are configured"
            raise BadInput("PEER", f"{node.config.node} has no peer {peer!r}", f"one of: {known}")
        return peer

    def told(name: str) -> dict[str, object]:
        unit = node.state.units.get(name)
        if unit is None:
            raise BadInput("UNIT", f"{name} is not known here", "look at `outlast status`")
        return {"unit": name, **msgspec.to_builtins(unit)}

    async def ping(body: bytes) -> object:
        return await node.ping(known_peer(msgspec.json.decode(body, type=_Ping).peer))

    async def trace(body: bytes) -> object:
        return await node.trace(msgspec.json.decode(body, type=_Trace).id)

    def note(body: bytes) -> object:
        order = msgspec.json.decode(body, type=NoteOrder)
        node.notes.make(order.unit, known_peer(order.peer), order.text)
        return {"unit": order.unit, "peer": order.peer}

    def handoff(body: bytes) -> object:
        order = msgspec.json.decode(body, type=HandoffOrder)
        node.handoffs.make(order.unit, known_peer(order.peer), order.task)
        return told(order.unit)

    async def wait(body: bytes) -> object:
        order = msgspec.json.decode(body, type=_Wait)
        await node.handoffs.wait(order.unit, order.seconds)
        return told(order.unit)

    def emergency(body: bytes) -> object:
        node.health.declare(msgspec.json.decode(body, type=Emergency).reason)
        return {"node": node.config.node, "mode": node.health.standing.mode}

    def maintenance(body: bytes) -> object:
        order = msgspec.json.decode(body, type=Maintenance)
        return {"node": node.config.node, **node.health.maintain(on=order.on, dry=order.dry_run)}

    def resume(body: bytes) -> object:
        node.health.resume(msgspec.json.decode(body, type=_Resume).reason)
        return status(node)

    return {
        "status": lambda _: status(node),
        "channel": lambda _: channels(node),
        "trace": trace,
        "ping": ping,
        "handoff": handoff,
        "note": note,
        "wait": wait,
        "emergency": emergency,
        "maintenance": maintenance,
        "resume": resume,
    }


def _json(status: int, value: object) -> Response:
    return Response(status, to_json(value), {"content-type": "application/json"})
