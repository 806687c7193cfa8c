"""``outlast audit``: what was accepted of a sender, summed up; all of it is in a report."""

from __future__ import annotations

import os
import re
import time
from datetime import datetime

import click

from outlast.cli.common import Where, as_json, emit, named
from outlast.cli.show import tell
from outlast.core.record import one_line
from outlast.errors import BadInput
from outlast.quantity import duration

__all__ = ["audit", "moment"]

_LATEST = 1 << 33


@click.command()
@click.argument("agent")
@click.option("--since", metavar="WHEN", help="The window's beginning; without it, when the agent's key was made.")
@click.option("--until", metavar="WHEN", help="Its end; without it, now.")
@click.option("--key", metavar="ID", default="", help="Only what was signed with this key: see `outlast keys list`.")
@as_json
@click.pass_obj
def audit(where: Where, agent: str, since: str | None, until: str | None, key: str, as_json: bool) -> int:
    """Report on every message that was accepted as AGENT's.

    After its key leaked: message by message, with address, what each caused, and what is unlike AGENT. WHEN is a date, a date
    with a time (2026-11-21T14:00), or so long ago (2h, 3d). The report is in workspace/audits/. Works while the node is down
    too. Exit code 0 when the report is written, whatever is in it.
    """
    from outlast.work.audit import audit as examine

    if key and re.fullmatch("[0-9a-f]{10}", key) is None:
        raise BadInput("--key", f"{one_line(key, 40)!r} is no key's id", "take one of `outlast keys list`")
    named("AGENT", agent, "see `outlast keys list` for the agents")
    now = time.time()
    begin = moment("--since", since, now) if since else None
    end = moment("--until", until, now) if until else None
    # As in the daemon: what is made is the node's alone, but for what an access list hands on.
    os.umask(0o077)
    found = examine(where.home, where.config, agent, now, since=begin, until=end, key=key)
    if as_json:
        emit(found)
        return 0
    for line in found.said:
        tell(line)
    tell(f"message by message: {found.report}")
    return 0


def moment(field: str, text: str, now: float) -> float:
    """Read a moment as people write it, into seconds since 1970. Raises BadInput."""
    try:
        found = now - duration(text.removesuffix("ago").strip())
    except ValueError:
        try:
            found = datetime.fromisoformat(text.strip()).timestamp()
        except (ValueError, OverflowError, OSError):
            found = -1.0
    if not 0 <= found < _LATEST:
        mend = "write 2026-11-21, 2026-11-21T14:00, or 2h or 3d for so long ago"
        raise BadInput(field, f"{one_line(text, 40)!r} is no moment", mend)
    return found
