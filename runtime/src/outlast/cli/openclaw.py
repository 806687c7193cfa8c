"""``outlast openclaw``: the gateway beside the node: how it is, its tokens, and starting, stopping and restarting it.

Rules kept here: it works with the node's runtime dead too; a token is never printed; nothing here waits for ever.

Left to others: doing it (openclaw.launcher), deciding what to do without a person (openclaw.watch).
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING, Any, Literal

import click

from outlast.cli.common import Where, as_json, emit, fits
from outlast.cli.openclaw_restore import restore
from outlast.cli.openclaw_tell import tell as tell_agent
from outlast.cli.show import ago, tell
from outlast.cli.talk import NotRunning, order
from outlast.quantity import duration

if TYPE_CHECKING:
    from outlast.openclaw.place import Place

__all__ = ["openclaw"]

_SPARE_S = 30.0
_THEN = "it works in some seconds: outlast openclaw status"
_WORDS = {
    "stop": ("stopped", "it stays so until: outlast openclaw start"),
    "start": ("started", _THEN),
    "restart": ("restarted", _THEN),
}


@click.group()
def openclaw() -> None:
    """Look after OpenClaw's gateway beside this node.

    The node watches it and does what helps, in order; see what it knows with `outlast openclaw status`.
    """


openclaw.add_command(tell_agent)


@openclaw.command()
@as_json
@click.pass_obj
def status(where: Where, as_json: bool) -> int:
    """Show how the gateway is: asked now, by HTTP and by calls that read its database.

    Exit code 0 when it works.
    """
    from outlast.openclaw.place import place_of

    place = place_of(where.home, where.config)
    try:
        found = order(where.home, "openclaw/look")
    except NotRunning:
        found = asyncio.run(_look(place))
    found = {"node": where.config.node, "port": place.settings.port, **found}
    if as_json:
        emit(found)
    else:
        tell("\n".join(_lines(found)))
    return 0 if found["state"] == "working" else 1


async def _look(place: Place) -> dict[str, Any]:
    """What can be known without the node's runtime, which would know since when."""
    from outlast.core.gateway import Heard, hear, verdict
    from outlast.openclaw import alive, wishes
    from outlast.openclaw.watch import Known, told

    launched, heard, unready = wishes.launched(place), Heard(), ""
    if launched is not None and launched.phase == "running":
        for answer in (await alive.here(place), await alive.truth(place)):
            heard = hear(heard, launched.pid, answer)
        unready = await alive.unready(place)
    found = verdict(launched, heard, time.time(), duration(place.settings.start_within))
    known = Known(state=found.state, since=launched.since if launched else time.time(), why=found.why)
    true = {"alive": heard.alive, "true": heard.true, "not_ready": unready, "true_at": "", "last_remedy": ""}
    return {**told(launched, known), **true, "watched": False}


def _lines(found: dict[str, Any]) -> list[str]:
    now = time.time()
    why = f": {found['reason']}" if found["reason"] else ""
    lines = [f"{found['node']}: OpenClaw's gateway: {found['state']}, since {ago(found['since'], now)}{why}"]
    if found["pid"]:
        http = "ready" if found["alive"] else "not well"
        http = f"not ready ({found['not_ready']})" if found.get("not_ready") else http
        calls = "answered from its database" if found["true"] else "not answered well"
        lines.append(f"  pid {found['pid']}, port {found['port']}: HTTP {http}, calls {calls}")
    if found["last_exit"] is not None and found["last_reason"] not in ("", found["reason"]):
        lines.append(f"  before: {found['last_reason']}")
    if found["again_at"]:
        lines.append(f"  started again at {found['again_at']}")
    if found["trouble_since"]:
        tried = ", ".join(one["remedy"] for one in found["remedies"]) or "nothing"
        lines.append(f"  trouble since {ago(found['trouble_since'], now)}; tried: {tried}")
    if found["asked_since"] and found["state"] != "working":
        lines.append("  what is done by itself has not helped: outlast alert list says what you can do")
    if found.get("snapshot_at"):
        lines.append(f"  its state was copied {ago(found['snapshot_at'], now)}")
    if found.get("watched") is False:
        lines.append("  the node's runtime is down: nobody watches it")
    return lines


@openclaw.command()
@click.option("--ensure", is_flag=True, help="Make the tokens that are missing.")
@click.option("--rotate", is_flag=True, help="Change them all, and prove that the gateway refuses the old ones.")
@as_json
@click.pass_obj
def tokens(where: Where, ensure: bool, rotate: bool, as_json: bool) -> int:
    """See whether the gateway's tokens are there and whole; they are never shown.

    An interrupted --rotate goes on where it was when it is given again. Exit code 1 where somebody still holds an old token.
    """
    from outlast.openclaw import tokens as held
    from outlast.openclaw.place import place_of

    place = place_of(where.home, where.config)
    if rotate:
        return _rotated(place, as_json)
    made = held.ensure(place) if ensure else []
    held.gateway(place)
    held.hooks(place)
    if as_json:
        emit({"changed": bool(made), "made": made})
    else:
        tell(f"made {', '.join(made)}" if made else "they are there")
    return 0


def _rotated(place: Place, as_json: bool) -> int:
    from outlast.openclaw.rotating import rotate

    found = asyncio.run(rotate(place))
    if as_json:
        emit({"changed": True, **dataclasses.asdict(found)})
    else:
        how = ", after a restart" if found.restarted else ""
        proof = (
            f"the gateway refuses the old ones{how}"
            if found.proved
            else "the gateway does not run: it starts with these"
        )
        lines = ["went on with what was begun" if found.resumed else "", f"both tokens are new; {proof}"]
        lines += [f"an old one is still held by {who}; mend: end it, or delete it there" for who in found.held]
        tell("\n".join(filter(None, lines)))
    return 1 if found.held else 0


def _ordered(name: Literal["restart", "stop", "start"], what: str) -> None:
    """One order to the launcher, as a command of its own."""

    @openclaw.command(name, help=what)
    @click.option("--reason", default="a person asked for it", help="Why; it is shown in the status.")
    @as_json
    @click.pass_obj
    def given(where: Where, reason: str, as_json: bool) -> int:
        from outlast.openclaw import wishes
        from outlast.openclaw.place import place_of

        fits("--reason", reason, 200, "say why")
        place = place_of(where.home, where.config)
        patience = duration(place.settings.stop_within) + _SPARE_S
        found = wishes.await_done(place, wishes.ask(place, name, reason), patience)
        well = found.phase == ("stopped" if name == "stop" else "running")
        if as_json:
            emit({"done": well, "phase": found.phase, "pid": found.pid, "said": found.said, "reason": found.reason})
        else:
            pid = f", pid {found.pid}" if found.pid else ""
            done, then = _WORDS[name]
            tell(f"{done}{pid}; {then}" if well else f"not {done}: {found.reason}")
        return 0 if well else 1


_ordered("restart", "End the gateway with all that it started, and start it again.")
_ordered("stop", "End the gateway, and leave it so until `outlast openclaw start`, over reboots too.")
_ordered("start", "Start the gateway where it was stopped, or rests.")
openclaw.add_command(restore)
