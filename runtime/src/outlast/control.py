"""The local control: HTTP over ``run/control.sock``; who may open the socket may give orders, nobody else can.

Rules kept here: an order that is wrong gets one clear error with field, wrong and mend. Left to others: doing it (node).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from outlast.core.ids import UNIT
from outlast.errors import BadInput, OutlastError, PeerError
from outlast.net.http import Request, Response

if TYPE_CHECKING:
    from outlast.node import Node

__all__ = ["Control", "HandoffOrder"]


class HandoffOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Hand ``task`` to ``peer`` as ``unit``, which makes asking again safe."""

    unit: Annotated[str, msgspec.Meta(pattern=UNIT)]
    peer: str
    task: Annotated[str, msgspec.Meta(min_length=1, max_length=16_384)]


class _Wait(msgspec.Struct, forbid_unknown_fields=True):
    unit: str
    seconds: Annotated[float, msgspec.Meta(ge=0, le=60)]


class _Resume(msgspec.Struct, forbid_unknown_fields=True):
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Control:
    """Answers orders that come through the control socket."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def __call__(self, request: Request) -> Response:
        """Answer one order."""
        try:
            return _json(200, await self._do(request))
        except BadInput as error:
            return _json(400, {"field": error.field, "wrong": error.wrong, "mend": error.mend})
        except msgspec.MsgspecError as error:
            return _json(400, {"field": request.path, "wrong": str(error), "mend": "use the `outlast` command"})
        except PeerError as error:
            return _json(502, {"error": str(error)})
        except OutlastError as error:
            return _json(503, {"error": str(error)})

    async def _do(self, request: Request) -> object:
        match (request.method, request.path.strip("/").split("/")):
            case ("GET", ["status"]):
                return self._node.status()
            case ("POST", ["ping", peer]):
                return await self._node.ping(self._peer(peer))
            case ("POST", ["handoff"]):
                order = msgspec.json.decode(request.body, type=HandoffOrder)
                self._node.handoffs.make(order.unit, self._peer(order.peer), order.task)
                return self._unit(order.unit)
            case ("POST", ["wait"]):
                wait = msgspec.json.decode(request.body, type=_Wait)
                await self._node.handoffs.wait(wait.unit, wait.seconds)
                return self._unit(wait.unit)
            case ("POST", ["resume"]):
                self._node.health.resume(msgspec.json.decode(request.body, type=_Resume).reason)
                return self._node.status()
        raise BadInput("order", f"{request.method} {request.path} is not known", "use the `outlast` command")

    def _peer(self, peer: str) -> str:
        if peer not in self._node.config.peers:
            known = ", ".join(sorted(self._node.config.peers)) or "none are configured"
            raise BadInput("PEER", f"{self._node.config.node} has no peer {peer!r}", f"one of: {known}")
        return peer

    def _unit(self, name: str) -> dict[str, object]:
        unit = self._node.state.units.get(name)
        if unit is None:
            raise BadInput("UNIT", f"{name} is not known here", "look at `outlast status`")
        return {"unit": name, **msgspec.to_builtins(unit)}


def _json(status: int, value: object) -> Response:
    return Response(status, msgspec.json.encode(value), {"content-type": "application/json"})
