"""``outlast merge-driver``: git calls it for the files that two nodes both wrote.

Rules kept here: the result is in the file that git named, and exit 0 says so; what could not be taken into it is kept, and
said on standard error; a file that is none of ours is left to git (exit 1).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import tell
from outlast.clock import SystemClock, stamp
from outlast.errors import BadInput, OutlastError
from outlast.store import durable
from outlast.store.merges import install, merge

__all__ = ["merge_driver"]


@click.command("merge-driver")
@click.argument("base", required=False)
@click.argument("ours", required=False)
@click.argument("theirs", required=False)
@click.argument("path", required=False)
@click.option("--install", "setup", is_flag=True, help="Tell the workspace's git repository of it; again is fine.")
@as_json
@click.pass_obj
def merge_driver(
    where: Where,
    base: str | None,
    ours: str | None,
    theirs: str | None,
    path: str | None,
    setup: bool,
    as_json: bool,
) -> int:
    """Merge what two nodes wrote into the same file, without conflict.

    Git calls it as a merge driver: BASE OURS THEIRS are its temporary files, PATH says which file they are versions of; the
    result is written to OURS. `outlast merge-driver --install` once, and `git pull` does the rest: STATE.json, QUEUE.md,
    HEARTBEAT.md, MEMORY.md, the daily files and what the nodes share.
    """
    if setup:
        done = install(where.home)
        if as_json:
            emit({"changed": done.changed, "told": done.told, "repository": done.repository})
        else:
            tell(done.told)
        return 0
    if base is None or ours is None or theirs is None or path is None:
        raise BadInput("usage", "BASE, OURS, THEIRS and PATH are all needed", "or use --install")
    try:
        merged = merge(path, *(Path(name).read_bytes() for name in (base, ours, theirs)))
    except BadInput as error:
        raise OutlastError(str(error)) from error
    for line in merged.told:
        tell(f"outlast: {line}", err=True)
    for data in merged.aside:
        tell(f"outlast: {path}: {_keep(where, Path(path).name, data)}", err=True)
    Path(ours).write_bytes(merged.data)
    if as_json:
        emit({"path": path, "told": merged.told})
    return 0


def _keep(where: Where, name: str, data: bytes) -> str:
    """Keep what was not taken. Returns where it is."""
    try:
        home = where.home
        os.umask(0o077)
        durable.make_dir(home.trash)
        kept = home.trash / f"{stamp(SystemClock().time())}-{secrets.token_hex(2)}-{name}"
        durable.replace(kept, data)
    except OutlastError:
        return "what was not taken is in the commits that were merged"
    return f"what was not taken is in {kept}"
