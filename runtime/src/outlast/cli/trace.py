"""``outlast trace``: one message, unit or trace, followed through this node and its peers."""

from __future__ import annotations

import re
import time
from typing import Any

import click
import msgspec

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import table, tell
from outlast.cli.talk import NotRunning, order
from outlast.clock import iso
from outlast.core.record import one_line
from outlast.errors import BadInput, ControlError
from outlast.home import Home
from outlast.messages import Traced
from outlast.work.tracing import JOURNAL, local

__all__ = ["trace"]

_MOST = 200
# Less is how the way there and the way back differ.
_SKEW_S = 0.5


@click.command()
@click.argument("name", metavar="ID")
@as_json
@click.pass_obj
def trace(where: Where, name: str, as_json: bool) -> int:
    """Follow a message through the nodes.

    ID is a message, a unit, or a trace id, as events and `outlast show` name them: `outlast trace coz-d1zkffdmvrmx`. What this
    node knows is read from its files, also while it is down; then each peer is asked for what it has of it. Exit code 1 when
    nobody knows it.
    """
    if re.fullmatch("[A-Za-z0-9_-]{1,64}", name) is None:
        raise BadInput("ID", f"{one_line(name, 60)!r} is no id", "take one of `outlast tail` or `outlast show`")
    home, node = where.home, where.config.node
    found = local(home, node, name, _MOST)
    told, unasked = _peers(home, found.unit or name)
    lines = sorted([*found.lines, *told], key=lambda line: line.at)
    more = found.more + max(0, len(lines) - _MOST)
    lines = lines[:_MOST]
    if as_json:
        shown = [{"at": iso(line.at), "node": line.node, "what": line.what} for line in lines]
        emit({"id": name, "unit": found.unit, "lines": shown, "more": more, "unasked": unasked})
        return 0 if lines else 1
    why = "; ".join(f"{peer} could not be asked: {reason}" for peer, reason in unasked.items())
    if not lines:
        raise ControlError(f"{name} is known to nobody who could be asked" + (f" ({why})" if why else ""))
    rows = [["time", "node", "what"], *([_clock(line), line.node, line.what] for line in lines)]
    tell("\n".join(table(rows)))
    if more:
        tell(f"and {more} more: --json shows no more either; look into workspace/logs")
    for peer, reason in unasked.items():
        tell(f"{peer} could not be asked: {reason}", err=True)
    return 0


def _peers(home: Home, name: str) -> tuple[list[Traced], dict[str, str]]:
    """What the peers told, by this node's clock, and who could not be asked and why."""
    try:
        answers = order(home, "trace", {"id": name})["peers"]
    except NotRunning:
        return [], {"any peer": f"{home.node} is not running"}
    unasked = {peer: one_line(answer["error"], 300) for peer, answer in answers.items() if answer["error"]}
    return [_ours(line, peer, answer) for peer, answer in answers.items() for line in answer["lines"]], unasked


def _ours(line: dict[str, Any], peer: str, answer: dict[str, Any]) -> Traced:
    """A line of a peer's: it speaks for itself alone, and its clock is not ours."""
    told = msgspec.convert(line, Traced)
    skew = answer["skew_s"] if abs(answer["skew_s"]) >= _SKEW_S else 0.0
    # What no clock says is shown at its edge.
    at = min(max(told.at - skew, 0.0), float(1 << 33))
    return Traced(at, peer, one_line(told.what, 400))


def _clock(line: Traced) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(line.at))
    # The journal knows the second.
    return moment if line.what.startswith(JOURNAL) else f"{moment}.{int(line.at * 1000) % 1000:03}"
