"""The jobs that node.yml declares: each with its schedule in its zone, and what of them cannot be meant.

Rules kept here: a schedule or zone that is wrong is refused when the configuration is read, with the mend; what another
node may take over has its zone named, because that node's own may be another one.

Left to others: the fields (settings), when a job is due (core.schedule), running it (work.jobs). Imported where there are jobs.
"""

from __future__ import annotations

import os
import zoneinfo
from datetime import UTC, tzinfo
from pathlib import Path

from outlast.core.schedule import Schedule
from outlast.errors import ConfigError
from outlast.settings import Config, Job

__all__ = ["check", "schedule_of", "zone_of"]

_HERE = Path("/etc/localtime")


def check(config: Config) -> None:
    """Refuse jobs that cannot be meant. Raises ConfigError."""
    for name, job in config.jobs.items():
        path = f"jobs.{name}"
        if name in config.services:
            raise ConfigError(path, "a service has that name", "give it another one")
        if not job.command[0]:
            raise ConfigError(f"{path}.command", "it names no program", "write the program first, then its arguments")
        if job.directory.startswith("/") or ".." in job.directory.split("/") or "\0" in job.directory:
            mend = "write a path without / before and .. in it"
            raise ConfigError(f"{path}.directory", "not below the workspace", mend)
        if job.owner not in {"", config.node, *config.peers}:
            known = ", ".join([config.node, *sorted(config.peers)])
            raise ConfigError(f"{path}.owner", f"{job.owner} is not a node known here", f"one of: {known}")
        if job.takeover and job.owner not in {"", config.node} and not job.zone:
            wrong = f"not named, and that of {job.owner} may be another one than this node's"
            raise ConfigError(f"{path}.zone", wrong, "write it, such as Europe/Berlin")
        schedule_of(name, job)


def schedule_of(name: str, job: Job) -> Schedule:
    """When the job runs. Raises ConfigError."""
    try:
        zone = zone_of(job.zone)
    except ValueError as error:
        raise ConfigError(f"jobs.{name}.zone", *str(error).rsplit("; ", 1)) from None
    try:
        return Schedule(job.schedule, zone)
    except ValueError as error:
        raise ConfigError(f"jobs.{name}.schedule", *str(error).rsplit("; ", 1)) from None


def zone_of(name: str) -> tzinfo:
    """The time zone of that name; this machine's where it is empty. Raises ValueError: ``what is wrong; the mend``."""
    if name == "UTC":
        return UTC
    if not name:
        return _own_zone()
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone known here; {_mend(name)}") from None


def _own_zone() -> tzinfo:
    """The zone that the C library shows the time in: TZ where it names one, else this machine's."""
    named = os.environ.get("TZ", "").removeprefix(":")
    try:
        if named:
            return zoneinfo.ZoneInfo(named)
        with open(_HERE, "rb") as file:
            return zoneinfo.ZoneInfo.from_file(file)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def _mend(name: str) -> str:
    """Which zone may have been meant."""
    import difflib

    known = {zone.lower(): zone for zone in zoneinfo.available_timezones()}
    if not known:
        return "install the zones (Debian: apt-get install tzdata), or write UTC"
    # People remember the city.
    cities = {zone.rpartition("/")[2].lower(): zone for zone in sorted(known.values(), reverse=True)}
    asked = name.strip().lower().replace(" ", "_")
    close = difflib.get_close_matches(asked, known, 1, 0.75)
    if found := known.get(close[0]) if close else None:
        return f"did you mean {found}?"
    close = difflib.get_close_matches(asked.rpartition("/")[2], cities, 1, 0.75)
    return f"did you mean {cities[close[0]]}?" if close else "write one as IANA has it, such as Europe/Berlin, or UTC"
