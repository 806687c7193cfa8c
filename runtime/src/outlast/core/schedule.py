"""When a job is due: cron lines in a time zone, what becomes of cycles that nobody was there for, and whose job it is.

Rules kept here:

* a job that names its hours runs once for each local time that its line names: where a clock change leaves that time out, at
  the moment of the change; where it comes twice, the first time. One that runs in every hour goes by the clock as it shows:
  every five minutes stays every five minutes (as Debian's cron has it);
* a cycle that is not begun within a minute (the machine slept, the node was down, the clock was set) is skipped and counted;
  of several that are over, the newest alone can run;
* a cycle that is dealt with does not come again where the clock is set back by less than three hours; beyond that the new
  time counts;
* a job never runs twice at once.

Values only: moments are seconds since 1970, and zones are passed in. Left to others: which zones there are (work.timetable),
running a job (work.jobs), and what a mode sheds (core.modes).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import Literal

__all__ = ["LATE_S", "NEVER", "Held", "Schedule", "Track", "Turn", "begun_with", "takes_over", "turn"]

NEVER = math.inf
LATE_S = 60.0
"""Seconds within which a cycle that is due must begin."""
_BACK_S = 3 * 3600.0
# Counting them one by one takes time; whoever missed more is told this many.
_COUNTED = 10_000
_DAY_S = 86400
_EPOCH = datetime(1970, 1, 1)
_NAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_FIELDS = "minute hour day-of-month month day-of-week"
_EXAMPLE = f"write {_FIELDS}, such as 30 3 * * 1-5"

Held = Literal["", "running", "shed", "paced"]
"""Why a cycle that is due does not run: it still runs, its priority is off, or every second cycle is left out."""


class Schedule:
    """A cron line in a zone: five fields, six with the seconds first, or a name such as ``@daily``."""

    __slots__ = ("_cycles", "_every_hour", "line", "zone")

    def __init__(self, line: str, zone: tzinfo) -> None:
        """Read a line. Raises ValueError whose text is ``what is wrong; the mend``."""
        # Imported where it is used: most nodes have no jobs.
        from cronsim import CronSim, CronSimError

        self.line = " ".join(line.split())
        self.zone = zone
        try:
            self._cycles = CronSim(_NAMES.get(self.line.lower(), self.line), _EPOCH)
            next(self._cycles)
        except StopIteration:
            raise ValueError(f"{line!r} never comes; {_EXAMPLE}") from None
        except (CronSimError, ValueError, AssertionError, IndexError) as error:
            raise ValueError(f"{_wrong(self.line, str(error))}; {_EXAMPLE}") from None
        self._every_hour = len(self._cycles.hours) == 24

    def words(self) -> str:
        """What the line says: ``At 03:30 on Monday through Friday``."""
        return self._cycles.explain()

    def next(self, after: float) -> float:
        """The first moment after ``after`` at which it is due; NEVER where there is none in fifty years."""
        return self._by_the_clock(after) if self._every_hour else self._by_name(after)

    def _by_name(self, after: float) -> float:
        """Each local time that the line names has one moment, and later ones have later moments, or the same."""
        local = _local(after, self.zone)
        while (named := self._match(local)) is not None:
            if (moment := _moment(named, self.zone)) > after:
                return moment
            local = named
        return NEVER

    def _by_the_clock(self, after: float) -> float:
        """From one change of the clock to the next local time goes on evenly."""
        while (named := self._match(_local(after, self.zone))) is not None:
            moment = (named - _EPOCH).total_seconds() - _offset(after, self.zone)
            changed = _change(after, moment, self.zone)
            if changed is None:
                return moment
            shown = _local(changed, self.zone)
            if self._match(shown - timedelta(seconds=1)) == shown:
                return changed
            after = changed
        return NEVER

    def _match(self, local: datetime) -> datetime | None:
        """The first local time after ``local`` that the line names."""
        self._cycles.dt = local.replace(microsecond=0)
        return next(self._cycles, None)


@dataclass(frozen=True, slots=True)
class Track:
    """How far a job's cycles are dealt with: the newest that is, and how many went by since one ran."""

    cycle: float
    rested: int = 1


