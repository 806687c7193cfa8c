"""``outlast emergency``: stop taking work at once, until a person says that it may go on."""

from __future__ import annotations

import click

from outlast.cli.common import Where, as_json, emit, fits
from outlast.cli.show import tell
from outlast.cli.talk import do

__all__ = ["emergency"]


@click.command()
@click.option("--reason", required=True, help="What happened; it is kept in the journal.")
@as_json
@click.pass_obj
def emergency(where: Where, reason: str, as_json: bool) -> int:
    """Enter emergency mode, until a person ends it.

    No work is taken from then on, over restarts too, until `outlast resume --reason WHY`. Works with the runtime dead too.
    """
    fits("--reason", reason, 512, "say what happened")
    found = do(where.home, "emergency", {"reason": reason})
    if as_json:
        emit(found)
    else:
        tell(f"{found['node']} is in mode {found['mode']}; when it is mended: outlast resume --reason WHY")
    return 0
