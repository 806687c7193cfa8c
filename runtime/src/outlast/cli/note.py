"""``outlast note``: let a peer know something, without asking it for work."""

from __future__ import annotations

import secrets
import time

import click

from outlast.cli.common import Where, as_json, emit, fits, named
from outlast.cli.show import tell
from outlast.cli.talk import order
from outlast.core.ids import new_unit

__all__ = ["note"]

_LIMIT = 1024


@click.command()
@click.argument("peer")
@click.argument("text")
@as_json
@click.pass_obj
def note(where: Where, peer: str, text: str, as_json: bool) -> int:
    """Let PEER know TEXT.

    It goes into the journals of both nodes, where agents and people read it: `outlast note axiom "the backup disk is new"`.
    Once this says so, it will be there, in order, however long PEER sleeps; `outlast trace` follows it.
    """
    home, config = where.home, where.config
    named("PEER", peer, "see `outlast status` for the peers")
    fits("TEXT", text, _LIMIT, 'say what there is to know, such as "the backup disk is new"')
    unit = new_unit(config.node, time.time(), secrets.randbits(18))
    told = order(home, "note", {"unit": unit, "peer": peer, "text": text})
    if as_json:
        emit(told)
    else:
        tell(f"on its way to {peer} as {unit}")
    return 0
