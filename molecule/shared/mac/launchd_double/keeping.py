"""When a job is started again: no clock, process or file in here.

Keeps: the conditions of a KeepAlive dictionary are joined by "or", as launchd.plist(5) says. Leaves to others: starting it.
"""

from __future__ import annotations

import datetime
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from launchd_double.definition import Definition, KeepAlive

# What launchd.plist(5) calls signals that are typically associated with a crash.
CRASH_SIGNALS = {
    signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGFPE, signal.SIGBUS, signal.SIGSEGV, signal.SIGSYS,
}  # fmt: skip
A_YEAR_AND_A_DAY = 4 * 366


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or else the signal that ended it."""

    code: int = 0
    signal: int = 0

    @property
    def well(self) -> bool:
        """Whether it ended by itself with 0."""
        return not self.code and not self.signal


def wanted(keep: KeepAlive, ended: Ended | None, exists: Callable[[str], bool]) -> bool:
    """Whether a job that does not run is to be started by its KeepAlive; ended is None before its first run."""
    if keep.always or any(exists(path) is there for path, there in keep.path_state.items()):
        return True
    if ended is None:
        # An exit cannot be waited for without a start: the key implies RunAtLoad.
        return keep.successful_exit is not None
    if keep.successful_exit is not None and ended.well is keep.successful_exit:
        return True
    return keep.crashed is not None and (ended.signal in CRASH_SIGNALS) is keep.crashed


@dataclass
class Patience:
    """Counts failures in a row, each after less than the throttle interval; launchd's patience ends at most."""

    most: int
    failures: int = 0

    @property
    def over(self) -> bool:
        """Whether KeepAlive is not honoured any more until the job is kickstarted."""
        return self.failures >= self.most

    def ended(self, ended: Ended, ran_s: float, throttle_s: float) -> None:
        """Take note of an end."""
        self.failures = 0 if ended.well or ran_s >= throttle_s else self.failures + 1

    def renew(self) -> None:
        """Begin anew."""
        self.failures = 0


def delay_s(definition: Definition, since_spawn_s: float) -> float:
    """Seconds to wait until a job may be spawned, so that it is not spawned more often than it says."""
    return max(0.0, definition.throttle_s - since_spawn_s)


def next_time(calendar: tuple[Mapping[str, int], ...], after: datetime.datetime) -> datetime.datetime | None:
    """The first whole minute later than after that one of the entries names; None when there is none."""
    start = after.replace(second=0, microsecond=0) + datetime.timedelta(minutes=1)
    found = [time for entry in calendar if (time := _first(entry, start))]
    return min(found, default=None)


def _first(entry: Mapping[str, int], start: datetime.datetime) -> datetime.datetime | None:
    for days in range(A_YEAR_AND_A_DAY):
        day = start.date() + datetime.timedelta(days=days)
        if not _on(entry, day):
            continue
        for hour in [entry["Hour"]] if "Hour" in entry else range(24):
            for minute in [entry["Minute"]] if "Minute" in entry else range(60):
                time = datetime.datetime.combine(day, datetime.time(hour, minute))
                if time >= start:
                    return time
    return None


def _on(entry: Mapping[str, int], day: datetime.date) -> bool:
    # Sunday is 0 and 7. Where a day of the month and one of the week are named, either will do, as for cron.
    if entry.get("Month", day.month) != day.month:
        return False
    either = []
    if "Day" in entry:
        either.append(entry["Day"] == day.day)
    if "Weekday" in entry:
        either.append(entry["Weekday"] % 7 == day.isoweekday() % 7)
    return any(either) or not either
