"""One picture of a node and its peers, in as many rows and columns as there are: what ``outlast top`` shows.

Rules kept here: nothing is longer than the screen, or wider; what is wrong comes before what is well; nothing that somebody
else wrote can order a terminal about.

Left to others: the terminal (cli.top).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from outlast.cli.show import ago, plain, table
from outlast.core.record import one_line
from outlast.quantity import readable

__all__ = ["frame"]

# What is shown first when there is not room for all.
_BAD = {"bad": 0, "warn": 1, "busy": 2, "off": 3, "ok": 4}
# Of an external service these are no answer to how it is.
_BREAKER = ("closed", "half-open", "open")
_GROUPS = ("services", "jobs", "subagents", "probes", "external")


def frame(
    overviews: Mapping[str, Mapping[str, Any]],
    status: Mapping[str, Any],
    told: Mapping[str, str],
    failed: Sequence[Mapping[str, Any]],
    now: float,
    size: tuple[int, int] | None,
) -> list[str]:
    """The lines. ``overviews``: of each node that is known (core.overview), the own first; ``told``: what is to be said of the
    others; ``failed``: incidents, the newest last; ``size``: columns and rows, None for as many as it takes.
    """
    width, height = size or (200, 10_000)
    head = [f"outlast top  {time.strftime('%H:%M:%S', time.localtime(now))}"]
    for name, overview in overviews.items():
        head += _node(name, overview, told.get(name, ""), now)
    head += [f"{name}: {why}" for name, why in sorted(told.items()) if name not in overviews]
    head += _figures(status)
    parts = [
        _channels(status, now),
        *(_items(name, overview, many=len(overviews) > 1) for name, overview in overviews.items()),
        _failed(failed, now),
    ]
    lines = head + _fitted([part for part in parts if part], height - len(head) - (size is not None))
    if size is not None:
        lines = [*lines[: height - 1], *[""] * (height - 1 - len(lines)), "q or Ctrl-C ends"]
    return [_cut(plain(line), width) for line in lines]


def _node(name: str, overview: Mapping[str, Any], told: str, now: float) -> list[str]:
    ready = "ready" if overview["ready"] else "NOT READY"
    about = (
        f"{ready}, up since {ago(overview['since'], now).removesuffix(' ago')}, disk {overview.get('disk', 0.0):.0f} %"
    )
    work = f"{overview.get('tasks', 0)} tasks and {overview.get('handoffs', 0)} hand-offs open"
    mode = overview["mode"]
    lines = [f"{name}: mode {mode if mode == 'normal' else mode.upper()}, {about}, {work}{', ' if told else ''}{told}"]
    lines += [f"  {one_line(why)}" for why in overview.get("reasons", ())[:3]]
    lines += [
        f"  alert: {one['name']} ({one['state']}) {one.get('note', '')}" for one in overview.get("alerts", ())[:5]
    ]
    return lines


def _figures(status: Mapping[str, Any]) -> list[str]:
    observer = status.get("observer")
    if not observer or "error" in observer:
        return []
    late = f"loop {1000 * observer['lag_s']:.0f} ms late"
    used = f"memory {readable(observer['rss'])}, processor {observer['cpu_s']:.1f} s, {late}"
    kinds = [
        f"{name} {one['n']}" + (f" ({one['errors']} bad)" if one["errors"] else "")
        for name, one in observer["kinds"].items()
    ]
    return [f"runtime: {used}", f"since the start: {', '.join(kinds) or 'nothing'}"]


def _channels(status: Mapping[str, Any], now: float) -> list[str]:
    channels = status.get("channels", {})
    if not channels:
        return []
    rows = [["channel", "sent", "received", "queued", "breaker", "last sent", "last received"]]
    for peer, one in sorted(channels.items()):
        times = (ago(one["last_sent"], now), ago(one["last_received"], now))
        rows.append([peer, str(one["sent"]), str(one["received"]), str(one["queued"]), one["breaker"], *times])
    return table(rows)


def _items(node: str, overview: Mapping[str, Any], *, many: bool) -> list[str]:
    found = [
        (_BAD.get(item.get("level", "ok"), 4), group, item) for group in _GROUPS for item in overview.get(group, ())
    ]
    if not found:
        return []
    rows = [["node" if many else "", "what", "name", "state", ""]]
    for bad, group, item in sorted(found, key=lambda one: (one[0], _GROUPS.index(one[1]), one[2]["name"])):
        mark = "!" if bad < _BAD["busy"] else " "
        state = f"breaker {item['state']}" if item["state"] in _BREAKER else item["state"]
        words = (group.removesuffix("s"), item["name"], f"{mark}{state}", one_line(item.get("note", "")))
        rows.append([node if many else "", *words])
    return [line.strip() if not many else line for line in table(rows)]


def _failed(failed: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    if not failed:
        return []
    rows = [["failed", "what", "", "since then"]]
    for one in reversed(failed):
        until = one["done"] or ("over" if one["until"] else "not over")
        rows.append(
            [ago(one["at"], now), one_line(f"{one['kind']} {one['name']}", 30), one_line(one["what"], 40), until]
        )
    return table(rows)


def _fitted(parts: list[list[str]], room: int) -> list[str]:
    """Each part with a blank line before it; where there is too little room each has its share."""
    wanted = [len(part) + 1 for part in parts]
    while sum(wanted) > room and max(wanted, default=0) > 3:
        wanted[wanted.index(max(wanted))] -= 1
    lines: list[str] = []
    for part, rows in zip(parts, wanted, strict=True):
        shown = part if len(part) < rows else [*part[: rows - 2], f"… and {len(part) - rows + 2} more"]
        lines += ["", *shown]
    return lines[: max(0, room)]


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: max(0, width - 1)]}…"
