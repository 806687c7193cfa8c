"""``outlast dashboard``: where the page is that shows the nodes."""

from __future__ import annotations

import socket
import sys

import click

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import tell
from outlast.cli.talk import NotRunning, order
from outlast.core.onlooker import is_loopback, url_of
from outlast.errors import BadInput
from outlast.store import pagetoken

__all__ = ["dashboard"]


@click.command()
@click.option(
    "--with-token", is_flag=True, help="With the token that is asked for from beyond loopback; to a terminal only."
)
@as_json
@click.pass_obj
def dashboard(where: Where, with_token: bool, as_json: bool) -> int:
    """Say where the page is that shows the nodes.

    It is served by the node itself, to this machine alone unless the inventory says otherwise (outlast_dashboard). From
    another machine: `ssh -L 18901:127.0.0.1:18901 HOST`, and open it there. Exit code 1 where there is none, 3 while the node
    is not running.
    """
    home, config = where.home, where.config
    url = url_of(config, socket.gethostname())
    if with_token and (as_json or not sys.stdout.isatty()):
        raise BadInput(
            "--with-token", "a token is not written into files and pipes", "type it in a terminal, without --json"
        )
    if with_token and not is_loopback(config.dashboard.host):
        url = f"{url}?token={pagetoken.read(home.dashboard_token)}"
    try:
        told = order(home, "status")["dashboard"]
        state = str(told.get("state") or told.get("error"))
        code = 0 if state == "up" else 1
    except NotRunning as error:
        state, code = str(error), 3
    if as_json:
        emit({"node": config.node, "url": url, "state": "not running" if code == 3 else state})
    elif config.dashboard.enabled:
        tell(url)
        if code:
            tell(f"outlast: it is not there: {state}", err=True)
    else:
        tell(f"outlast: {config.node} has none: outlast_dashboard says enabled: false", err=True)
    return code
