"""``outlast spawn``, ``outlast subagents``, ``outlast token``: hand work on to a program that is shut in, and look after it.

Left to others: all that is done about it (work.subagents), what a token is (core.capability).
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Any

import click

from outlast.cli.common import Where, as_json, emit, fits
from outlast.cli.show import ago, table, tell
from outlast.cli.talk import NotRunning, order, token_in_use
from outlast.core import capability
from outlast.core.expect import Schema
from outlast.core.ids import new_unit
from outlast.core.plainjson import from_json
from outlast.core.record import one_line
from outlast.errors import BadInput
from outlast.quantity import duration

__all__ = ["spawn", "subagents", "token"]

_ACTIONS = "; ".join(f"{action}: {what}" for action, what in capability.ACTIONS.items())
_SCHEMA_BYTES = 64 << 10
_TAIL_BYTES = 2000
_ENDED_SHOWN = 5


@click.command(context_settings={"allow_interspersed_args": False}, epilog=f"What can be allowed. {_ACTIONS}.")
@click.option("--task", required=True, help="What it is to do; it finds this in OUTLAST_TASK.")
@click.option("--allow", default="", metavar="ACTION,…", help="What it may do beside working in its own folder.")
@click.option("--timeout", default="", metavar="TIME", help="Ended after this; at most subagents.timeout (30m).")
@click.option("--heartbeat", default="", metavar="TIME", help="Ended when it neither prints nor calls for so long.")
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="FILE[=SCHEMA]",
    help="A file that it must leave; with a file of JSON Schema, JSON of that shape.",
)
@click.option("--wait", is_flag=True, help="Wait for its end.")
@as_json
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def spawn(
    where: Where,
    task: str,
    allow: str,
    timeout: str,
    heartbeat: str,
    expected: tuple[str, ...],
    wait: bool,
    as_json: bool,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND as a sub-agent: shut in, limited, judged.

    outlast spawn --task "sum up" --allow write:artifacts --timeout 30m -- my-agent --fast

    It works in a folder of its own, sees no keys, no other process and, unless allowed, no network. What it leaves there is
    checked, and with write:artifacts becomes workspace/artifacts/ID/. It calls its node with `outlast` as far as it is allowed
    to. One that fails is run again, at most three times. Prints its ID. With --wait exit code 1 when it failed.
    """
    home = where.home
    fits("--task", task, 16_384, "say what is to be done")
    # "x" stands for the node: the name is for this node alone.
    name = f"sub{new_unit('x', time.time(), secrets.randbits(18))[2:]}"
    wanted = {
        "id": name,
        "task": task,
        "command": [_program(command[0]), *command[1:]],
        "allow": [action.strip() for action in allow.split(",") if action.strip()],
        "timeout": timeout,
        "heartbeat": heartbeat,
        "expect": dict(map(_expected, expected)),
    }
    found = order(home, "subagents/spawn", wanted)
    if not wait:
        emit(found) if as_json else tell(name)
        return 0
    if not as_json:
        tell(f"spawned {name}, waiting for its end", err=True)
    while found["status"] in ("queued", "made"):
        try:
            found = order(home, "subagents/wait", {"id": name, "seconds": 30})
        except NotRunning:
            # The node is being started again; what was spawned is on its disk.
            time.sleep(0.2)
    return _ended(found, as_json)


@click.command()
@click.argument("name", metavar="ID", required=False)
@click.option("--end", "reason", metavar="REASON", help="End this one, for good.")
@click.option("--all", "every", is_flag=True, help="Of those that ended show all that are kept, not the last few.")
@as_json
@click.pass_obj
def subagents(where: Where, name: str | None, reason: str | None, every: bool, as_json: bool) -> int:
    """Show the sub-agents of this node and how the last ones ended, or one of them with the end of its output.

    The newest 50 that ended are kept; --json has all of these.
    """
    home = where.home
    if name is None:
        if reason is not None:
            raise BadInput("ID", "which one is to be ended is not said", "outlast subagents ID --end REASON")
        found = order(home, "subagents/ls")
        emit(found) if as_json else tell("\n".join(_overview(found, every=every)))
        return 0
    if reason is not None:
        fits("--end", reason, 512, "say why")
        order(home, "subagents/end", {"id": name, "reason": reason})
        found = order(home, "subagents/wait", {"id": name, "seconds": 30})
    else:
        found = order(home, "subagents/show", {"id": name})
    if as_json:
        emit(found)
        return 0
    tell(f"{name}: {_state(found)}, begun {found['attempts']} times, for {found['task']}")
    tell(f"  command: {' '.join(found['command'])}\n  allowed: {', '.join(found['allow']) or 'nothing'}")
    if found["detail"]:
        tell(f"  {found['detail']}")
    tell(f"  files and output: {found['folder']}")
    for line in _tail(Path(found["folder"]) / "output.log"):
        tell(f"  | {line}")
    return 0


