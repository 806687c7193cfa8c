"""What a property list asks for, and why one is refused.

Keeps: a key that Apple's launchd knows and this one does not is refused, never ignored, so that no test rests on it.
Leaves to others: doing what is asked (job.py).
"""

from __future__ import annotations

import os
import plistlib
import resource
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.parsers.expat import ExpatError

EIO, BAD_PLIST, BAD_OWNER = 5, 109, 122

LIMITS = {
    "Core": resource.RLIMIT_CORE,
    "CPU": resource.RLIMIT_CPU,
    "Data": resource.RLIMIT_DATA,
    "FileSize": resource.RLIMIT_FSIZE,
    "MemoryLock": resource.RLIMIT_MEMLOCK,
    "NumberOfFiles": resource.RLIMIT_NOFILE,
    "NumberOfProcesses": resource.RLIMIT_NPROC,
    "ResidentSetSize": resource.RLIMIT_RSS,
    "Stack": resource.RLIMIT_STACK,
}
KEEP_ALIVE = {"SuccessfulExit", "Crashed", "PathState"}
CALENDAR = {"Minute": (0, 59), "Hour": (0, 23), "Day": (1, 31), "Weekday": (0, 7), "Month": (1, 12)}
_LIMIT_KEYS = dict.fromkeys(("SoftResourceLimits", "HardResourceLimits"), dict)
# A value of a type that is not written here is refused, as is a key.
KEYS: dict[str, type | tuple[type, ...]] = {
    **_LIMIT_KEYS,
    "AbandonProcessGroup": bool,
    "Disabled": bool,
    "EnvironmentVariables": dict,
    "ExitTimeOut": int,
    "GroupName": str,
    "KeepAlive": (bool, dict),
    "Label": str,
    "ProcessType": str,
    "Program": str,
    "ProgramArguments": list,
    "RunAtLoad": bool,
    "StandardErrorPath": str,
    "StandardOutPath": str,
    "StartCalendarInterval": (dict, list),
    "StartInterval": int,
    "ThrottleInterval": int,
    "Umask": (int, str),
    "UserName": str,
    "WorkingDirectory": str,
}


class RefusedError(Exception):
    """A property list that launchd does not take: the code that launchctl ends with, and why, for launchd's own log."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True)
class KeepAlive:
    """When a job is started again: always, or when one of the conditions that are given is met."""

    always: bool = False
    successful_exit: bool | None = None
    crashed: bool | None = None
    path_state: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Definition:
    """One job. Times are in seconds; calendar holds dictionaries with the keys of CALENDAR."""

    path: str
    label: str
    arguments: tuple[str, ...]
    program: str
    keep_alive: KeepAlive = KeepAlive()
    run_at_load: bool = False
    throttle_s: int = 10
    exit_timeout_s: int = 20
    start_interval_s: int = 0
    calendar: tuple[Mapping[str, int], ...] = ()
    user: str = ""
    group: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/"
    umask: int = 0o022
    out: str = ""
    err: str = ""
    soft_limits: Mapping[str, int] = field(default_factory=dict)
    hard_limits: Mapping[str, int] = field(default_factory=dict)
    process_type: str = "Standard"
    abandon_group: bool = False
    disabled: bool = False


def read(path: str, owner: int) -> Definition:
    """Read a property list that must belong to owner and be writable by nobody else; raise RefusedError."""
    try:
        status = os.stat(path)
        if status.st_uid != owner or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise RefusedError(BAD_OWNER, f"{path}: Path had bad ownership/permissions")
        with open(path, "rb") as file:
            values = plistlib.load(file)
    except OSError as error:
        raise RefusedError(EIO, f"{path}: {error.strerror}") from error
    except (plistlib.InvalidFileException, ExpatError, ValueError, AttributeError) as error:
        raise RefusedError(BAD_PLIST, f"{path}: Invalid property list: {error}") from error
    if not isinstance(values, dict):
        raise RefusedError(BAD_PLIST, f"{path}: Invalid property list: not a dictionary")
    try:
        return define(path, values)
    except ValueError as error:
        raise RefusedError(EIO, f"{path}: {error}") from error


def define(path: str, values: Mapping[str, Any]) -> Definition:
    """Make a definition of a property list's values; raises ValueError that names the key."""
    for key, value in values.items():
        if key not in KEYS:
            raise ValueError(f"{key}: this double does not know that key")
        # A bool is an int for Python and not for launchd.
        if not isinstance(value, KEYS[key]) or (isinstance(value, bool) and KEYS[key] is int):
            raise ValueError(f"{key}: {value!r} is of the wrong type")
    label, arguments = values.get("Label", ""), tuple(values.get("ProgramArguments", ()))
    program = values.get("Program") or (arguments[0] if arguments else "")
    if not label:
        raise ValueError("Label: missing")
    if not program or not all(isinstance(word, str) for word in arguments):
        raise ValueError("ProgramArguments: missing, or not a list of strings")
    environment = values.get("EnvironmentVariables", {})
    if not all(isinstance(value, str) for value in environment.values()):
        raise ValueError("EnvironmentVariables: values must be strings")
    umask = values.get("Umask", 0o022)
    return Definition(
        path=path,
        label=label,
        arguments=arguments or (program,),
        program=program,
        keep_alive=_keep_alive(values.get("KeepAlive", False)),
        run_at_load=values.get("RunAtLoad", False),
        throttle_s=values.get("ThrottleInterval", 10),
        exit_timeout_s=values.get("ExitTimeOut", 20),
        start_interval_s=values.get("StartInterval", 0),
        calendar=_calendar(values.get("StartCalendarInterval", [])),
        user=values.get("UserName", ""),
        group=values.get("GroupName", ""),
        environment=environment,
        directory=values.get("WorkingDirectory", "/"),
        # As in Apple's: a string is octal, an integer is taken as it is.
        umask=int(umask, 8) if isinstance(umask, str) else umask,
        out=values.get("StandardOutPath", ""),
        err=values.get("StandardErrorPath", ""),
        soft_limits=_limits("SoftResourceLimits", values),
        hard_limits=_limits("HardResourceLimits", values),
        process_type=values.get("ProcessType", "Standard"),
        abandon_group=values.get("AbandonProcessGroup", False),
        disabled=values.get("Disabled", False),
    )


def _keep_alive(value: bool | dict[str, Any]) -> KeepAlive:
    if isinstance(value, bool):
        return KeepAlive(always=value)
    if unknown := value.keys() - KEEP_ALIVE:
        raise ValueError(f"KeepAlive: this double does not know {', '.join(sorted(unknown))}")
    return KeepAlive(False, value.get("SuccessfulExit"), value.get("Crashed"), value.get("PathState", {}))


def _calendar(value: dict[str, int] | list[dict[str, int]]) -> tuple[Mapping[str, int], ...]:
    entries = [value] if isinstance(value, dict) else value
    for entry in entries:
        for key, number in entry.items():
            if key not in CALENDAR or not CALENDAR[key][0] <= number <= CALENDAR[key][1]:
                raise ValueError(f"StartCalendarInterval: {key}={number!r} is no time")
    return tuple(entries)


def _limits(key: str, values: Mapping[str, Any]) -> Mapping[str, int]:
    limits: Mapping[str, int] = values.get(key, {})
    for name, value in limits.items():
        if name not in LIMITS or not isinstance(value, int):
            raise ValueError(f"{key}: {name}={value!r} is no limit")
    return limits