@dataclass(frozen=True, slots=True)
class Turn:
    """What a look at the clock says: the cycle that is to be run now, or why it is not, and how many were missed."""

    track: Track
    run: float | None = None
    missed: int = 0
    held: Held = ""


def begun_with(cycle: float | None, now: float) -> Track:
    """Where a start begins: with the newest cycle that an earlier runtime dealt with, else with what comes from now on."""
    return Track(now if cycle is None or cycle > now + _BACK_S else cycle)


def turn(track: Track, now: float, schedule: Schedule, pace: int, *, ours: bool, running: bool) -> Turn:
    """Look at the clock. ``pace``: 1 every cycle, 2 every second one, 0 none; ``ours``: it is for this node to run."""
    if track.cycle > now + _BACK_S:
        track = replace(track, cycle=now)
    if not ours:
        # Its cycles are another's: that they go by here is no news.
        return Turn(replace(track, cycle=max(track.cycle, now)))
    newest, count = _over(track.cycle, now, schedule)
    if not count:
        return Turn(track)
    late = now - newest > LATE_S
    missed = count if late else count - 1
    rested = track.rested + missed
    if late:
        return Turn(Track(newest, rested), None, missed)
    held: Held = "running" if running else "shed" if pace == 0 else "paced" if rested + 1 < pace else ""
    if held:
        return Turn(Track(newest, rested + 1), None, missed, held)
    return Turn(Track(newest, 0), newest, missed)


def takes_over(silent: float, awake: float, limit: float) -> bool:
    """Is another's job for this node, whose owner was not heard for ``silent`` seconds?

    ``awake``: seconds since this node started, or was last seen to have slept: an owner is given the whole of its time after
    that.
    """
    return min(silent, awake) > limit


def _over(after: float, now: float, schedule: Schedule) -> tuple[float, int]:
    """The newest cycle after ``after`` that is not in the future, and how many there are, up to a bound."""
    newest, count = after, 0
    for cycle in _cycles(after, now, schedule):
        newest, count = cycle, count + 1
        if count >= _COUNTED:
            # Of the rest only those count that may still be run.
            recent = max(newest, now - LATE_S)
            return max(_cycles(recent, now, schedule), default=recent), count
    return newest, count


def _cycles(after: float, now: float, schedule: Schedule) -> Iterator[float]:
    while (after := schedule.next(after)) <= now:
        yield after


def _local(moment: float, zone: tzinfo) -> datetime:
    """What a clock in the zone shows, to the second."""
    return datetime.fromtimestamp(math.floor(moment), zone).replace(tzinfo=None, fold=0)


def _offset(moment: float, zone: tzinfo) -> float:
    """How far a clock in the zone is ahead of UTC, in seconds."""
    ahead = datetime.fromtimestamp(math.floor(moment), zone).utcoffset()
    return ahead.total_seconds() if ahead else 0.0


def _moment(local: datetime, zone: tzinfo) -> float:
    """When a clock in the zone shows this: the first time where it does twice; the clock's change where it never does."""
    early, late = (local.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))
    if late >= early:
        return early
    changed = _change(late, early, zone)
    return early if changed is None else changed


def _change(after: float, until: float, zone: tzinfo) -> float | None:
    """The first moment after ``after``, up to ``until``, from which the zone's clocks are set otherwise."""
    low, last = math.floor(after), math.floor(until)
    before = _offset(low, zone)
    while low < last:
        high = min(low + _DAY_S, last)
        if _offset(high, zone) == before:
            low = high
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
        return float(high)
    return None


def _wrong(line: str, said: str) -> str:
    """What is wrong with a line, in words."""
    number = len(line.split())
    if number not in {5, 6}:
        return f"{line!r} has {number} fields, not 5"
    return f"its {said.removeprefix('Bad ')} is wrong" if said.startswith("Bad ") else f"{line!r} is no cron line"
