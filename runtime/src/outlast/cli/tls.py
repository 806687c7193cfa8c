"""``outlast keys tls``: the node's certificate.

Rules kept here: a private key is never printed. Left to others: the order of a renewal between nodes (the role ``keys``).
"""

from __future__ import annotations

import time

import click

from outlast.cli.common import Where, as_json, emit
from outlast.cli.show import tell
from outlast.clock import iso
from outlast.settings import Tls

__all__ = ["tls"]


@click.command()
@click.option(
    "--renew", is_flag=True, help="Make the next certificate now, not only when this one ends within 90 days."
)
@click.option("--use", metavar="PIN", help="Show the next certificate, with this pin, from the next start on.")
@as_json
@click.pass_obj
def tls(where: Where, renew: bool, use: str | None, as_json: bool) -> int:
    """Make the certificate that the node shows over TLS, and say its pin.

    Peers take no other certificate than the one that is pinned. For a new one, without a message refused: --renew, bring
    both pins to the peers, --use the new one, restart. `ansible-playbook site.yml -e outlast_tls_renew=true` does all of it.
    """
    from outlast.store import certificates

    config, folder = where.config, where.home.tls
    own = config.listen.tls or Tls()
    if use is not None:
        changed = certificates.use(folder, own, use)
        line = "it is shown from the next start on" if changed else "it is the one that is shown"
    else:
        changed = certificates.make(folder, own, config.node, time.time(), renew=renew)
        line = "made" if changed else "kept"
    shown = certificates.held(folder, own)
    if as_json:
        pins = [certificate.pin for certificate in shown]
        emit(
            {"changed": changed, "pin": pins[0] if pins else "", "pins": pins, "ends": [iso(one.ends) for one in shown]}
        )
    else:
        tell("\n".join([line, *(f"{one.pin}, until {iso(one.ends)[:10]}" for one in shown)]))
    return 0