@click.command()
@click.option("--allow", metavar="ACTION,…", help="Only these of what the token allows.")
@click.option("--timeout", metavar="TIME", help="For this long, at most.")
@as_json
@click.pass_obj
def token(_: Where, allow: str | None, timeout: str | None, as_json: bool) -> int:
    """Show what the token of a sub-agent allows, or print a narrower one.

    For use by sub-agents: OUTLAST_TOKEN="$(outlast token --allow message:note --timeout 5m)" some-program
    """
    held = token_in_use()
    if not held:
        raise BadInput("OUTLAST_TOKEN", "there is no token here", "only sub-agents have one: outlast spawn")
    if allow is None and timeout is None:
        grant = capability.read(held)
        allowed, left = sorted(grant.actions), max(0, int(grant.until - time.time()))
        told = {"id": grant.id, "allow": allowed, "until": grant.until}
        emit(told) if as_json else tell(f"{grant.id}: {', '.join(allowed) or 'nothing'}, for {left} s")
        return 0
    try:
        until = None if timeout is None else int(time.time() + duration(timeout))
    except ValueError as error:
        raise BadInput("--timeout", *str(error).split("; ", 1)) from error
    actions = None if allow is None else capability.check_actions(filter(None, map(str.strip, allow.split(","))))
    narrowed = capability.narrow(held, actions=actions, until=until)
    emit({"token": narrowed}) if as_json else tell(narrowed)
    return 0


def _program(name: str) -> str:
    """A path that was typed is meant from here; a plain name is looked for where the node looks."""
    return os.path.abspath(name) if "/" in name else name


def _expected(text: str) -> tuple[str, Schema | None]:
    name, _, path = text.partition("=")
    if not path:
        return name, None
    try:
        data = Path(path).read_bytes()
        if len(data) > _SCHEMA_BYTES:
            raise BadInput("--expect", f"{path} is larger than {_SCHEMA_BYTES} bytes", "use a smaller schema")
        return name, from_json(data, Schema)
    except OSError as error:
        raise BadInput("--expect", f"{path} cannot be read ({error.strerror})", "name a file of JSON Schema") from error
    except ValueError as error:
        known = "type, enum, required, properties, additionalProperties, items, minItems and minLength"
        wrong = f"{path} is no schema that is known here: {one_line(str(error), 100)}"
        raise BadInput("--expect", wrong, f"write a JSON Schema of {known} alone") from error


def _ended(found: dict[str, Any], as_json: bool) -> int:
    if as_json:
        emit(found)
    else:
        tell(f"{found['status']}: {found['detail']}")
        if found["status"] == "done" and "write:artifacts" in found["allow"]:
            tell(f"in workspace/artifacts/{found['id']}/")
    return 0 if found["status"] == "done" else 1


def _state(found: dict[str, Any]) -> str:
    return "running" if found["running"] else str(found["status"])


def _overview(found: dict[str, Any], *, every: bool) -> list[str]:
    now = time.time()
    lines = [f"switched off: {why}; outlast feature on {name}" for name, why in found["off"].items()]
    if found["sandbox_trouble"]:
        lines.append(f"no sandbox: {found['sandbox_trouble']}")
    rows = [
        [name, one["state"], f"attempt {one['attempt']}", ago(one["since"], now), one["task"]]
        for name, one in sorted({**found["running"], **found["queued"]}.items())
    ]
    day = found["day"]
    lines += table(rows) if rows else ["none runs, none waits"]
    shown = found["ended"] if every else found["ended"][:_ENDED_SHOWN]
    if shown:
        lines += ["", *table([_last(one, now) for one in shown])]
    if more := len(found["ended"]) - len(shown):
        lines.append(f"… and {more} before: outlast subagents --all")
    return [*lines, f"last 24 h: {day['done']} done, {day['failed']} failed for good"]


def _last(one: dict[str, Any], now: float) -> list[str]:
    how = one["status"] if one["attempts"] == 1 else f"{one['status']}, {one['attempts']} runs"
    return [one["id"], how, ago(one["ended"], now), one_line(one["task"], 40), one_line(one["detail"], 60)]


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
            return stream.read().decode(errors="replace").splitlines()[-20:]
    except OSError:
        return []
