"""What became of a node over a stretch of time: a pure sum over its events and metrics.

Rules kept here: what is not written down is not guessed: a node that was killed was up until its last sign of life; a rate
without anything to count is none.

Left to others: reading the files (store.history), printing (cli.report), what failed (core.timeline).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import msgspec

from outlast.core.moments import iso
from outlast.core.ratelimit import lane
from outlast.core.timeline import Incident, timeline

__all__ = ["Alert", "Down", "InMode", "Report", "Work", "report"]

# A node that runs writes at least this often.
_QUIET_S = 1000.0
# What commands write while the runtime may be dead.
_COMMANDS = ("files.", "clean.", "step.", "doctor.", "keys.", "shared.", "git.", "journal.", "state.")
_KINDS = {"task.closed": "tasks", "handoff.closed": "handoffs", "step.closed": "steps", "agent.ended": "agent runs"}
_RUNS = {"job.ended": "jobs", "subagent.ended": "sub-agents", "subagent.closed": "sub-agents"}


class Work(msgspec.Struct):
    """Things of one kind that ended: how many, of them how many by verdict, the share that was done, seconds of each."""

    number: int = 0
    verdicts: dict[str, int] = {}
    success: float | None = None
    median_s: float | None = None
    longest_s: float | None = None


class Down(msgspec.Struct, frozen=True):
    """When the node did not run, and why: ``stopped`` or ``killed``."""

    since: str
    until: str
    why: str
    seconds: float


class InMode(msgspec.Struct, frozen=True):
    """A time in one mode, and why."""

    mode: str
    since: str
    until: str
    why: str
    seconds: float


class Alert(msgspec.Struct, frozen=True):
    """What a person is to be told, until when it held (empty while it does), and what became of it."""

    name: str
    at: str
    until: str
    text: str
    done: str


class Report(msgspec.Struct):
    """What ``outlast report --json`` prints. Times are ISO 8601, UTC.

    ``up_s`` is out of ``known_s``, in seconds: before its first sign of life nothing is known of a node.
    """

    node: str
    since: str
    until: str
    known_s: float
    up_s: float
    starts: int
    down: list[Down]
    modes: list[InMode]
    work: dict[str, Work]
    jobs: dict[str, Work]
    messages: dict[str, Any]
    alerts: list[Alert]
    incidents: list[Incident]
    figures: dict[str, float]


def report(
    node: str, events: Iterable[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], since: float, now: float
) -> Report:
    """Sum up what happened between two moments (seconds since 1970). ``events`` may begin before: that tells how it stood."""
    told = sorted(events, key=lambda event: str(event.get("at", "")))
    within = [event for event in told if _at(event) >= since]
    lives = _lives(told, lines, now)
    down = _down(lives, since, now)
    known = max(since, min([lives[0][0], now])) if lives else now
    # Alerts are a list of their own.
    incidents = [
        one for one in timeline(told) if one.kind != "alert" and (not one.until or _moment(one.until) >= since)
    ]
    measured = [line for line in lines if _at(line) >= since]
    return Report(
        node=node,
        since=iso(since),
        until=iso(now),
        known_s=round(now - known, 3),
        up_s=round(now - known - sum(one.seconds for one in down), 3),
        starts=sum(event.get("event") == "node.started" for event in within),
        down=down,
        modes=_modes(told, lines, known, now) if known < now else [],
        work={kind: work for kind, work in _work(within, {**_KINDS, **_RUNS}).items() if work.number},
        jobs=_work(within, {"job.ended": ""}, by="name"),
        messages=_messages(within, measured),
        alerts=_alerts(told, since),
        incidents=incidents,
        figures=_figures(measured, since),
    )


def _at(entry: Mapping[str, Any]) -> float:
    return _moment(str(entry.get("at", "")))


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _lives(
    events: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], now: float
) -> list[tuple[float, float, str]]:
    """From when to when the node ran, and how that ended; of the last one, which goes on, with an empty word."""
    signs = sorted(
        [(_at(event), str(event.get("event", ""))) for event in events] + [(_at(line), "metrics") for line in lines]
    )
    lives: list[tuple[float, float, str]] = []
    began, last = -1.0, 0.0
    for at, name in signs:
        if name.startswith(_COMMANDS):
            continue
        if name == "node.started":
            if began >= 0:
                lives.append((began, last, "killed"))
            began = at
        elif began < 0 and not (lives and lives[-1][2] == "stopped"):
            began = at
        last = at
        if name == "node.stopped" and began >= 0:
            lives.append((began, at, "stopped"))
            began = -1.0
    if began >= 0:
        lives.append((began, now, "") if now - last <= _QUIET_S else (began, last, "killed"))
    return lives


def _down(lives: Sequence[tuple[float, float, str]], since: float, now: float) -> list[Down]:
    """The times between; before the first sign of life nothing is known, which is no time down."""
    gaps = [(before[1], after[0], before[2]) for before, after in zip(lives, lives[1:], strict=False)]
    if lives and lives[-1][2]:
        gaps.append((lives[-1][1], now, lives[-1][2]))
    clipped = [(max(began, since), min(ended, now), why) for began, ended, why in gaps]
    return [
        Down(iso(began), iso(ended), why, round(ended - began, 3)) for began, ended, why in clipped if ended > began
    ]


def _modes(
    events: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], since: float, now: float
) -> list[InMode]:
    changes = [(_at(event), str(event["mode"]), str(event.get("why", ""))) for event in events if _is_mode(event)]
    earlier = [change for change in changes if change[0] <= since]
    measured = [str(line["mode"]) for line in lines if "mode" in line and _at(line) <= since]
    mode, why = earlier[-1][1:] if earlier else (measured[-1] if measured else "normal", "")
    told, began = [], since
    for at, to, because in [*(change for change in changes if change[0] > since), (now, "", "")]:
        told.append(InMode(mode, iso(began), iso(at), why if mode != "normal" else "", round(at - began, 3)))
        mode, why, began = to, because, at
    return told


def _is_mode(event: Mapping[str, Any]) -> bool:
    return event.get("event") == "mode.changed" and isinstance(event.get("mode"), str)


def _work(events: Sequence[Mapping[str, Any]], kinds: Mapping[str, str], by: str = "") -> dict[str, Work]:
    found: dict[str, list[Mapping[str, Any]]] = {} if by else {kind: [] for kind in kinds.values()}
    for event in events:
        kind = kinds.get(str(event.get("event", "")))
        if kind is not None and isinstance(event.get("verdict"), str):
            found.setdefault(str(event.get(by, "")) if by else kind, []).append(event)
    return {name: _summed(ended) for name, ended in found.items()}


def _summed(ended: Sequence[Mapping[str, Any]]) -> Work:
    verdicts: dict[str, int] = {}
    for event in ended:
        verdicts[event["verdict"]] = verdicts.get(event["verdict"], 0) + 1
    took = sorted(float(event["seconds"]) for event in ended if isinstance(event.get("seconds"), int | float))
    return Work(
        len(ended),
        verdicts,
        _share(verdicts.get("done", 0), len(ended)),
        took[len(took) // 2] if took else None,
        took[-1] if took else None,
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _messages(events: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many, and which share of the requests to peers was taken. Of what comes in bursts the metrics know the number."""
    names = [str(event.get("event", "")) for event in events]
    delivered, given_up = names.count("message.delivered"), names.count("message.given_up")
    refused: dict[str, int] = {}
    for event in events:
        if event.get("event") == "message.refused":
            reason = str(event.get("reason", ""))
            refused[reason] = refused.get(reason, 0) + 1 + _whole(event.get("more_since_last"))
    failed = sum(
        1 + _whole(event.get("more_since_last")) for event in events if event.get("event") == "message.undelivered"
    )
    counted = sum(_whole(line.get("kinds", {}).get("message_out", {}).get("errors")) for line in lines) - given_up
    failed = max(failed, counted)
    return {
        "in": sum(name.endswith(".accepted") and lane(name.removesuffix(".accepted")) == "work" for name in names),
        "out": delivered,
        "given_up": given_up,
        "failed_requests": failed,
        "success": _share(delivered, delivered + failed + given_up),
        "refused": refused,
    }


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _alerts(events: Sequence[Mapping[str, Any]], since: float) -> list[Alert]:
    told = timeline(event for event in events if str(event.get("event", "")).startswith(("alert", "node.")))
    return [
        Alert(one.name, one.at, one.until, one.what, one.done)
        for one in told
        if one.kind == "alert" and (not one.until or _moment(one.until) >= since)
    ]


def _figures(lines: Sequence[Mapping[str, Any]], since: float) -> dict[str, float]:
    """The greatest of each figure, and of the processor what was used in all."""
    found: dict[str, float] = {}
    for name in ("rss", "lag", "disk", "load", "queued"):
        values = [float(line[name]) for line in lines if isinstance(line.get(name), int | float)]
        if values:
            found[f"{name}_max"] = max(values)
    # It counts from each start of the runtime on; shares of each minute would round what an idle node uses to nothing.
    used = [line for line in lines if isinstance(line.get("cpu_s"), int | float)]
    if used:
        # What a runtime that began before that time had used by then is not counted.
        first, seconds = used[0], used[0].get("seconds")
        began = isinstance(seconds, int | float) and _at(first) - seconds > since
        counts = [0.0 if began else float(first["cpu_s"]), *(float(line["cpu_s"]) for line in used)]
        found["cpu_s"] = round(sum(now - before if now >= before else now for before, now in pairwise(counts)), 2)
    return found
