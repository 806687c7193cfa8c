"""What the command prints for people: plain lines and aligned tables, nothing that a terminal must understand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from outlast.core.record import one_line
from outlast.quantity import spoken

__all__ = ["ago", "event_line", "plain", "status_lines", "table", "tell", "whose"]

_SHOWN = 5


def plain(text: str) -> str:
    """Text that no terminal takes for an order: agents can write what the command reads, and answer in the node's place."""
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text)


def tell(text: str, *, err: bool = False) -> None:
    """Print a text for people, on standard error where it is about trouble."""
    click.echo(plain(text), err=err)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def ago(moment: str | None, now: float) -> str:
    """How long ago an ISO 8601 moment was, for people."""
    if not moment:
        return "never"
    return f"{spoken(now - datetime.fromisoformat(moment).timestamp())} ago"


def status_lines(status: dict[str, Any], now: float) -> list[str]:
    """A node's status, for people."""
    ready = "ready" if status["ready"] else f"not ready ({', '.join(status['reasons'])})"
    why = f" ({'; '.join(status['mode_reasons'])})" if status["mode_reasons"] else ""
    services = ", ".join(f"{name} {state}" for name, state in status["services"].items())
    lines = [
        f"{status['node']}: alive, {ready}, mode {status['mode']}{why}",
        f"  since {ago(status['since'], now)}, pid {status['pid']}, port {status['port']}, version {status['version']}",
        f"  services: {services}",
    ]
    if status.get("shed"):
        names = ", ".join(f"{one['name']} ({one['priority']}, {one['how']})" for one in status["shed"])
        lines.append(f"  shed now: {names}")
    if gateway := status.get("openclaw"):
        why = f": {one_line(gateway['reason'], 200)}" if gateway.get("reason") else ""
        lines.append(f"  openclaw: {gateway.get('state', 'unknown')}, since {ago(gateway.get('since'), now)}{why}")
    lines += _not_working(status.get("probes", {}), now)
    lines += [f"  alert ({alert['urgency']}): {alert['text']}" for alert in status["alerts"]]
    trouble = status.get("notifier", {}).get("trouble", "")
    if trouble and status["alerts"]:
        lines.append(f"  nobody can be told of that: {trouble}")
    for kind in ("tasks", "handoffs"):
        told = [f"{count} {verdict}" for verdict, count in status[kind].items() if count or verdict == "open"]
        lines.append(f"  {kind}: {', '.join(told)}")
    for unit in status["open"][:_SHOWN]:
        lines.append(f"  open: {unit['unit']} {whose(unit)}, since {unit['since']}: {unit['what']}")
        if unit["peer"] and unit["peer"] not in status["channels"]:
            lines.append(f"    {unit['peer']} is not among the peers in node.yml")
    if len(status["open"]) > _SHOWN:
        lines.append("  and more are open: outlast status --json")
    if status["channels"]:
        rows = [["peer", "sent", "received", "gaps", "repeats", "queued", "breaker", "last sent", "last received"]]
        for peer, channel in sorted(status["channels"].items()):
            counts = [str(channel[key]) for key in ("sent", "received", "gaps", "repeats", "queued")]
            times = (ago(channel["last_sent"], now), ago(channel["last_received"], now))
            rows.append([peer, *counts, channel["breaker"], *times])
        lines += [f"  {line}" for line in table(rows)]
    for peer, channel in sorted(status["channels"].items()):
        if channel["last_error"]:
            lines.append(f"  trouble with {peer}, {ago(channel['last_error_at'], now)}: {channel['last_error']}")
    if status["recovered"]:
        lines.append("  recovered after a stop:")
        lines += [f"    {found['at']}  {found['unit']}: {found['what']}" for found in status["recovered"][-5:]]
    return lines


def _not_working(probes: Mapping[str, Any], now: float) -> list[str]:
    """What does not do its work, and which skills ran lately, as long as something is down."""
    broken = {
        subject: standing
        for subject, standing in probes.get("working", {}).items()
        if standing["state"] not in {"working", "not looked at"}
    }
    lines = [
        f"  {subject}: {standing['state']}, since {ago(standing['since'], now)}: {standing['text']}"
        for subject, standing in broken.items()
    ]
    for name, skill in probes.get("skills", {}).items() if broken else ():
        lines.append(
            f"    skill {name}: {'well' if skill['ok'] else 'NOT WELL'}, {ago(skill['at'], now)}: {skill['text']}"
        )
    return lines


def whose(unit: Mapping[str, Any]) -> str:
    """For whom a unit of work is, or by whom."""
    return {"task": f"from {unit['peer']}", "handoff": f"to {unit['peer']}"}.get(unit["kind"], "(a step of its own)")


def event_line(entry: dict[str, Any]) -> str:
    """One event, for people: time, what, about which unit, and the rest as it is."""
    hidden = {"at", "node", "event", "trace_id", "span_id", "parent_id", "correlation_id"}
    moment = datetime.fromisoformat(entry["at"]).astimezone().strftime("%H:%M:%S")
    rest = " ".join(
        f"{key}={one_line(str(value), 400)}"
        for key, value in entry.items()
        if key not in hidden and value not in ("", None, [])
    )
    return " ".join(part for part in (moment, entry["event"], entry.get("correlation_id", ""), rest) if part)
