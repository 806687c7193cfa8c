"""The figures and the one table that shows them.

Rules kept here: pure; a figure that was not measured says why and never counts as a goal that was met.

Left to others: measuring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["AtLeast", "Figure", "Goal", "Row", "median", "met", "per_day", "percentile", "render"]

_DECIMALS = {"MiB": 1, "MB": 2, "KB": 2, "%": 3, "s": 2, "ms": 1, "/s": 0, "×": 2, "µs": 0, "refused": 0}
_HEAD = ("measure", "ours", "peers, same run", "goal", "met?")
_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value, in the unit of its row, of ``who``; ``value`` is None where it could not be had, and ``why``."""

    value: float | None
    who: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Goal:
    """At most ``limit`` (less than it where ``strict``), and no more than the peer ``beside`` if one is named."""

    limit: float
    strict: bool = True
    beside: str = ""


@dataclass(frozen=True, slots=True)
class AtLeast:
    """No less than ``times`` what the peer ``beside`` does; where no peer is named, than ``times`` itself."""

    times: float
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ``unit`` is MiB, MB, KB (1,000 bytes), %, s, ms, µs, /s (so many a second), × (a ratio), or refused (messages)."""

    measure: str
    unit: str
    ours: Figure
    peers: Sequence[Figure] = field(default=())
    goal: Goal | AtLeast | None = None


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of ``values`` that at least ``percent`` of them do not exceed. Raises ValueError if there are none."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def median(values: Sequence[float]) -> float:
    """The middle of ``values``. Raises ValueError if there are none."""
    return (percentile(values, 50) + sorted(values)[len(values) // 2]) / 2


def per_day(amount: float, seconds: float) -> float:
    """What ``amount`` in so many seconds comes to in a day, if it goes on like that."""
    return amount * _DAY / seconds


def met(row: Row) -> str:
    """Is the goal met: yes, NO, "-" where there is none, and "not known" where a figure that it takes is missing."""
    if row.goal is None:
        return "-"
    if row.ours.value is None:
        return "not known"
    if isinstance(row.goal, AtLeast):
        than = _peer(row, row.goal.beside) if row.goal.beside else 1.0
        return "not known" if than is None else "yes" if row.ours.value >= row.goal.times * than else "NO"
    limit = row.goal.limit
    if row.ours.value > limit or (row.goal.strict and row.ours.value == limit):
        return "NO"
    if not row.goal.beside:
        return "yes"
    peer = _peer(row, row.goal.beside)
    return "not known" if peer is None else "yes" if row.ours.value <= peer else "NO"


def _peer(row: Row, who: str) -> float | None:
    return next((peer.value for peer in row.peers if peer.who == who), None)


def render(rows: Sequence[Row]) -> str:
    """The table, as Markdown with aligned columns, and below it why figures are missing."""
    cells = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    lines = [_line(line, widths) for line in cells]
    lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    missing = {
        f"- {figure.who or row.measure} not measured: {figure.why or 'no reason was given'}": None
        for row in rows
        for figure in (row.ours, *row.peers)
        if figure.value is None
    }
    return "\n".join([*lines, *([""] if missing else []), *missing])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |"


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    peers = ", ".join(f"{peer.who} {_value(peer.value, row.unit)}" for peer in row.peers)
    return row.measure, _value(row.ours.value, row.unit), peers or "-", _goal(row), met(row)


def _value(value: float | None, unit: str) -> str:
    return "not measured" if value is None else f"{value:.{_DECIMALS[unit]}f} {unit}"


def _goal(row: Row) -> str:
    if row.goal is None:
        return "-"
    if isinstance(row.goal, AtLeast):
        return f"≥ {round(row.goal.times, 2):g} {f'× {row.goal.beside}' if row.goal.beside else row.unit}"
    beside = f", ≤ {row.goal.beside}" if row.goal.beside else ""
    return f"{'<' if row.goal.strict else '≤'} {row.goal.limit:g} {row.unit}{beside}"
