"""``outlast maintenance``: have the node rest, or go on, by the line in HEARTBEAT.md that a person could write as well."""

from __future__ import annotations

from typing import Any

import click

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import tell
from outlast.cli.talk import do
from outlast.core.record import one_line
from outlast.core.similar import did_you_mean
from outlast.errors import BadInput

__all__ = ["maintenance"]


@click.command()
@click.argument("state")
@click.option("--dry-run", is_flag=True, help="Say what would become of it, and change nothing.")
@as_json
@click.pass_obj
def maintenance(where: Where, state: str, dry_run: bool, as_json: bool) -> int:
    """Have the node rest (on), or go on (off).

    In maintenance it takes direct messages only. The order is a line of its own in HEARTBEAT.md, and holds over restarts.
    Works with the runtime dead too. Exit code 1 where somebody else's line there still asks for maintenance.
    """
    if state not in {"on", "off"}:
        wrong = f"{one_line(state, 40)!r} is neither on nor off"
        raise BadInput("STATE", wrong, did_you_mean(state, ["on", "off"], "write on or off"))
    done = do(where.home, "maintenance", {"on": state == "on", "dry_run": dry_run})
    found = {**done, "dry_run": dry_run}
    still = state == "off" and bool(found["others"])
    if as_json:
        emit({**found, "line": _line(found, state), "next": _next(found, state)})
    else:
        tell(f"{found['node']}: {_line(found, state)}", err=still)
        tell(f"what next:\n  {_next(found, state)}", err=still)
    return 1 if still else 0


def _line(found: dict[str, Any], state: str) -> str:
    """What was done, and how the node is now."""
    if state == "off" and found["others"]:
        return f"line {found['others']} of HEARTBEAT.md asks for maintenance, and is not this command's"
    would = "would be" if found["dry_run"] else "is"
    what = f"maintenance {would} {state}" if found["changed"] else f"nothing to do, maintenance is {state} already"
    if not found["running"]:
        return f"{what}; its runtime is not running, and finds it so at its next start"
    rests = f"; what rests: {', '.join(found['shed'])}" if found["shed"] else ""
    return f"{what}; mode {found['mode']}{rests}"


def _next(found: dict[str, Any], state: str) -> str:
    """What a person does after that."""
    if state == "off" and found["others"]:
        return "take that line out of workspace/HEARTBEAT.md; within one check the node goes on"
    if found["mode"] == "emergency":
        return "once that is mended: outlast resume --reason WHY"
    if state == "on":
        return "when you are done: outlast maintenance off"
    return "nothing is to be done" if found["running"] else "ansible-playbook site.yml starts the runtime"
