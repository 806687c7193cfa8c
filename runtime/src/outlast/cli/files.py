"""``outlast fetch``: what a peer has, and how it got here, for people and as JSON."""

from __future__ import annotations

import contextlib
import os

import click
import msgspec

from outlast.cli.show import table
from outlast.cli.talk import do
from outlast.clock import SystemClock
from outlast.core.ids import valid_unit
from outlast.core.record import one_line
from outlast.errors import BadInput, OutlastError
from outlast.files.fetch import artifacts_of, fetch
from outlast.home import Home
from outlast.settings import Config
from outlast.store.events import EventLog

__all__ = ["bring", "show"]


def bring(home: Home, config: Config, peer: str, unit: str, as_json: bool) -> int:
    """Fetch one artifact, and say where it is. Returns the exit code; raises OutlastError."""
    if not valid_unit(unit):
        raise BadInput(
            "UNIT", f"{one_line(unit, 60)!r} is no unit's name", f"see `outlast fetch {peer}` for those there are"
        )
    # As in the daemon: what is made is the node's alone, but for what an access list hands on.
    os.umask(0o077)
    found = fetch(home, config, peer, unit)
    if not found.already:
        events = EventLog(home.logs, config.node, SystemClock())
        events.emit("files.fetched", correlation_id=unit, peer=peer, files=found.files, bytes=found.bytes)
        # It is here, whole; what could not be written down is found by the next start.
        with contextlib.suppress(OutlastError):
            do(home, "fetched", {"unit": unit, "peer": peer})
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        how = "was here already, the same" if found.already else f"came from {peer}"
        files = "1 file" if found.files == 1 else f"{found.files} files"
        click.echo(f"{unit} {how}: {files}, {found.bytes} bytes, each with the SHA-256 of its manifest")
        click.echo(f"it is in workspace/artifacts/{unit}/")
    return 0


def show(home: Home, config: Config, peer: str, as_json: bool) -> int:
    """List a peer's newest artifacts. Returns the exit code; raises OutlastError."""
    found = artifacts_of(home, config, peer)
    if as_json:
        click.echo(msgspec.json.encode({"peer": peer, "artifacts": found}).decode())
        return 0
    if not found:
        click.echo(f"{peer} has no artifacts")
        return 0
    # It comes from another machine: nothing in it may drive this terminal.
    told = [
        [one_line(one.unit), one_line(one.ended), str(one.files), str(one.bytes), one_line(one.detail)] for one in found
    ]
    rows = [["unit", "ended", "files", "bytes", "detail"], *told]
    click.echo("\n".join(table(rows)))
    return 0
