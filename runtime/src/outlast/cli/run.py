"""``outlast run`` and ``outlast jobs``: a job run now, and how all of them are."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import click

from outlast.cli.common import Where, as_json, emit, named
from outlast.cli.show import ago, table, tell
from outlast.cli.talk import NotRunning, order
from outlast.core.record import one_line

__all__ = ["jobs", "run"]

_LOOK_S = 0.2
_WAIT_S = 30.0
_FAR_S = 6 * 86400.0
_SKIPS = {
    "missed": "missed (asleep, down, or the clock was set)",
    "running": "still running",
    "shed": "off in the mode of then",
    "paced": "every second one left out",
}


@click.command()
@click.argument("job")
@click.option("--no-wait", is_flag=True, help="Return once it has begun.")
@as_json
@click.pass_obj
def run(where: Where, job: str, no_wait: bool, as_json: bool) -> int:
    """Run JOB now, and wait for what comes of it.

    In any mode, whatever its schedule and owner; but not while it runs already. Exit code 0 when it exited with 0, else 1. What
    it printed: `outlast logs JOB`.
    """
    home = where.home
    named("JOB", job, "see `outlast jobs` for those there are")
    found = order(home, "jobs/run", {"name": job})
    if not as_json:
        tell(f"{job} runs" + ("" if no_wait else ", waiting for its end"), err=True)
    while not no_wait and not found.get("ended"):
        try:
            found = order(home, "jobs/wait", {"name": job, "id": found["id"], "seconds": _WAIT_S})
        except NotRunning:
            # The node is being started again; what came of it is on its disk.
            time.sleep(_LOOK_S)
    if as_json:
        emit(found)
    elif not no_wait:
        tell(f"{job}: {_outcome(found)}")
    return 0 if no_wait or found["verdict"] == "done" else 1


@click.command()
@as_json
@click.pass_obj
def jobs(where: Where, as_json: bool) -> int:
    """Show the jobs: when each runs next, and how it last ran.

    Exit code 1 when the last run of one failed.
    """
    found = order(where.home, "jobs")
    listed: dict[str, Any] = found["jobs"]
    if as_json:
        emit(found)
    elif not listed:
        tell(f"{found['node']} has no jobs; they are declared in the inventory, under outlast_jobs")
    else:
        tell("\n".join(_lines(listed, time.time())))
    return 1 if any(one["state"] == "failed" for one in listed.values()) else 0


def _lines(listed: dict[str, Any], now: float) -> list[str]:
    rows = [["job", "when", "next", "last", "result"]]
    notes = []
    for name, one in listed.items():
        last = one["last"]
        # Without a zone of its own it goes by the machine's.
        when = f"{_words(one['schedule'])}, {one['zone'] or one['clock'] or 'local'} time"
        rows.append([name, when, _next(one, now), ago(last["started"], now) if last else "never", _result(one)])
        if one["skips"]:
            counted = ", ".join(f"{count} {_SKIPS.get(reason, reason)}" for reason, count in one["skips"].items())
            notes.append(f"{name}: skipped {counted}")
        if one["why"]:
            notes.append(f"{name}: not run the last time: {one['why']}")
        if last and last["verdict"] in {"failed", "in doubt"} and not one["since"]:
            notes.append(f"{name}: {_why(last)}")
    return [*table(rows), *(f"  {note}" for note in notes)]


def _words(schedule: str) -> str:
    """What a cron line says."""
    from datetime import UTC

    from outlast.core.schedule import Schedule

    try:
        words = Schedule(schedule, UTC).words()
    except ValueError:
        return schedule
    return words[:1].lower() + words[1:]


def _next(one: dict[str, Any], now: float) -> str:
    """When it runs next, as this machine's clock will show it."""
    if not one["here"]:
        return f"runs on {one['owner']}"
    if not one["next"]:
        return "never"
    moment = datetime.fromisoformat(one["next"]).astimezone()
    away = moment.timestamp() - now
    if 0 <= away < 60:
        return f"in {away:.0f} s"
    return moment.strftime("%Y-%m-%d %H:%M %Z" if away > _FAR_S else "%a %H:%M %Z")


def _result(one: dict[str, Any]) -> str:
    if one["since"]:
        return "running"
    last = one["last"]
    if not last:
        return "-"
    again = f" ({one['failures']} in a row)" if one["failures"] > 1 else ""
    return f"{_took(last)}{again}"


def _outcome(found: dict[str, Any]) -> str:
    why = _why(found)
    return f"{_took(found)}: {why}" if why else _took(found)


def _why(run: dict[str, Any]) -> str:
    """Why it is not done, with the last line that it printed."""
    return one_line(": ".join(filter(None, (run["detail"], run["said"]))), 300)


def _took(run: dict[str, Any]) -> str:
    """How it ended, and after how long where that is known."""
    if run["verdict"] == "in doubt":
        return "in doubt"
    seconds = run["seconds"]
    return f"{run['verdict']} in " + (f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min")
