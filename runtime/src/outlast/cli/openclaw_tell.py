"""``outlast openclaw tell``: hand a message to an agent of OpenClaw, as jobs do.

Rules kept here: one run of a job hands one message over once, however often it is tried. Left to others: handing over
(openclaw.turn).
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from hashlib import sha256

import click

from outlast.cli.common import Where, as_json, emit, fits
from outlast.cli.show import tell as show
from outlast.core.record import one_line
from outlast.errors import AgentError, BadInput, GatewayError, PeerError
from outlast.quantity import duration

__all__ = ["tell"]

_LIMIT = 65_536
_JOB = "OUTLAST_JOB"
# Whoever waits for an answer sees what is wrong sooner; a gateway that is started again is back in less.
_PATIENCE_S = 120.0


@click.command()
@click.argument("message")
@click.option("--agent", help="An agent of openclaw.json; else the one that the node feeds.")
@click.option("--no-wait", is_flag=True, help="Return once OpenClaw has taken it.")
@click.option("--key", help="A name for the message: the same name hands it over once.")
@as_json
@click.pass_obj
def tell(where: Where, message: str, agent: str | None, no_wait: bool, key: str | None, as_json: bool) -> int:
    """Hand MESSAGE to an agent of OpenClaw, and print its answer.

    It is a turn of its own, with nobody present. Within one run of a job the same message is handed over once. Exit code 0 when
    the turn is done, 1 when it failed or what became of it is not known, 3 when nobody took it. Ctrl-C ends the turn too. Works
    while the node is down, not while the gateway is.
    """
    from outlast.clock import SystemClock
    from outlast.openclaw import wishes
    from outlast.openclaw.place import place_of
    from outlast.openclaw.turn import Message, ended_by_signals, take_turn

    place = place_of(where.home, where.config)
    fits("MESSAGE", message, _LIMIT, 'say what there is to do, such as "sum up the mails of today"')
    whom = agent or place.settings.agent
    if re.fullmatch("[a-z0-9][a-z0-9_-]{0,63}", whom) is None:
        raise BadInput("--agent", "that is no agent's id", "name one of agents.entries in openclaw.json")
    within = duration(place.settings.turn_within)
    # A job waits for a gateway that is mended: its hour does not come again.
    patience = within if os.environ.get(_JOB) else _PATIENCE_S
    there = wishes.launched(place)
    if there is not None and there.phase == "stopped" and not os.environ.get(_JOB):
        raise PeerError(f"openclaw: its gateway is stopped ({one_line(there.reason, 200)}); outlast openclaw start")
    meant = Message(_unit(key, whom, message), whom, message, within, patience)
    try:
        ending = asyncio.run(ended_by_signals(lambda: take_turn(place, meant, SystemClock(), wait=not no_wait)))
    except asyncio.CancelledError:
        raise AgentError("the turn was ended before it was done") from None
    except GatewayError as error:
        raise PeerError(str(error)) from None
    if as_json:
        emit({"unit": meant.unit, "agent": whom, "ended": ending.what, "why": ending.why, "answer": ending.answer})
    elif not ending.what:
        show(f"{whom} has it as {meant.unit}")
    elif ending.what == "done":
        show(ending.answer or f"{whom} is done, without a reply")
    else:
        show(f"outlast: {'in doubt: ' if ending.what == 'in doubt' else ''}{ending.why}", err=True)
    return 0 if ending.what in {"", "done"} else 1


def _unit(key: str | None, agent: str, message: str) -> str:
    """What the message is called: by who tells it, in one run of a job by that run, else by nothing that comes again."""
    from outlast.work.marks import RUN

    if key is not None and re.fullmatch("[a-z0-9-]{1,40}", key) is None:
        raise BadInput("--key", "it is no name", "use a-z, 0-9 and -, at most 40 of them")
    if key is not None:
        return f"tell-{key}"
    # Other things that the node starts are marked too, and no run of a job: agents have the gateway's mark in their shell.
    run = (os.environ.get(RUN) if os.environ.get(_JOB) else None) or secrets.token_hex(16)
    return f"tell-{sha256(chr(0).join((run, agent, message)).encode()).hexdigest()[:16]}"
