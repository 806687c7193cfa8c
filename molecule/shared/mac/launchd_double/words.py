"""What launchctl prints: the lines that its callers look for, in the shape of macOS 14.

Keeps: nothing is changed here. Leaves to others: when to print what (daemon.py).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from typing import Any

from launchd_double.definition import Definition
from launchd_double.job import Job
from launchd_double.keeping import Ended

# Errors that are launchd's own, beside the system's.
_OWN = {
    109: "Invalid property list",
    112: "Could not find specified domain",
    113: "Could not find specified service",
    119: "Service is disabled",
    122: "Path had bad ownership/permissions",
    125: "Domain does not support specified action",
    150: "Operation not permitted while System Integrity Protection is engaged",
}
# Apple's numbers and texts, where Linux has others.
_ERRNO = {
    1: "Operation not permitted",
    3: "No such process",
    5: "Input/output error",
    36: "Operation now in progress",
    37: "Operation already in progress",
}


def strerror(code: int) -> str:
    """The text that belongs to a code that launchctl ends with."""
    return _OWN.get(code) or _ERRNO.get(code) or os.strerror(code)


def no_service(label: str) -> str:
    """What is said of a service that is not loaded."""
    return f'Could not find service "{label}" in domain for system'


def service(job: Job) -> str:
    """`launchctl print system/LABEL`."""
    own = job.definition
    lines: list[Any] = [
        f"active count = {int(job.process is not None)}",
        f"path = {own.path}",
        "type = LaunchDaemon",
        f"state = {job.state}",
        "",
        f"program = {own.program}",
        ("arguments", own.arguments),
        "",
        *([f"working directory = {own.directory}", ""] if own.directory != "/" else []),
        *([f"stdout path = {own.out}"] if own.out else []),
        *([f"stderr path = {own.err}"] if own.err else []),
        ("default environment", ["PATH => /usr/bin:/bin:/usr/sbin:/sbin"]),
        "",
        (
            "environment",
            [f"{key} => {value}" for key, value in {**own.environment, "XPC_SERVICE_NAME": own.label}.items()],
        ),
        "",
        "domain = system",
        *([f"username = {own.user}"] if own.user else []),
        *([f"group = {own.group}"] if own.group else []),
        f"minimum runtime = {own.throttle_s}",
        f"exit timeout = {own.exit_timeout_s}",
        f"runs = {job.runs}",
        f"successive crashes = {job.patience.failures}",
        *(["excessive crashing = 1"] if job.patience.over else []),
        *([f"pid = {job.process.pid}"] if job.process else []),
        *_last_end(job.ended),
        "",
        *_semaphores(own),
        *([f"run interval = {own.start_interval_s} seconds"] if own.start_interval_s else []),
        f"spawn type = {own.process_type.lower()}",
        f"properties = {_properties(own)}",
    ]
    return f"system/{own.label} = {{\n{_indented(lines)}}}\n"


def domain(jobs: Mapping[str, Job], overrides: Mapping[str, bool]) -> str:
    """`launchctl print system`."""
    services = [f"{_pid(job):>8} {_status(job):>6} \t{label}" for label, job in sorted(jobs.items())]
    lines = ["type = system", ("services", services), "", ("disabled services", _overridden(overrides))]
    return f"system = {{\n{_indented(lines)}}}\n"


def disabled(overrides: Mapping[str, bool]) -> str:
    """`launchctl print-disabled system`: what was ever enabled or disabled."""
    return _indented([("disabled services", _overridden(overrides))])


def listing(jobs: Mapping[str, Job]) -> str:
    """`launchctl list`."""
    rows = [f"{_pid(job) or '-'}\t{_status(job)}\t{label}" for label, job in sorted(jobs.items())]
    return "\n".join(["PID\tStatus\tLabel", *rows, ""])


def one(job: Job) -> str:
    """`launchctl list LABEL`."""
    own = job.definition
    lines = [
        *([f'"StandardOutPath" = "{own.out}";'] if own.out else []),
        '"LimitLoadToSessionType" = "System";',
        *([f'"StandardErrorPath" = "{own.err}";'] if own.err else []),
        f'"Label" = "{own.label}";',
        f'"OnDemand" = {"false" if own.keep_alive.always else "true"};',
        f'"LastExitStatus" = {_wait_status(job.ended)};',
        *([f'"PID" = {job.process.pid};'] if job.process else []),
        f'"Program" = "{own.program}";',
        '"ProgramArguments" = (',
        *(f'\t"{word}";' for word in own.arguments),
        ");",
    ]
    return "{\n" + "".join(f"\t{line}\n" for line in lines) + "};\n"


def _indented(lines: Iterable[Any], depth: int = 1) -> str:
    tabs = "\t" * depth
    text = ""
    for line in lines:
        if isinstance(line, tuple):
            text += f"{tabs}{line[0]} = {{\n{_indented(line[1], depth + 1)}{tabs}}}\n"
        else:
            text += f"{tabs}{line}\n" if line else "\n"
    return text


def _last_end(ended: Ended | None) -> list[str]:
    if ended is None:
        return ["last exit code = (never exited)"]
    if ended.signal:
        return [f"last terminating signal = {signal.strsignal(ended.signal)}: {ended.signal}"]
    return [f"last exit code = {ended.code}" + (": EX_CONFIG" if ended.code == 78 else "")]


def _semaphores(own: Definition) -> list[Any]:
    keep = own.keep_alive
    conditions = {"successful exit": keep.successful_exit, "after crash": keep.crashed}
    lines = [f"{name} => {int(value)}" for name, value in conditions.items() if value is not None]
    lines += [f"path {'' if there else 'not '}there => {path}" for path, there in keep.path_state.items()]
    return [("semaphores", lines), ""] if lines else []


def _properties(own: Definition) -> str:
    inferred = own.program == own.arguments[0]
    flags = {"keepalive": own.keep_alive.always, "runatload": own.run_at_load, "inferred program": inferred}
    return " | ".join(name for name, there in flags.items() if there)


def _overridden(overrides: Mapping[str, bool]) -> list[str]:
    return [f'"{label}" => {"disabled" if off else "enabled"}' for label, off in sorted(overrides.items())]


def _pid(job: Job) -> int:
    return job.process.pid if job.process else 0


def _status(job: Job) -> int:
    return 0 if job.ended is None else -job.ended.signal or job.ended.code


def _wait_status(ended: Ended | None) -> int:
    return 0 if ended is None else ended.signal or ended.code << 8
