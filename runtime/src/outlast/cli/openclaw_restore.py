"""``outlast openclaw restore``: puts a copy of OpenClaw's state back, which nobody but a person decides.

Rules kept here: it asks, unless ``--sure`` is said; the gateway is stopped first and proven gone, and started again whatever
came of it; what was there is kept, and it says where.

Left to others: the copy (openclaw.snapshots), stopping and starting (openclaw.launcher), the whole node (``outlast backup``).
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import tell
from outlast.errors import BadInput

__all__ = ["restore"]


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--last", is_flag=True, help="The newest copy that the node made.")
@click.option("--sure", is_flag=True, help="Do not ask.")
@as_json
@click.pass_obj
def restore(where: Where, file: Path | None, last: bool, sure: bool, as_json: bool) -> int:
    """Put a copy of OpenClaw's state back: FILE, or the last one.

    Sessions and schedules are as they were then; workspaces and the configuration stay. What was there is kept.
    """
    from outlast.openclaw import snapshots, wishes
    from outlast.openclaw.place import place_of

    place = place_of(where.home, where.config)
    if last == (file is not None):
        raise BadInput("FILE", "which copy is meant is not clear", "name a file, or say --last")
    chosen = snapshots.newest(place) if last else file
    if chosen is None:
        mend = "name a file, or restore a backup: ansible-playbook playbooks/restore.yml -e from=FILE"
        raise BadInput("--last", f"there is no copy in {place.snapshots}", mend)
    if not chosen.is_file():
        raise BadInput("FILE", f"there is no file {chosen}", f"one of {place.snapshots}")
    if not sure:
        if as_json or not sys.stdin.isatty():
            raise BadInput(
                "--sure",
                "nobody can be asked here, and OpenClaw's state goes back in time",
                "add --sure; nothing was changed",
            )
        question = f"OpenClaw's state goes back to {chosen.name}; what is there now is kept. Go on?"
        click.confirm(question, abort=True, err=True)
    with wishes.stopped(place, "its state is put back"):
        aside = snapshots.restore_into(place, chosen.resolve())
    if as_json:
        emit({"restored": chosen.name, "kept": str(aside)})
    else:
        tell(f"OpenClaw's state is that of {chosen.name}; what was there is in {aside}")
        tell("see that it works: outlast openclaw status")
    return 0
