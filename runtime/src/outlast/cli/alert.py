"""``outlast alert``: what a person is told, and whether that would reach them.

Rules kept here: no URL is ever printed, only what its service is called and which line it is in. Left to others: telling
(work.notifier).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import click

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import ago, tell
from outlast.cli.talk import NotRunning, order

__all__ = ["alert"]

_MEND = (
    "mend: correct outlast_alert_urls; where a node is shut in (docs/security.md) it reaches public services only with "
    "outlast_agent_needs: [internet], or their addresses and a resolver in outlast_reaches"
)


@click.group()
def alert() -> None:
    """See what a person is told, and try whether it reaches them."""


@alert.command("list")
@as_json
@click.pass_obj
def listed(where: Where, as_json: bool) -> int:
    """Show what holds, what was told when, and what waits to be told.

    Exit code 1 where something is to be told and nobody can be. While the node is down: what it knew last, and exit code 3.
    """
    home, running = where.home, True
    try:
        found = order(home, "alert/list")
    except NotRunning as error:
        running = False
        found = _on_disk(where)
        if not as_json:
            tell(f"outlast: {error}", err=True)
    if as_json:
        emit({**found, "running": running})
    else:
        tell("\n".join(_lines(found, time.time())))
    return 3 if not running else 1 if found["trouble"] and found["alerts"] else 0


@alert.command()
@click.option(
    "--urgency", type=click.Choice(["soon", "now"]), default="soon", show_default=True, help="What it is to look like."
)
@as_json
@click.pass_obj
def test(where: Where, urgency: str, as_json: bool) -> int:
    """Send a message to every URL now, whatever the hour.

    Exit code 1 where one of them did not take it. With the node down it is sent by this command itself.
    """
    home = where.home
    try:
        found = order(home, "alert/test", {"urgency": urgency})
    except NotRunning as error:
        from outlast.work.notifier import try_out

        tell(f"outlast: {error}\nsending it without the node", err=True)
        found = asyncio.run(try_out(home, home.node, "now" if urgency == "now" else "soon"))
    if as_json:
        emit(found)
    else:
        tell("\n".join(f"{one['to']}: {'taken' if one['ok'] else one['why']}" for one in found["urls"]))
        if not found["ok"]:
            tell(_MEND, err=True)
    return 0 if found["ok"] else 1


@alert.command()
@click.argument("name")
@as_json
@click.pass_obj
def known(where: Where, name: str, as_json: bool) -> int:
    """Say that you know of an alert: it is not told again, nor shown in HEARTBEAT.md, until it comes back.

    NAME is its name in `outlast alert list`. That it is over is told all the same.
    """
    found = order(where.home, "alert/known", {"name": name})
    if as_json:
        emit(found)
    else:
        tell(f"{name}: not told again while it holds")
    return 0


def _on_disk(where: Where) -> dict[str, Any]:
    from outlast.work.notifier import read_book, told_of

    items = read_book(where.home).items
    down = "the node is not running"
    told = [{"name": name, **told_of(item), "untold": down} for name, item in items.items() if not item.ended]
    return {"node": where.home.node, "trouble": down, "urls": [], "alerts": told}


def _lines(found: dict[str, Any], now: float) -> list[str]:
    lines = [f"{found['node']}: nothing is wrong that a person is told of"] if not found["alerts"] else []
    # What holds comes first.
    for one in sorted(found["alerts"], key=lambda one: bool(one["over"])):
        lines.append(f"{one['name']} ({one['urgency']}), {_story(one, now)}")
        lines.append(f"  {one['text']}")
    # Each that nobody was told of has said it already.
    if found["trouble"] and not any(one["untold"] == found["trouble"] and not one["over"] for one in found["alerts"]):
        lines.append(f"nobody can be told: {found['trouble']}")
    lines += [f"last time: {one['to']}: {'taken' if one['ok'] else one['why']}" for one in found["urls"]]
    return lines


def _story(one: dict[str, Any], now: float) -> str:
    parts = [f"since {ago(one['since'], now)}"]
    if one["over"]:
        parts.append(f"over since {ago(one['over'], now)}, to be told")
    elif one["known"]:
        parts.append("known")
    elif one["told"]:
        parts.append(f"told {ago(one['told'], now)}")
    else:
        parts.append(f"not told yet: {one['untold']}")
    return ", ".join(parts)
