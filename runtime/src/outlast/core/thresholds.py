"""What a person is told of that no other part looks for: siblings (spec.md, F1 to F3), gaps (F7), and section 7's thresholds.

Rules kept here: values in, a text or None out. A sibling that may sleep is never news. One that may not is told after
``power_after``, and where nothing comes back from it, not even a refusal, which is a partition and no loss of power, after
``partition_after``, in work hours. A channel is judged by its last hour only where the sibling was there all of it.

Left to others: looking (work.watch), what is told when (core.alerting).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import NamedTuple

from outlast.core.alerting import Hours, timespan
from outlast.core.gaps import Gap, numbered
from outlast.core.state import KEEP, MODE, Unit

__all__ = ["Silence", "channel", "gap", "is_critical", "silent_since", "sibling", "study", "studied", "subagents"]

# So few requests say nothing about a channel, and so few runs nothing about sub-agents.
_LEAST_TRIED, _LEAST_RUN = 5, 3
_HOUR_S = 3600.0
# Silence from which a start must know that it lasts; shorter ones are begun and ended many times a day.
_NOTED_S = 1800.0
_WORK = {"INTENT", "CONFIRM", "RECOVER"}


class Silence(NamedTuple):
    """How long a sibling was not heard, in seconds: ``awake``, and ``whole`` with this machine's sleep and restarts.

    ``lost``: what is sent there gets no answer at all.
    """

    awake: float
    whole: float
    lost: bool


def silent_since(known: Mapping[str, float], awake: Mapping[str, float], up: float, now: float) -> dict[str, float]:
    """Since when each sibling is silent that is so for long, in seconds since 1970; ``known``: what was known of that before.

    ``awake``: seconds since each was heard, and ``up`` since the start: who was not heard since then is as silent as before.
    """
    found = {}
    for peer, seconds in awake.items():
        if peer in known and (seconds >= up or seconds >= _NOTED_S):
            found[peer] = min(known[peer], now)
        elif seconds >= _NOTED_S:
            found[peer] = now - seconds
    return found


def sibling(
    peer: str, silence: Silence, partition_after: float, power_after: float, work: Hours, minute: int
) -> str | None:
    """What is to be said of a silent sibling that never sleeps; ``minute`` is that of the day. Times in seconds."""
    how_long = f"{peer} has been silent for {timespan(silence.whole)}"
    # A machine that wakes has not had the time to hear anybody.
    if silence.awake < min(partition_after, power_after):
        return None
    if silence.lost and silence.whole >= partition_after and work.holds(minute):
        mend = "mend: look at the network between the two, and whether it hangs"
        return f"{how_long}, and what is sent there gets no answer; {mend}"
    if silence.whole >= power_after:
        return f"{how_long}; mend: see whether it has power and network, and whether its runtime starts"
    return None


def channel(peer: str, hour: Mapping[str, object], present: float, least: int) -> str | None:
    """What is to be said of the last hour's requests to a sibling that is there for ``present`` seconds; ``least`` per cent."""
    tried, taken = hour.get("tried"), hour.get("taken")
    if not isinstance(tried, int) or not isinstance(taken, int) or tried < _LEAST_TRIED or present < _HOUR_S:
        return None
    if taken * 100 >= least * tried:
        return None
    told = f"only {taken} of {tried} requests to {peer} were taken in the last hour ({100 * taken // tried} %)"
    return f"{told}; mend: outlast channel {peer} says why"


def subagents(done: int, ended: int, least: int) -> str | None:
    """What is to be said where so few of the sub-agents that ended did so well; ``least`` per cent."""
    if ended < _LEAST_RUN or done * 100 >= least * ended:
        return None
    return (
        f"only {done} of {ended} sub-agents completed ({100 * done // ended} %); mend: outlast status, and their output"
    )


def studied(units: Iterable[Unit], day: str) -> int:
    """How many study units were done on a day (YYYY-MM-DD): steps and tasks whose text begins with the word study."""
    return sum(
        unit.status == "done"
        and unit.kind != "handoff"
        and unit.ended.startswith(day)
        and bool(re.match(r"study\b", unit.what, re.IGNORECASE))
        for unit in units
    )


def study(units: Iterable[Unit], since: str, today: str, least: int) -> str | None:
    """What is to be said where a study is active since the day ``since`` and yesterday had fewer units than ``least``.

    A day counts when it is over, and was one of study from its beginning; enough units today make good for it.
    """
    yesterday = (date.fromisoformat(today) - timedelta(days=1)).isoformat()
    if since >= yesterday:
        return None
    all_units = list(units)
    ended = [unit.ended for unit in all_units if unit.ended]
    if len(ended) >= KEEP and min(ended) >= yesterday:
        # So much was done since that STATE has not kept all of that day.
        return None
    done = studied(all_units, yesterday)
    if done >= least or studied(all_units, today) >= least:
        return None
    return f"a study is active, and {yesterday} had {done} study units of {least}; mend: look at what keeps its agent"


def is_critical(diff: str, node: str, first: int, last: int) -> bool:
    """Is there work or an emergency among records ``first`` to ``last``, or is not all known of them?

    ``diff``: what git says of the commits that have them, as far as it does.
    """
    shape = re.compile(
        rf"^\+- \d\d:\d\d:\d\d ([A-Z]+) ([a-z0-9-]+) .*\[{re.escape(node)}:(\d{{1,18}}) ", re.ASCII | re.MULTILINE
    )
    found = {int(seq): (step, unit) for step, unit, seq in shape.findall(diff) if first <= int(seq) <= last}
    return len(found) < last - first + 1 or any(step in _WORK or unit == MODE for step, unit in found.values())


def gap(lost: Gap, folder: str) -> str:
    """What is to be said of a gap in the journal that may hold what matters; ``folder``: where the journal is."""
    known = f"outlast alert known 'gap {lost.first}'"
    if lost.restored:
        told = f"this node went back to a backup: what it did since, from record {lost.first} on, is not here"
        return f"{told}, and may hold work; mend: look into var/trash, and at its siblings; then: {known}"
    where = f"git -C {folder} show {lost.git}" if lost.git else "git does not have it: look in backups"
    told = f"{numbered(lost.first, lost.last)}, lost from the journal, may hold work"
    return f"{told}; mend: {where}; then: {known}"
