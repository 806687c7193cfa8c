"""``outlast report``: what became of the node over a stretch of time, from its files."""

from __future__ import annotations

import time
from datetime import datetime

import click

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import table, tell
from outlast.core.record import one_line
from outlast.core.report import Report, Work, report
from outlast.core.timeline import Incident
from outlast.errors import BadInput
from outlast.quantity import duration, readable
from outlast.store import history

__all__ = ["report_command", "report_lines"]

# How long before a stretch its beginning is looked for: what mode it was, what was down.
_BEFORE_S = 86_400.0
_SHOWN = 30
_TEXT = 90


@click.command("report")
@click.option("--since", default="24h", show_default=True, metavar="TIME", help="How far back, such as 24h or 7d.")
@as_json
@click.pass_obj
def report_command(where: Where, since: str, as_json: bool) -> int:
    """Tell what happened: `outlast report --since 24h`.

    How long the node was up, its modes and why, what was done and how much of it well, what failed and what was done about it,
    and what a person was told. It reads the node's files, so it works while the node is down too. Exit code 1 when there is
    nothing written down for that time.
    """
    try:
        seconds = duration(since)
    except ValueError as error:
        raise BadInput("--since", *str(error).split("; ", 1)) from error
    home, now = where.home, time.time()
    began = now - seconds
    events = history.events(home.logs, began - _BEFORE_S)
    found = report(home.node, events, history.metrics(home.logs, began - _BEFORE_S), began, now)
    if as_json:
        emit(found)
    else:
        tell("\n".join(report_lines(found, since)))
    return 0 if found.figures or found.starts or found.work or found.incidents else 1


def report_lines(found: Report, since: str) -> list[str]:
    """A report, for people."""
    lines = [f"{found.node}, the last {since} until {_clock(found.until)}"]
    if found.known_s:
        share = f"{100.0 * found.up_s / found.known_s:.1f} % of the {_span(found.known_s)} that are known"
        lines.append(f"  up {_span(found.up_s)} ({share}), started {_times(found.starts)}")
    else:
        lines.append("  nothing is known of that time")
    lines += [f"    down {_clock(one.since)}, {_span(one.seconds)}: {one.why}" for one in found.down[-_SHOWN:]]
    lines += [
        f"  mode {one.mode} {_clock(one.since)}, {_span(one.seconds)}{': ' if one.why else ''}{one_line(one.why, _TEXT)}"
        for one in found.modes[-_SHOWN:]
    ]
    lines += _done(found)
    lines += _alerts(found)
    lines += _failed(found.incidents)
    if figures := found.figures:
        used = (
            f"processor {_span(figures.get('cpu_s', 0.0))}, memory at most {readable(int(figures.get('rss_max', 0)))}"
        )
        lines.append(f"  the runtime used: {used}, disk at most {figures.get('disk_max', 0.0):.0f} % full")
    return lines


def _done(found: Report) -> list[str]:
    rows = [["what", "ended", "done", "median", "longest", "not done"]]
    rows += [_row(kind, work) for kind, work in found.work.items()]
    rows += [_row(f"job {name}", work) for name, work in sorted(found.jobs.items())]
    lines = [f"  {line}" for line in table(rows)] if len(rows) > 1 else ["  no work ended"]
    messages = found.messages
    success = "" if messages["success"] is None else f", {100 * messages['success']:.0f} % of the requests were taken"
    given_up = f", {messages['given_up']} given up" if messages["given_up"] else ""
    lines.append(f"  messages: {messages['in']} in, {messages['out']} out{success}{given_up}")
    if messages["refused"]:
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(messages["refused"].items()))
        lines.append(f"    refused: {told}")
    return lines


def _row(kind: str, work: Work) -> list[str]:
    bad = ", ".join(f"{count} {verdict}" for verdict, count in sorted(work.verdicts.items()) if verdict != "done")
    success = "-" if work.success is None else f"{100 * work.success:.0f} %"
    return [kind, str(work.number), success, _took(work.median_s), _took(work.longest_s), bad or "-"]


def _alerts(found: Report) -> list[str]:
    if not found.alerts:
        return ["  no alerts"]
    lines = ["  alerts:"]
    for alert in found.alerts[-_SHOWN:]:
        until = f"until {_clock(alert.until)}" if alert.until else f"{alert.done}, holds".removeprefix(", ")
        lines.append(f"    {_clock(alert.at)} {alert.name} ({until}): {one_line(alert.text, _TEXT)}")
    return lines


def _failed(incidents: list[Incident]) -> list[str]:
    if not incidents:
        return ["  nothing failed"]
    lines = ["  what failed, and what was done about it:"]
    if len(incidents) > _SHOWN:
        lines.append(f"    {len(incidents) - _SHOWN} older ones: --json")
    for one in incidents[-_SHOWN:]:
        times = f", {one.times} times" if one.times > 1 else ""
        after = f" after {_span(_seconds(one))}" if one.until and one.until != one.at else ""
        done = f"; {one.done}{after}" if one.done else "" if one.until else "; not over"
        lines.append(f"    {_clock(one.at)} {one.kind} {one_line(f'{one.name}: {one.what}', _TEXT)}{times}{done}")
    return lines


def _seconds(one: Incident) -> float:
    return datetime.fromisoformat(one.until).timestamp() - datetime.fromisoformat(one.at).timestamp()


def _clock(moment: str) -> str:
    """A moment by this machine's clock; which day, where it is another one."""
    then = datetime.fromisoformat(moment).astimezone()
    is_today = then.date() == datetime.now().astimezone().date()
    return then.strftime("%H:%M:%S" if is_today else "%a %d.%m. %H:%M")


def _span(seconds: float) -> str:
    for size, unit, smaller, word in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // smaller)} {word}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _took(seconds: float | None) -> str:
    return "-" if seconds is None else _span(seconds)


def _times(number: int) -> str:
    return {0: "not once", 1: "once", 2: "twice"}.get(number, f"{number} times")
