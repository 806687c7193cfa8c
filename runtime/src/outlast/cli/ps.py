"""``outlast ps``, ``outlast restart``, ``outlast logs``: what the node runs, and what it printed."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import click

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import ago, table, tell
from outlast.cli.talk import order
from outlast.core.plainjson import to_json
from outlast.core.record import one_line
from outlast.core.similar import did_you_mean
from outlast.errors import BadInput
from outlast.home import Home

__all__ = ["logs", "ps", "restart"]

_LOOK_S = 0.2
_WATCH_S = 1.0
_REASON_CHARS = 60


@click.command()
@as_json
@click.pass_obj
def ps(where: Where, as_json: bool) -> int:
    """Show what the node keeps running.

    Each service with its state, and whatever else it has started: jobs and sub-agents at work. Exit code 1 when a service rests
    because it ended too often.
    """
    found = order(where.home, "ps")
    services: dict[str, Any] = found["services"]
    if as_json:
        emit(found)
    else:
        tell("\n".join(_lines(found, time.time())))
    return 1 if any(one["state"] == "resting" for one in services.values()) else 0


def _lines(found: dict[str, Any], now: float) -> list[str]:
    rows = [["name", "state", "pid", "started", "restarts", "priority", "last end"]]
    for name, one in found["services"].items():
        pid, since = str(one["pid"] or "-"), ago(one["since"], now) if one["since"] else "-"
        last = one_line(one["last_reason"], _REASON_CHARS) or "-"
        rows.append([name, _state(one, found["mode"]), pid, since, str(one["restarts"]), one["priority"], last])
    rows += [
        [other["name"], "at work", str(other["pid"]), ago(other["since"], now), "-", "-", "-"]
        for other in found["others"]
    ]
    if len(rows) == 1:
        return [f"{found['node']} keeps nothing running; outlast_services in the inventory says what is"]
    return table(rows)


def _state(one: dict[str, Any], mode: str) -> str:
    if one["state"] in ("waiting", "resting"):
        return f"{one['state']}, again in {one['due_s']:g} s"
    return f"shed, mode {mode}" if one["state"] == "shed" else str(one["state"])


@click.command()
@click.argument("name")
@as_json
@click.pass_obj
def restart(where: Where, name: str, as_json: bool) -> int:
    """Stop a service and start it again.

    Also one that rests because it ended too often, and what it did before is forgotten: `outlast restart gateway`. Exit code 1
    when it does not run then.
    """
    found = order(where.home, "restart", {"name": name}, seconds=3600.0)
    if found["state"] == "running":
        # What cannot live ends at once, and has run all the same.
        time.sleep(_WATCH_S)
        now = order(where.home, "ps")["services"][name]
        found = (
            {**found, **{key: now[key] for key in ("state", "pid", "last_reason")}}
            if now["pid"] != found["pid"]
            else found
        )
    if as_json:
        emit(found)
    elif found["state"] == "running":
        before = f" (before: {found['before']})" if found["before"] else ""
        tell(f"{name} runs, pid {found['pid']}{before}")
    else:
        why = f": {found['last_reason']}" if found["last_reason"] else ""
        tell(f"{name} does not run, it is {found['state']}{why}; see: outlast logs {name}", err=True)
    return 0 if found["state"] == "running" else 1


@click.command()
@click.argument("name")
@click.option("-n", "--lines", default=50, show_default=True, help="How many lines of before to show.")
@click.option("-f", "--follow", is_flag=True, help="Go on with each new line.")
@as_json
@click.pass_obj
def logs(where: Where, name: str, lines: int, follow: bool, as_json: bool) -> int:
    """Show what a service or job printed, or a probe's command that failed (probe.NAME, probe.SERVICE.NAME).

    Works while the node is down too: `outlast logs gateway -f`. With --json each line is one JSON document.
    """
    home = where.home
    known = {path.name.removesuffix(".log").removesuffix(".1") for path in home.outputs.glob("*.log")}
    if name not in known:
        config = where.config
        declared = {*config.services, *config.jobs}
        if name not in declared:
            mend = did_you_mean(
                name, declared | known, "nothing is declared; services and jobs are named in the inventory"
            )
            raise BadInput("NAME", f"there is no service or job {one_line(name, 40)}", mend)
        if not follow:
            tell(f"{name} has printed nothing yet", err=True)
    for line in printed(home, name, lines, follow=follow):
        if as_json:
            click.echo(to_json({"name": name, "line": line}).decode())
        else:
            tell(line)
    return 0


def printed(home: Home, name: str, lines: int, *, follow: bool) -> Iterator[str]:
    """The last ``lines`` lines that a program printed, then (with ``follow``) each new one, also when the file is rotated."""
    path = home.outputs / f"{name}.log"
    older = path.with_suffix(".1.log")
    stream = _opened(path)
    before = _opened(older)
    # Rotated between the two, they are one file.
    early = before.read() if before and _replaced(older, stream) else b""
    *whole, rest = (early + (stream.read() if stream else b"")).split(b"\n")
    if before:
        before.close()
    if rest and not follow:
        whole, rest = [*whole, rest], b""
    yield from map(_text, deque(whole, max(lines, 0)))
    while follow:
        # Looked at before it is read: whoever rotates it writes nothing to the old one afterwards, but may well just before.
        replaced = _replaced(path, stream)
        data = stream.read() if stream else b""
        *whole, rest = (rest + data).split(b"\n")
        yield from map(_text, whole)
        if replaced:
            if stream:
                stream.close()
            stream = _opened(path)
        elif not data:
            time.sleep(_LOOK_S)


def _opened(path: Path) -> IO[bytes] | None:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        return None


def _replaced(path: Path, stream: IO[bytes] | None) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return stream is None or os.fstat(stream.fileno()).st_ino != there.st_ino


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace")
